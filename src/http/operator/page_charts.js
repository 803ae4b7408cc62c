// Charts over time, drawn for the width that there is.

const HEIGHT = 110;
const LEFT = 38;
const FOOT = 18;
const BINS = { hour: 60, week: 84 };
const SPANS = { hour: 3600, week: 7 * 86400 };
const AGO = { hour: ["1 hour ago", "30 min"], week: ["7 days ago", "3.5 days"] };

// Sums the columns of a history over bins of equal time, the last one ending now.
function binned(history, shown, now, columns) {
  const count = BINS[shown];
  const width = SPANS[shown] / count;
  const start = now - SPANS[shown];
  const bins = Array.from({ length: count }, (_, at) => ({ from: start + at * width, seen: 0 }));
  for (const bin of bins) for (const name of columns) bin[name] = 0;
  history[shown].at.forEach((at, row) => {
    const bin = bins[Math.min(count - 1, Math.ceil((at - start) / width) - 1)];
    if (!bin) return;
    bin.seen += 1;
    for (const name of columns) bin[name] += history[shown][name][row];
  });
  return bins;
}

function frame(place, shown, label, ticks) {
  const width = Math.max(220, place.clientWidth || 220);
  const svg = drawing("svg", {
    viewBox: `0 0 ${width} ${HEIGHT + FOOT}`, height: HEIGHT + FOOT, role: "img",
    "aria-label": label,
  });
  for (const [part, text] of ticks) {
    const y = HEIGHT - part * (HEIGHT - 8);
    svg.append(
      drawing("line", { class: "grid", x1: LEFT, x2: width, y1: y, y2: y }),
      drawing("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, text));
  }
  const [begin, middle] = AGO[shown];
  const y = HEIGHT + 14;
  svg.append(
    drawing("text", { x: LEFT, y }, begin),
    drawing("text", { x: (LEFT + width) / 2, y, "text-anchor": "middle" }, middle),
    drawing("text", { x: width, y, "text-anchor": "end" }, "now"));
  return { svg, width };
}

function hitChart(place, history, shown, now) {
  const names = ["action_cache_hits", "action_cache_misses"];
  const bins = binned(history, shown, now, names);
  const lookups = bins.map((bin) => bin.action_cache_hits + bin.action_cache_misses);
  const most = Math.max(...lookups, 1);
  const ticks = [[0, "0 %"], [0.5, "50 %"], [1, "100 %"]];
  const { svg, width } = frame(place, shown, "Hit ratio of the action cache over time", ticks);
  const step = (width - LEFT) / bins.length;
  const x = (at) => LEFT + (at + 0.5) * step;
  const y = (part) => HEIGHT - part * (HEIGHT - 8);
  let path = "";
  bins.forEach((bin, at) => {
    if (lookups[at] === 0) return;
    const part = bin.action_cache_hits / lookups[at];
    const height = Math.max(2, (lookups[at] / most) * (HEIGHT - 8) * 0.5);
    const count = many(lookups[at], "lookup", "lookups");
    const words = `${moment(bin.from)}: ${percent(part)} of ${count}`;
    const title = () => drawing("title", {}, words);
    svg.append(drawing("rect", {
      class: "volume", x: x(at) - step * 0.4, width: step * 0.8, y: HEIGHT - height, height,
    }, title()));
    const isJoined = at > 0 && lookups[at - 1] > 0;
    path += `${isJoined ? "L" : "M"}${x(at).toFixed(1)} ${y(part).toFixed(1)}`;
    svg.append(drawing("circle", { class: "point", cx: x(at), cy: y(part), r: 3 }, title()));
  });
  if (path) svg.append(drawing("path", { class: "line", d: path }));
  fill(place, svg);
}

// How full over time, as a part of what is allowed.
function fillChart(place, history, shown, now, maxBytes) {
  const { at, used_bytes: used } = history[shown];
  const ticks = [[0, "0"], [0.5, "50 %"], [1, "100 %"]];
  const { svg, width } = frame(place, shown, "Fill level over time", ticks);
  const x = (time) => LEFT + Math.max(0, 1 - (now - time) / SPANS[shown]) * (width - LEFT);
  const y = (count) => HEIGHT - Math.min(1, count / maxBytes) * (HEIGHT - 8);
  const points = at.map((time, row) => `${x(time).toFixed(1)} ${y(used[row]).toFixed(1)}`);
  if (points.length > 0) {
    const line = `M${points.join("L")}`;
    const [first, last] = [x(at[0]), x(at[at.length - 1])];
    svg.append(
      drawing("path", { class: "area", d: `${line}L${last} ${HEIGHT}L${first} ${HEIGHT}Z` }),
      drawing("path", { class: "line", d: line }));
  }
  fill(place, svg);
}

function evictionChart(place, history, shown, now) {
  const bins = binned(history, shown, now, ["evictions"]);
  const most = Math.max(...bins.map((bin) => bin.evictions));
  if (most === 0) {
    fill(place, none(`Nothing was evicted in the last ${shown === "hour" ? "hour" : "7 days"}.`));
    return;
  }
  const { svg, width } = frame(place, shown, "Evictions over time", [[0, "0"], [1, whole(most)]]);
  const step = (width - LEFT) / bins.length;
  bins.forEach((bin, at) => {
    if (bin.evictions === 0) return;
    const height = Math.max(2, (bin.evictions / most) * (HEIGHT - 8));
    const words = `${moment(bin.from)}: ${whole(bin.evictions)}`;
    svg.append(drawing("rect", {
      class: "lost", x: LEFT + at * step, width: Math.max(1, step - 1), y: HEIGHT - height, height,
    }, drawing("title", {}, words)));
  });
  fill(place, svg);
}
