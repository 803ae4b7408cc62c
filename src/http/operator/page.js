// What the page shows, and when it asks.

const REFRESH_MS = 5000;
const PARTS = [
  ["Blobs", "blobs", (store) => store.blobs.charged_bytes, (store) => store.blobs.entries],
  ["Executable variants", "variants", (store) => store.variants.charged_bytes,
    (store) => store.variants.entries],
  ["Action results", "results", (store) => store.action_results.charged_bytes,
    (store) => store.action_results.entries],
  ["Values", "values", (store) => store.values.charged_bytes, (store) => store.values.entries],
  ["Reserved for uploads", "reserved", (store) => store.reserved_bytes, () => null],
  ["Leaving", "dying", (store) => store.dying_bytes, () => null],
  ["Directories, own files", "overhead", (store) => store.overhead_bytes, () => null],
  ["Not read yet, at most", "unread", (store) => store.unread_bytes, () => null],
];
const KINDS = { blob: "blob", action_result: "action result", value: "value" };
const REASONS = {
  evicted: "evicted to make room", expired: "not used for too long",
  over_count: "more entries than the limit", purged: "purged", replaced: "replaced by a later one",
  corrupt: "corrupt", missing: "deleted by somebody else",
};
const TROUBLE = {
  leases_broken: "promises to builds broken: they held too much of the cache",
  lease_refusals: "writes refused for promises to builds", reserve_timeouts: "uploads out of room",
  full_disks: "writes that met a full disk", sync_failures: "syncs that failed",
  unlink_failures: "deletions that failed", foreign_files: "files that are not the store's",
  former_files_dropped: "files of another server that were not what they claimed to be",
  former_files_left: "files of another server that could not be taken over",
  ledger_errors: "errors in the books",
};
const PERIODS = {
  last_10_minutes: "10 min", last_hour: "hour", last_day: "day", last_7_days: "7 days",
  since_start: "since start",
};
const AGES = { 3600: "under 1 hour", 21600: "1 to 6 hours", 86400: "6 to 24 hours",
  604800: "1 to 7 days", 2592000: "7 to 30 days" };

let shownSpan = "hour";
let latest = null;
let answeredAt = null;
let questions = 0;

function inside(id) {
  return byId(id).querySelector("div");
}

function sum(stores, get) {
  return stores.reduce((total, store) => total + get(store), 0);
}

function storeFill(store, isOnly) {
  const known = PARTS.map(([label, className, size, count]) =>
    ({ label, className, size: size(store), count: count(store) }));
  const bar = make("div", "bar");
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `${percent(store.fill_ratio)} full`);
  const legend = make("div", "legend");
  const show = (label, className, value) => legend.append(make("div", "",
    make("span", `dot ${className}`), make("span", "", label), make("span", "value", value)));
  for (const { label, className, size, count } of known) {
    const part = make("span", className);
    part.style.width = `${((size / store.max_bytes) * 100).toFixed(3)}%`;
    part.title = `${label}: ${bytes(size)}`;
    if (size > 0) bar.append(part);
    if (size > 0 || count !== null) {
      show(label, className, count === null ? bytes(size) : `${bytes(size)} (${whole(count)})`);
    }
  }
  show("Free", "free", bytes(Math.max(0, store.limit_bytes - store.used_bytes)));
  const words = isOnly ? fullWords(store.used_bytes, store.max_bytes) : make("h3", "",
    `${store.name}: ${percent(store.fill_ratio)} full, `
    + `${bytes(store.used_bytes)} of ${bytes(store.max_bytes)}`);
  const facts = [`Promised to running builds: ${bytes(store.leased_bytes)}.`];
  if (store.oldest_unused_seconds !== null) {
    facts.push(`The next to go was last used ${span(store.oldest_unused_seconds)} ago.`);
  }
  if (store.waiting_uploads > 0) {
    facts.push(`${many(store.waiting_uploads, "upload waits", "uploads wait")} for room.`);
  }
  return [words, bar, legend, make("p", "dim small", facts.join(" "))];
}

function fullWords(used, most) {
  return make("p", "big", percent(used / Math.max(1, most)), " ",
    make("small", "dim", `full: ${bytes(used)} of ${bytes(most)}`));
}

function showStores({ stores }) {
  const parts = stores.flatMap((store) => storeFill(store, stores.length === 1));
  if (stores.length > 1) {
    parts.unshift(fullWords(sum(stores, (store) => store.used_bytes),
      sum(stores, (store) => store.max_bytes)));
  }
  const chart = byId("stores").querySelector(".chart") ?? make("div", "chart");
  const rest = byId("stores").firstElementChild ?? make("div", "");
  if (!rest.isConnected) byId("stores").append(rest, chart);
  fill(rest, ...parts);
}

function showTrouble({ state, stores }) {
  const texts = [];
  if (state !== "serving") texts.push("The server is draining: it takes no new work.");
  for (const store of stores) {
    const { trouble } = store;
    if (store.limit_bytes < store.max_bytes) {
      texts.push(`The disk has room for ${bytes(store.limit_bytes)} only.`);
    }
    if (store.unread_shards > 0) {
      const count = many(store.unread_shards, "directory is", "directories are");
      texts.push(`${count} still being read.`);
    }
    if (trouble.sync_failures > 0) texts.push("The disk has failed to sync: see the log.");
    if (trouble.ledger_errors > 0) texts.push("The books do not add up: please report this.");
  }
  byId("trouble").hidden = texts.length === 0;
  byId("trouble").textContent = texts.join(" ");
}

function showHits({ hits }) {
  const span = shownSpan === "hour" ? "last_hour" : "last_7_days";
  const { action_cache: results } = hits[span];
  const lookups = results.hits + results.misses;
  byId("hit-ratio").textContent = percent(results.ratio);
  const period = shownSpan === "hour" ? "the last hour" : "the last 7 days";
  byId("hit-words").textContent = lookups === 0
    ? `no lookups in the action cache in ${period}`
    : `of ${many(lookups, "lookup", "lookups")} in the action cache in ${period}`;
  const cell = ({ hits: found, misses, ratio }) => {
    const text = make("span", "", percent(ratio));
    text.title = `${whole(found)} hits, ${whole(misses)} misses`;
    return text;
  };
  const rows = Object.entries(hits).map(([name, of]) =>
    [PERIODS[name] ?? name, cell(of.action_cache), cell(of.blob_reads), cell(of.presence)]);
  const columns = ["", "#actions", "#blob reads", "#uploads spared"];
  fill(byId("hit-table"), ...table(columns, rows).childNodes);
}

function showPredictions({ stores }) {
  const parts = [];
  for (const store of stores) {
    const points = store.predicted_hit_ratios;
    if (stores.length > 1) parts.push(make("h3", "", store.name));
    if (!points) {
      parts.push(none("Not known yet: more has to be asked for first."));
      continue;
    }
    parts.push(meters(points.map(({ factor, bytes: size, ratio }) => [
      `${bytes(size)} (${factor}x)`, percent(ratio), ratio ?? 0, factor === 1 ? "now" : ""])));
  }
  parts.push(make("p", "dim", "An estimate: how many of the same "
    + "requests for blobs and results a cache of this size would have answered."));
  fill(inside("predicted"), ...parts);
}

function showRemovals({ stores }) {
  const rows = Object.entries(REASONS).map(([name, words]) =>
    [words, whole(sum(stores, (store) => store.removals[name]))]);
  const place = inside("removals");
  const chart = place.querySelector(".chart") ?? make("div", "chart");
  const rest = place.firstElementChild ?? make("div", "");
  if (!rest.isConnected) place.append(rest, chart);
  const counts = table(["since the start", "#"], rows);
  counts.querySelectorAll("tr").forEach((row) => {
    row.classList.toggle("zero", row.lastChild.textContent === "0");
  });
  fill(rest, counts);
}

function showAges({ stores }) {
  const [first] = stores;
  if (!first) return;
  const total = Math.max(1, sum(stores, (store) => sum(store.by_age, (it) => it.charged_bytes)));
  fill(inside("ages"), meters(first.by_age.map(({ under_seconds: under }, at) => {
    const size = sum(stores, (store) => store.by_age[at].charged_bytes);
    const label = under === null ? "longer ago" : AGES[under] ?? `under ${span(under)}`;
    return [label, bytes(size), size / total];
  })));
}

function showNames(id, rows, missing) {
  const most = Math.max(1, ...rows.map(({ requests }) => requests));
  fill(inside(id), rows.length === 0 ? none(missing) : meters(rows.map(({ name, requests }) =>
    [name === "" ? "(no name)" : name, whole(requests), requests / most])));
}

function showErrors({ errors, stores, now }) {
  const counts = Object.entries(TROUBLE)
    .map(([name, words]) => [words, sum(stores, (store) => store.trouble[name])])
    .filter(([, count]) => count > 0)
    .map(([words, count]) => [words, whole(count)]);
  const lines = errors.slice(0, 8).map((error) => make("div", "error",
    make("span", `level ${error.level === "ERROR" ? "ERROR" : ""}`, error.level),
    make("span", "dim", ` ${span(Math.max(0, now - error.at))} ago, ${error.target}: `),
    error.message, " ", make("span", "dim", error.fields)));
  if (lines.length === 0) lines.push(none("No warnings and no errors."));
  if (counts.length > 0) lines.push(table(["since the start", "#"], counts));
  fill(inside("errors"), ...lines);
}

function showLargest({ stores }) {
  const all = stores.flatMap((store) => store.largest);
  all.sort((one, other) => other.charged_bytes - one.charged_bytes);
  const rows = all.slice(0, 10).map((value) => {
    const name = digestOf(value);
    const link = make("button", "link mono", name);
    link.type = "button";
    link.dataset.digest = name;
    return [link, KINDS[value.kind], bytes(value.charged_bytes)];
  });
  const place = inside("largest");
  const columns = ["digest", "kind", "#takes"];
  fill(place, rows.length === 0 ? none("Nothing is stored yet.") : table(columns, rows));
}

// Stores in memory, upstreams, stores before stores: what each counts, but for zeros.
function showOthers({ other_stores: others }) {
  byId("others").hidden = others.length === 0;
  const rows = others.map(({ name, kind, numbers }) => {
    const words = Object.entries(numbers).filter(([, value]) => value !== 0).map(([of, value]) =>
      `${of.replaceAll("_", " ")} ${of.endsWith("bytes") ? bytes(value) : whole(value)}`);
    return [name, kind, words.join(", ")];
  });
  fill(inside("others"), table(["store", "kind", "counts"], rows));
}

// As clients print it: without the function that is meant where none is said.
function digestOf({ function: name, hash, size_bytes: size }) {
  const digest = size === null ? hash : `${hash}/${size}`;
  return name === "sha256" ? digest : `${name}/${digest}`;
}

function valueWords(value) {
  const noun = KINDS[value.kind];
  return value.is_variant ? `executable variant of ${noun}` : noun;
}

function fileLine(file) {
  const facts = [`${bytes(file.actual_bytes)} on disk`];
  if (file.unused_seconds !== null) facts.push(`last used ${span(file.unused_seconds)} ago`);
  if (file.is_leased) facts.push("promised to a running build");
  if (file.is_pinned) facts.push("in use right now");
  if (file.actual_bytes !== file.expected_bytes) {
    facts.push(`damaged: it should have ${bytes(file.expected_bytes)}`);
  }
  return make("li", "", `${valueWords(file)} `, make("code", "", digestOf(file)),
    `: ${facts.join(", ")}`);
}

function removalLine(removal) {
  const facts = [`${removal.reason}, ${span(removal.seconds_ago)} ago (${removal.removed_at_utc})`];
  if (removal.unused_seconds !== null) {
    facts.push(`last used ${span(removal.unused_seconds)} before`);
  }
  if (removal.age_seconds !== null) facts.push(`written ${span(removal.age_seconds)} before`);
  return make("li", "", `${valueWords(removal)} `, make("code", "", digestOf(removal)),
    `: ${facts.join("; ")}`);
}

function answerWords(answer) {
  const line = (kind, badge, text) => make("p", "", make("span", `badge ${kind}`, badge), text);
  const list = (rows) => make("ul", "", ...rows);
  switch (answer.status) {
    case "present":
      return [line("good", "present", "It is here."), list(answer.files.map(fileLine)),
        ...(answer.removals.length === 0 ? [] : [make("p", "dim", "Before, it went:"),
          list(answer.removals.slice(0, 3).map(removalLine))])];
    case "empty":
      return [line("good", "present", "The empty blob is always there and never stored.")];
    case "removed":
      return [line("bad", "gone", "It was here and went:"),
        list(answer.removals.slice(0, 5).map(removalLine))];
    default:
      return [line("warn", "not known", "It was never stored here, or it went longer ago than is "
        + `remembered (${many(answer.remembered, "removal is", "removals are")}).`)];
  }
}

async function ask(url) {
  const response = await fetch(url, { headers: { accept: "application/json" } });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `status ${response.status}`);
  return answer;
}

async function askWhy(digest) {
  questions += 1;
  const question = questions;
  byId("why-digest").value = digest;
  let words;
  try {
    words = answerWords(await ask(`status/why?digest=${encodeURIComponent(digest)}`));
  } catch (error) {
    words = [make("p", "", make("span", "badge warn", "no answer"), error.message)];
  }
  // Of two questions the later one counts, whichever is answered last.
  if (question === questions) fill(byId("why-answer"), ...words);
}

function draw() {
  if (!latest) return;
  const { status, history } = latest;
  const about = `${status.version}, up ${span(status.uptime_seconds)}`;
  byId("state").textContent = status.state;
  byId("state").className = `badge ${status.state === "serving" ? "good" : "bad"}`;
  byId("about").textContent = about;
  showTrouble(status);
  showStores(status);
  showHits(status);
  showPredictions(status);
  showRemovals(status);
  showAges(status);
  showNames("tools", status.tools, "No requests yet.");
  showNames("instances", status.instances, "No requests yet.");
  showErrors(status);
  showLargest(status);
  showOthers(status);
  const most = Math.max(1, sum(status.stores, (store) => store.max_bytes));
  fillChart(byId("stores").querySelector(".chart"), history, shownSpan, status.now, most);
  hitChart(byId("hit-chart"), history, shownSpan, status.now);
  evictionChart(byId("removals").querySelector(".chart"), history, shownSpan, status.now);
}

async function refresh() {
  try {
    const [status, history] = await Promise.all([ask("status"), ask("status/history")]);
    latest = { status, history };
    answeredAt = Date.now() / 1000;
    draw();
    byId("fresh").textContent = `as of ${new Date().toLocaleTimeString()}`;
    document.body.dataset.drawn = "yes";
  } catch (error) {
    const since = answeredAt === null ? "" : ` since ${moment(answeredAt)}`;
    byId("fresh").textContent = `no answer${since}: ${error.message}`;
  }
}

function start() {
  for (const button of document.querySelectorAll(".switch button")) {
    button.addEventListener("click", () => {
      shownSpan = button.dataset.span;
      for (const other of document.querySelectorAll(".switch button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      draw();
    });
  }
  const look = (digest) => {
    history.replaceState(null, "", `?digest=${encodeURIComponent(digest)}`);
    askWhy(digest);
  };
  byId("why-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look(byId("why-digest").value.trim());
  });
  byId("largest").addEventListener("click", (event) => {
    const { digest } = event.target.dataset;
    if (!digest) return;
    look(digest);
    byId("why").scrollIntoView();
  });
  window.addEventListener("resize", draw);
  const asked = new URLSearchParams(location.search).get("digest");
  if (asked) askWhy(asked.trim());
  refresh();
  // A page that nobody looks at asks nothing.
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
}

start();
