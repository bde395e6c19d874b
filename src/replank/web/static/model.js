// What the page knows, and how what it hears changes that. Everything is bounded: a page that is
// left open for months holds no more than one that was just opened.

import { unixOf } from "./format.js";

export const HISTORY_MAX = 50;
const TICKS_MAX = 600;
const NOTICES_MAX = 20;
const RATES_MAX = 60;

export const model = {
  link: "connecting", // "live", "away"
  modules: [],
  probations: [],
  paused: [], // names; "*" stands for all
  startedAt: 0,
  pid: 0,
  ticks: new Map(),
  tick: 0,
  tickS: 0.5,
  rates: new Map(), // by module: the last calls per second, oldest first
  running: new Map(), // by id: a reload that has started and not ended
  history: [],
  selected: null, // id; null follows the newest
  plans: new Map(), // by id of the reload: the plan that was shown before it
  notices: [],
  historyVersion: 0,
};

const seen = new Map(); // by module: calls and time of the last status

export function heardStatus(now) {
  const { status } = now;
  model.modules = status.modules;
  model.probations = now.probations;
  model.paused = now.paused;
  model.startedAt = unixOf(status.started_at);
  model.pid = status.pid;
  model.tick = now.tick;
  model.tickS = now.tick_s;
  for (const tick of now.ticks) model.ticks.set(tick.number, tick);
  for (const number of model.ticks.keys()) {
    if (number < now.tick - TICKS_MAX) model.ticks.delete(number);
  }
  const at = performance.now();
  for (const one of status.modules) {
    const before = seen.get(one.name);
    const seconds = before ? (at - before.at) / 1000 : 0;
    const more = before ? one.calls - before.calls : 0;
    // A host that was started again counts from the beginning.
    if (before && more >= 0 && seconds > 0.2) push(one.name, more / seconds);
    if (!before || seconds > 0.2 || more < 0) seen.set(one.name, { calls: one.calls, at });
  }
}

function push(name, rate) {
  const rates = model.rates.get(name) || [];
  rates.push(rate);
  if (rates.length > RATES_MAX) rates.shift();
  model.rates.set(name, rates);
}

export function lastTickKnown() {
  // The two newest may have grown since.
  return Math.max(0, model.tick - 2);
}

export function heardHistory(reports) {
  model.history = reports.slice(0, HISTORY_MAX);
  model.historyVersion += 1;
}

export function heardEvent(event) {
  const { kind, data } = event;
  if (kind === "ReloadStarted") {
    model.running.set(data.id, { id: data.id, modules: data.modules, reason: data.reason, at: data.at, phases: [], phase: "" });
  } else if (kind === "PhaseStarted") {
    const running = model.running.get(data.id);
    if (running) running.phase = data.phase;
  } else if (kind === "PhaseEnded") {
    model.running.get(data.id)?.phases.push(data);
  } else if (kind === "ReloadEnded") {
    model.running.delete(data.id);
    heardHistory([data.report, ...model.history.filter((one) => one.id !== data.id)]);
  } else if (NOTICED.has(kind)) {
    model.notices.unshift(noticeOf(kind, data));
    model.notices.length = Math.min(model.notices.length, NOTICES_MAX);
  }
  for (const id of model.plans.keys()) {
    if (model.plans.size > HISTORY_MAX) model.plans.delete(id);
  }
}

const NOTICED = new Set(["Warned", "TimerFailed", "MessageFailed", "WorkerEnded", "WorkerGaveUp"]);

function noticeOf(kind, data) {
  if (kind === "Warned") return { at: data.at, where: data.module || "", text: data.text };
  if (kind === "WorkerEnded") return { at: data.at, where: data.module, text: `its process ${data.pid} ended: ${data.how}` };
  if (kind === "WorkerGaveUp") return { at: data.at, where: data.module, text: `stays down: ${data.error.message}` };
  const what = kind === "TimerFailed" ? `timer ${data.timer} raised` : `a message to ${data.call} raised`;
  return { at: data.at, where: data.module, text: `${what} ${data.error.kind}: ${data.error.message}` };
}

export function lostTouch() {
  model.link = "away";
  model.running.clear();
}

export function labelOf(name) {
  return model.modules.find((one) => one.name === name)?.label || "";
}

export function chosen() {
  return model.history.find((one) => one.id === model.selected) || model.history[0] || null;
}

export function startOf(report) {
  return unixOf(report.started_at);
}
