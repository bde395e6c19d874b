// One reload: how it ended, its eight phases as bars, what was proven, and what was different.

import { trafficChart } from "./chart.js";
import { h } from "./dom.js";
import { PHASES, change, clock, count, duration, endOf, headline, isStart, title } from "./format.js";
import { model, startOf } from "./model.js";

const AROUND_S = 12;

export function detailOf(report, width) {
  if (!report) return [h("h2", { id: "detail-title" }, "No reload yet"), h("p", { class: "dim" }, "Change a module's file, then press Reload. You see what it would do before anything happens.")];
  const { word, mark } = endOf(report);
  const head = [
    h("div", { class: "head" }, h("h2", { id: "detail-title", class: `outcome ${report.outcome}` }, `${mark} ${word}`), h("span", { class: "dim" }, isStart(report) ? clock(startOf(report)) : `${clock(startOf(report))}, asked by ${report.reason}`)),
    h("p", { class: "what" }, headline(report)),
  ];
  if (isStart(report) && !report.error) return [...head, h("p", { class: "dim" }, "The host began with this. Change a module's file, then press Reload: you see what it would do before anything happens.")];
  return [
    ...head,
    report.error && errorOf(report.error),
    figures(report),
    h("h3", {}, "Eight phases"),
    phases(report),
    ...around(report, width),
    ...changes(report),
    ...certificate(report),
    report.warnings.length > 0 && h("ul", { class: "notices" }, report.warnings.map((one) => h("li", {}, one))),
  ];
}

function figures(report) {
  const waited = report.calls_held + report.messages_held;
  const migrated = report.modules.reduce((sum, one) => sum + one.records_migrated, 0);
  return h("dl", { class: "figures small" },
    figure("calls waited at most", report.outcome === "rejected" ? "0 ms" : duration(report.pause_s)),
    figure("in all", duration(report.total_s)),
    figure("waited, none lost", count(waited)),
    figure("records migrated", count(migrated)));
}

export function figure(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

// Two scales, because the pause is a hundredth of the whole: each column is as wide as its own sum.
function phases(report) {
  const rows = PHASES.map((name) => {
    const phase = report.phases.find((one) => one.name === name);
    const before = name === "prepare" && phase ? phase.seconds + phase.window_seconds : phase?.window_seconds || 0;
    return { name, phase, serving: before, waiting: name === "prepare" ? 0 : phase?.seconds || 0 };
  });
  const serving = rows.reduce((sum, one) => sum + one.serving, 0);
  const waiting = rows.reduce((sum, one) => sum + one.waiting, 0);
  let servedFrom = 0;
  let waitedFrom = 0;
  const body = rows.map(({ name, phase, ...parts }) => {
    const row = h("tr", { class: phase ? phase.outcome : "never" },
      h("th", { scope: "row" }, title(name), phase && phase.outcome !== "done" && h("span", { class: `tag ${phase.outcome}` }, phase.outcome)),
      bar("serving", parts.serving, servedFrom, serving), bar("waiting", parts.waiting, waitedFrom, waiting));
    if (phase?.detail) row.title = phase.detail;
    servedFrom += parts.serving;
    waitedFrom += parts.waiting;
    return row;
  });
  return h("table", { class: "phases" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Phase"),
      h("th", { scope: "col" }, h("span", { class: "key serving" }, `old version serves, ${duration(serving)}`)),
      h("th", { scope: "col" }, h("span", { class: "key waiting" }, waiting ? `calls wait, ${duration(waiting)}` : "no call waited")))),
    h("tbody", {}, body));
}

function bar(kind, seconds, from, whole) {
  if (!seconds) return h("td", { class: "bar" }, h("span", { class: "none" }, "–"));
  const left = whole ? (from / whole) * 100 : 0;
  const width = Math.max(0.8, whole ? (seconds / whole) * 100 : 100);
  return h("td", { class: "bar" },
    h("span", { class: "time" }, duration(seconds)),
    h("span", { class: "lane" }, h("span", { class: kind, "left%": Math.min(left, 99.2), "width%": width })));
}

function around(report, width) {
  const from = startOf(report) - AROUND_S;
  const to = startOf(report) + report.total_s + AROUND_S;
  const known = [...model.ticks.keys()].some((number) => number * model.tickS > from && number * model.tickS < to);
  if (!known) return [];
  return [h("h3", {}, "Latency around it"), h("div", { class: "chart" }, trafficChart(from, to, width, { named: false }))];
}

function changes(report) {
  const plan = model.plans.get(report.id);
  const parts = report.modules.map((one) => {
    const planned = plan?.modules.find((other) => other.name === one.name);
    return changesOf({ ...one, predicted_pause_s: planned?.predicted_pause_s });
  });
  return [h("h3", {}, "What was different"), ...parts];
}

// Also for a module of a plan: both have the same names for these.
export function changesOf(one) {
  const rows = [
    ["version", change(one.version_from, one.version_to)],
    ["schema", change(one.schema_from ? String(one.schema_from) : "", one.schema_to ? String(one.schema_to) : "")],
    // of a candidate that could not be loaded nothing is known
    one.schema_changes?.length ? ["state", lines(one.schema_changes)] : one.version_to ? ["state", "same shape"] : null,
    one.contract_changes?.length ? ["calls", lines(one.contract_changes)] : one.version_to ? ["calls", "same calls"] : null,
    one.steps?.length ? ["steps", lines(one.steps)] : null,
    one.mode && one.version_to ? ["travels", one.mode] : null,
    one.predicted_pause_s ? ["predicted pause", duration(one.predicted_pause_s)] : null,
    one.predicted && one.mode !== "eager" ? ["predicted", costOf(one.predicted)] : null,
    one.measured ? ["measured", costOf(one.measured)] : null,
    one.quarantined || one.defaulted ? ["records at fault", `${count(one.quarantined)} set aside, ${count(one.defaulted)} with a default`] : null,
    one.bad_records?.length ? ["", lines(one.bad_records.map((bad) => `${bad.table}[${bad.key}] ${bad.field}: ${bad.reason}`))] : null,
    one.tests_passed ? ["own tests", `${count(one.tests_passed)} passed${one.tests_skipped ? `, ${count(one.tests_skipped)} skipped` : ""}`] : null,
    one.replay?.asked ? ["asked again", `${count(one.replay.same)} of ${count(one.replay.asked)} answered the same`] : null,
    one.replay?.differences.length ? ["", lines(one.replay.differences.map((two) => `${two.call}(${two.arguments}) ${two.place}: ${two.before} → ${two.after}`))] : null,
    one.signer ? ["signed by", one.signer] : null,
    one.notes?.length ? ["note", lines(one.notes)] : null,
  ].filter(Boolean);
  return h("dl", { class: "facts" }, h("div", { class: "title" }, h("dt", {}, one.name), h("dd", {})), rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function costOf(cost) {
  const parts = [`${duration(cost.pause_s)} of pause`, cost.window_s && `${duration(cost.window_s)} in the window`, cost.memory_bytes >= 1048576 && `${count(cost.memory_bytes / 1048576)} MiB`];
  return parts.filter(Boolean).join(", ");
}

function lines(texts) {
  return h("ul", {}, texts.map((text) => h("li", {}, h("code", {}, text))));
}

function certificate(report) {
  const proof = report.certificate;
  if (!proof) return [];
  const [before, after] = [proof.state_digest_before, proof.state_digest_after].map((one) => one.replace(/^\w+:/, "").slice(0, 12));
  const digests = before && before === after ? `${before}, before and after` : [before, after].filter(Boolean).join(" → ");
  const rows = [
    ["checks passed", `${proof.checks_passed} of ${proof.checks_run}`],
    ["records migrated", count(proof.records_migrated)],
    ["state digest", digests || "–"],
    ["messages", `${count(proof.messages_in)} in = ${count(proof.messages_answered)} answered + ${count(proof.messages_queued)} queued`],
    streamsOf(report) ? ["open streams", streamsOf(report)] : null,
    ["longest wait of a call", duration(proof.longest_wait_s)],
    ["longest call while rehearsing", duration(proof.longest_call_before_s)],
  ].filter(Boolean);
  return [h("h3", {}, "Certificate"), h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))];
}

function streamsOf(report) {
  const parts = [[report.streams_carried, "go on"], [report.streams_finishing, "finish in the old version"], [report.streams_ended, "ended"]];
  return parts.filter(([number]) => number).map(([number, what]) => `${count(number)} ${what}`).join(", ");
}

export function errorOf(error) {
  const rows = [["found", error.found], ["expected", error.expected], ["now serving", error.serves], ["do", error.do], ["at", error.location]].filter((row) => row[1]);
  return h("div", { class: "error" },
    h("p", { class: "message" }, `${error.module ? `${error.module}: ` : ""}${error.phase}: ${error.message}`),
    h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", { class: "whole" }, value))))),
    error.undo_errors?.map((text) => h("p", {}, `and while undoing: ${text}`)),
    error.traceback && h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, error.traceback)));
}
