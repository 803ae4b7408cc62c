"use strict";
// Numbers for people, and elements. Whatever comes from the server becomes text, never markup.

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

function bytes(count) {
  if (count < 1024) return `${count} B`;
  let value = count / 1024;
  let unit = 0;
  // What would be printed as 1024 is one of the next unit.
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${UNITS[unit]}`;
}

function whole(count) {
  return count.toLocaleString("en-US");
}

function many(count, one, more) {
  return `${whole(count)} ${count === 1 ? one : more}`;
}

function percent(ratio) {
  return ratio === null || ratio === undefined ? "\u2013" : `${(ratio * 100).toFixed(1)} %`;
}

function span(seconds) {
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (days > 0) return `${days}d ${hours % 24}h`;
  if (hours > 0) return `${hours}h ${minutes % 60}min`;
  if (minutes > 0) return `${minutes}min ${Math.floor(seconds % 60)}s`;
  return `${Math.floor(seconds)}s`;
}

// The time of day for today, with the date else; the viewer's own time.
function moment(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}

function byId(id) {
  return document.getElementById(id);
}

// An element with a class, and children that are elements or texts.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null));
  return element;
}

function drawing(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Puts children in the place of what was there, unless it is the same: what somebody has
// selected stays selected.
function fill(element, ...children) {
  const fresh = make("div", "", ...children);
  if (fresh.innerHTML !== element.innerHTML) element.replaceChildren(...fresh.childNodes);
}

function none(text) {
  return make("p", "none", text);
}

// A table; columns whose name begins with # hold numbers.
function table(columns, rows) {
  const kind = (at) => (columns[at].startsWith("#") ? "number" : "name");
  const heads = columns.map((name, at) => make("th", kind(at), name.replace("#", "")));
  const lines = rows.map((cells) =>
    make("tr", "", ...cells.map((cell, at) => make("td", kind(at), cell))));
  return make("table", "", make("tr", "", ...heads), ...lines);
}

// Bars below each other: [label, value as text, part of one, class].
function meters(rows) {
  const bars = rows.map(([label, value, part, className]) => {
    const bar = make("span", "");
    bar.style.width = `${Math.min(100, Math.max(0, part * 100)).toFixed(1)}%`;
    return make("div", className ?? "", make("span", "", label),
      make("span", "value", value), make("div", "track", bar));
  });
  return make("div", "meter", ...bars);
}
