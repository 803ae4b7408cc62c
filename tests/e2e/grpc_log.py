#!/usr/bin/env python3
"""Reads Bazel's --experimental_remote_grpc_log.

    grpc_log.py stored LOG    the results that UpdateActionResult calls stored
    grpc_log.py found LOG     the results that GetActionResult calls were given
    grpc_log.py uploads LOG   the size in bytes of every ByteStream upload

A result is printed as one line per output: action, f or d, mode, path, digest. Bazel makes every
output executable on disk, so this is the only place where the executable bit can be compared. A
directory's bits are in its Tree message, whose digest is compared.

Python, because Debian's Bazel depends on it; and by hand, because protobuf's runtime is not there.
"""

import sys


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    """The fields of one message: number to the list of its values."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[kind]
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def message(parent, number):
    return fields(parent.get(number, [b""])[-1])


def text(parent, number):
    return parent.get(number, [b""])[-1].decode()


def digest(parent, number):
    value = message(parent, number)
    return "%s/%d" % (text(value, 1), value.get(2, [0])[-1])


def entries(path):
    with open(path, "rb") as log:
        data = log.read()
    at = 0
    while at < len(data):
        size, at = varint(data, at)
        yield fields(data[at : at + size])
        at += size


def outputs(action, result):
    """Field numbers are those of REAPI's ActionResult."""
    yield "%s exit %d" % (action, result.get(4, [0])[-1])
    for raw in result.get(2, []):
        file = fields(raw)
        mode = "x" if file.get(4, [0])[-1] else "-"
        yield "%s f %s %s %s" % (action, mode, text(file, 1), digest(file, 2))
    for raw in result.get(3, []):
        directory = fields(raw)
        yield "%s d - %s %s" % (action, text(directory, 1), digest(directory, 3))


def lines(what, entry):
    """Field numbers are those of Bazel's remote_execution_log.proto."""
    method = text(entry, 3)
    details = message(entry, 4)
    failed = message(entry, 2).get(1, [0])[-1] != 0
    if what == "uploads" and method.endswith("ByteStream/Write"):
        yield str(message(details, 6).get(3, [0])[-1])
    if what == "stored" and method.endswith("/UpdateActionResult"):
        request = message(message(details, 13), 1)
        yield from outputs(digest(request, 2), message(request, 3))
    if what == "found" and method.endswith("/GetActionResult") and not failed:
        call = message(details, 8)
        yield from outputs(digest(message(call, 1), 2), message(call, 2))


def main():
    what, path = sys.argv[1:]
    for line in sorted({line for entry in entries(path) for line in lines(what, entry)}
                       if what != "uploads"
                       else [line for entry in entries(path) for line in lines(what, entry)]):
        print(line)


main()
