#!/usr/bin/env python3
"""Plays a client of the cache: stores results of actions and asks for them, over gRPC.

    tests/e2e/grpc_calls.py HOST:PORT KEPT LOST

Stores KEPT actions with one output each, asks for each of them twice, and asks for LOST that were
never stored. Prints the digest of the first output. Needs curl with HTTP/2 and nothing else: the
few messages are encoded here by hand.
"""

import base64
import hashlib
import random
import subprocess
import sys

SERVICES = "/build.bazel.remote.execution.v2."
METADATA = "build.bazel.remote.execution.v2.requestmetadata-bin"


def varint(value):
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def field(number, value):
    """One field of a message: a number, or bytes, or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def digest(data):
    return field(1, hashlib.sha256(data).hexdigest()) + field(2, len(data))


def call(address, method, message, tool, expected):
    """Calls a method and requires a status."""
    metadata = base64.b64encode(field(1, field(1, tool) + field(2, "1.0"))).decode().rstrip("=")
    command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "20"]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    command += ["--header", f"{METADATA}: {metadata}", "--data-binary", "@-"]
    command += ["--output", "/dev/null", "--dump-header", "-", f"http://{address}{method}"]
    body = b"\0" + len(message).to_bytes(4, "big") + message
    headers = subprocess.run(command, input=body, check=True, capture_output=True).stdout.decode()
    if f"grpc-status: {expected}" not in headers.splitlines():
        sys.exit(f"{method}: expected status {expected}, got {headers}")


def main():
    address, kept, lost = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    made = random.Random(1)
    first = ""
    for number in range(kept + lost):
        # A name that a careless page would run.
        tool = ["bazel", "buck2", "<script>document.title='run'</script>"][number % 3]
        instance = ["", "main", "<img src=x onerror=alert(1)>"][number % 3]
        action = digest(f"action {number}".encode())
        get = field(1, instance) + field(2, action)
        if number >= kept:
            call(address, SERVICES + "ActionCache/GetActionResult", get, tool, 5)
            continue
        output = made.randbytes(made.randrange(1000, 300_000))
        first = first or f"{hashlib.sha256(output).hexdigest()}/{len(output)}"
        upload = field(1, instance) + field(2, field(1, digest(output)) + field(2, output))
        call(address, SERVICES + "ContentAddressableStorage/BatchUpdateBlobs", upload, tool, 0)
        result = field(2, field(1, "out") + field(2, digest(output)))
        update = field(1, instance) + field(2, action) + field(3, result)
        call(address, SERVICES + "ActionCache/UpdateActionResult", update, tool, 0)
        for _ in range(2):
            call(address, SERVICES + "ActionCache/GetActionResult", get, tool, 0)
    print(first)


main()
