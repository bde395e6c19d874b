// Latency and calls over time, with a marker for each reload. Latency has a logarithmic scale: a
// pause of a few milliseconds and a call of a tenth of one are both to be seen.

import { h, svg } from "./dom.js";
import { clock, count, duration, endOf, headline, rate } from "./format.js";
import { model, startOf } from "./model.js";

const LEFT = 46;
const RIGHT = 8;
const TOP = 22;
const LATENCY_HEIGHT = 128;
const GAP = 22;
const RATE_HEIGHT = 44;
const BOTTOM = 20;
const LABEL_WIDTH = 66;
const LETTER = 6.4; // of a marker's name
const SPARK_MIN = 8; // fewer look like a speck
const LOWEST_S = 0.00001;

// Args: from and to in Unix seconds, width in pixels, and whether markers carry names.
export function trafficChart(from, to, width, { named }) {
  const ticks = ticksBetween(from, to);
  const x = (unix) => LEFT + ((unix - from) / (to - from)) * (width - LEFT - RIGHT);
  const height = TOP + LATENCY_HEIGHT + GAP + RATE_HEIGHT + BOTTOM;
  const reloads = model.history.filter((one) => startOf(one) + one.total_s > from && startOf(one) < to);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": describe(ticks, reloads) });
  drawing.append(...markers(reloads, x, from, to, named), ...latency(ticks, x), ...rates(ticks, x), ...axis(from, to, x, height));
  return drawing;
}

function ticksBetween(from, to) {
  const found = [];
  for (let number = Math.ceil(from / model.tickS); number * model.tickS < to; number += 1) {
    found.push(model.ticks.get(number) || { number, calls: 0, failed: 0, typical_s: 0, longest_s: 0 });
  }
  return found;
}

function describe(ticks, reloads) {
  const calls = ticks.reduce((sum, one) => sum + one.calls, 0);
  if (!calls) return `No calls over HTTP, ${reloads.length} reloads`;
  const longest = Math.max(...ticks.map((one) => one.longest_s));
  return `${count(calls)} calls over HTTP, the longest ${duration(longest)}, ${reloads.length} reloads`;
}

function latency(ticks, x) {
  const highest = Math.max(0.1, ...ticks.map((one) => one.longest_s)) * 1.3;
  const span = Math.log(highest / LOWEST_S);
  const base = TOP + LATENCY_HEIGHT;
  const y = (seconds) => base - (Math.log(Math.max(seconds, LOWEST_S) / LOWEST_S) / span) * LATENCY_HEIGHT;
  const nodes = [];
  for (let line = LOWEST_S * 10; line < highest; line *= 10) {
    nodes.push(svg("line", { class: "grid", x1: LEFT, x2: "100%", y1: y(line), y2: y(line) }));
    nodes.push(svg("text", { class: "label end", x: LEFT - 6, y: y(line) + 4 }, duration(line)));
  }
  const width = Math.max(1, x(model.tickS) - x(0) - 1);
  let typical = "";
  for (const tick of ticks) {
    if (!tick.calls) continue;
    const at = x(tick.number * model.tickS);
    const top = y(tick.longest_s);
    nodes.push(svg("rect", { class: tick.failed ? "longest failed" : "longest", x: at, y: top, width, height: Math.max(1, base - top) },
      svg("title", {}, `${clock(tick.number * model.tickS)}: ${tick.calls} calls, typical ${duration(tick.typical_s)}, longest ${duration(tick.longest_s)}${tick.failed ? `, ${tick.failed} failed` : ""}`)));
    typical += `M${at.toFixed(1)} ${y(tick.typical_s).toFixed(1)}h${(width + 1).toFixed(1)}`;
  }
  if (typical) nodes.push(svg("path", { class: "typical", d: typical }));
  return nodes;
}

function rates(ticks, x) {
  const base = TOP + LATENCY_HEIGHT + GAP + RATE_HEIGHT;
  const highest = Math.max(1, ...ticks.map((one) => one.calls / model.tickS));
  let line = "";
  for (const tick of ticks) {
    const y = base - (tick.calls / model.tickS / highest) * RATE_HEIGHT;
    line += `L${x(tick.number * model.tickS).toFixed(1)} ${y.toFixed(1)}`;
  }
  const nodes = [svg("text", { class: "label end", x: LEFT - 6, y: base - RATE_HEIGHT + 8 }, rate(highest)),
    svg("text", { class: "label end", x: LEFT - 6, y: base }, "0/s")];
  if (line) {
    const first = x(ticks[0].number * model.tickS).toFixed(1);
    const last = x(ticks.at(-1).number * model.tickS).toFixed(1);
    nodes.push(svg("path", { class: "rate", d: `M${first} ${base}${line}L${last} ${base}Z` }));
  }
  return nodes;
}

function markers(reloads, x, from, to, named) {
  const nodes = [];
  const bottom = TOP + LATENCY_HEIGHT + GAP + RATE_HEIGHT;
  let free = x(to); // newest first: what is left of the line above, seen from the right
  reloads.forEach((report, index) => {
    const start = x(Math.max(from, startOf(report)));
    const end = x(Math.min(to, startOf(report) + report.total_s));
    const { mark, word } = endOf(report);
    nodes.push(svg("rect", { class: `band ${report.outcome}`, x: start, y: TOP, width: Math.max(2, end - start), height: bottom - TOP },
      svg("title", {}, `${headline(report)}: ${word}, pause ${duration(report.pause_s)}`)));
    const name = `${mark} ${headline(report)}`;
    const length = named ? name.length * LETTER : Infinity;
    const older = reloads[index + 1];
    const taken = older ? x(startOf(older) + older.total_s) + LETTER : LEFT - 30;
    // a name must not take the place of an older reload's mark: left of the band, else right of it
    if (end - length > taken && end < free) {
      nodes.push(svg("text", { class: `marker ${report.outcome}`, x: end, y: TOP - 8 }, name));
      free = end - length - LETTER;
    } else if (start + length < free) {
      nodes.push(svg("text", { class: `marker after ${report.outcome}`, x: start, y: TOP - 8 }, name));
      free = start - LETTER;
    } else if (end <= free) {
      nodes.push(svg("text", { class: `marker ${report.outcome}`, x: end, y: TOP - 8 }, mark));
      free = end - 2 * LETTER;
    }
  });
  for (const one of model.running.values()) {
    const start = x(Math.max(from, one.at));
    if (one.at < to) nodes.push(svg("rect", { class: "band running", x: start, y: TOP, width: Math.max(2, x(to) - start), height: bottom - TOP }));
  }
  return nodes;
}

function axis(from, to, x, height) {
  const nodes = [];
  const step = [5, 10, 15, 30, 60].find((one) => x(one) - x(0) >= LABEL_WIDTH) || 120;
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    if (x(at) < LEFT + 20) continue;
    nodes.push(svg("text", { class: "label end", x: x(at), y: height - 4 }, clock(at)));
  }
  return nodes;
}

export function legend() {
  return h("figcaption", { class: "legend" },
    h("span", { class: "key longest" }, "longest call"), h("span", { class: "key typical" }, "typical call"),
    h("span", { class: "key rate" }, "calls per second"), h("span", { class: "key band" }, "reload"));
}

export function sparkline(values) {
  const width = 84;
  const height = 22;
  const highest = Math.max(1, ...values);
  const step = width / 59;
  const points = values.map((value, index) => `${(width - (values.length - 1 - index) * step).toFixed(1)},${(height - 1 - (value / highest) * (height - 3)).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    points.length >= SPARK_MIN && svg("polyline", { points: points.join(" ") }));
}
