// The page's life: sign in, follow the host, draw. It comes back by itself when the host does.

import { Failed, events, get, hasToken, post, setToken, takeTokenFromAddress } from "./api.js";
import { legend, trafficChart } from "./chart.js";
import { detailOf, figure } from "./detail.js";
import { askGoBack, askKeep, askReload, askRollback, tell } from "./dialogs.js";
import { $, h, say } from "./dom.js";
import { PHASES, ago, duration, endOf, headline, isStart, rate, title } from "./format.js";
import { HISTORY_MAX, chosen, heardEvent, heardHistory, heardStatus, lastTickKnown, lostTouch, model, startOf } from "./model.js";
import { drawModules } from "./modules.js";
import { drawProbations } from "./probation.js";

const SHOWN_S = 120;
const SHOWN_MIN_S = 30;
const STATUS_EVERY_MS = 1000;
const AGAIN_MS = [250, 500, 1000, 2000, 4000];
const HEARD = new Set(["ReloadStarted", "PhaseStarted", "PhaseEnded", "ReloadEnded", "Warned", "TimerFailed", "MessageFailed", "WorkerEnded", "WorkerGaveUp"]);

let stream = null;
let drawn = "";
let asked = false;

// -- following the host ------------------------------------------------------------------------

async function follow() {
  let lastId = null;
  for (let attempt = 0; ; attempt += 1) {
    try {
      stream = new AbortController();
      for await (const event of events(lastId, stream.signal, () => { attempt = 0; refresh(); })) {
        lastId = event.id || lastId;
        if (event.kind === "Gap" || event.kind === "Overtaken") await readHistory();
        if (event.kind === "Closed") break;
        if (HEARD.has(event.kind)) heardEvent(event);
        if (event.kind === "ReloadEnded") announce(event.data.report);
        draw();
      }
    } catch (error) {
      if (error instanceof Failed && error.status === 401) return signIn("The host does not know this token.");
    }
    lostTouch();
    draw();
    await wait(AGAIN_MS[Math.min(attempt, AGAIN_MS.length - 1)]);
  }
}

function wait(ms) {
  return new Promise((done) => { setTimeout(done, ms); });
}

async function refresh() {
  try {
    await Promise.all([readHistory(), readStatus()]);
    model.link = "live";
  } catch {
    // the stream ends too then, and comes back
  }
  draw();
}

async function readHistory() {
  heardHistory(await get(`/control/history?limit=${HISTORY_MAX}`));
}

async function readStatus() {
  heardStatus(await get(`/dashboard/now?after=${lastTickKnown()}`));
}

async function poll() {
  for (;;) {
    await wait(STATUS_EVERY_MS);
    if (document.hidden || model.link !== "live") continue;
    try {
      await readStatus();
    } catch {
      stream?.abort(); // a connection that is dead without having been closed
    }
    draw();
  }
}

// -- drawing -----------------------------------------------------------------------------------

function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if ($("page").hidden) return;
    drawHero();
    drawProbations({ keep: (report) => askKeep(report, refresh), pause: pauseProbation, goBack: (report) => askGoBack(report, draw) });
    drawModules(reload, rollback);
    drawPaused();
    drawHistory();
    drawNotices();
    for (const node of document.querySelectorAll("[data-at]")) say(node, ago(Number(node.dataset.at)));
  });
}

function drawHero() {
  const running = [...model.running.values()].at(-1);
  const last = model.history.find((one) => !isStart(one));
  document.body.dataset.link = model.link;
  const verdict = model.link === "away" ? "The host is away" : running ? `Reloading ${running.modules.join(", ")}` : model.link === "live" ? "Serving" : "Connecting";
  say($("verdict"), verdict);
  document.body.dataset.state = model.link === "away" ? "away" : running ? "running" : "serving";
  document.title = `${verdict} · Replank`;
  const waiting = model.modules.reduce((sum, one) => sum + one.waiting, 0);
  const since = model.startedAt ? `${model.modules.length} ${model.modules.length === 1 ? "module" : "modules"}, host started ${ago(model.startedAt)}.` : "";
  const ended = last ? ` Last reload ${ago(startOf(last) + last.total_s)}: ${headline(last)}, ${endOf(last).word.toLowerCase()}.` : "";
  say($("summary"), model.link === "away" ? "Trying again. What was committed is on its disk; this page goes on when it is back." : `${since}${ended}`);
  say($("where"), model.pid ? `${location.host}, pid ${model.pid}` : location.host);
  drawSteps(running);
  drawFigures(waiting, last);
  const width = Math.max(280, $("traffic").clientWidth);
  const to = (model.tick || Date.now() / 1000 / model.tickS) * model.tickS + model.tickS;
  // Of a host that has just started there are no two minutes to show.
  const from = to - Math.min(SHOWN_S, Math.max(SHOWN_MIN_S, to - model.startedAt));
  const quiet = ![...model.ticks.values()].some((one) => one.calls && one.number * model.tickS > from);
  $("traffic").replaceChildren(trafficChart(from, to, width, { named: width > 560 }), legend(),
    quiet ? h("p", { class: "quiet-note" }, "No calls over HTTP in the last two minutes. Calls from inside the program are counted below, not timed.") : "");
}

function drawPaused() {
  const all = model.paused.includes("*");
  $("paused").hidden = !model.paused.length;
  say($("paused"), all ? "Reloads are paused: what is asked for waits." : `Paused: ${model.paused.join(", ")}`);
  say($("pause-all"), model.paused.length ? "Resume reloads" : "Pause reloads");
}

function drawSteps(running) {
  const steps = $("steps");
  steps.hidden = !running;
  if (!running) return;
  const done = new Set(running.phases.map((one) => one.phase));
  steps.replaceChildren(...PHASES.map((name) => h("li", { class: name === running.phase ? "now" : done.has(name) ? "done" : "" }, title(name))));
}

function drawFigures(waiting, last) {
  const recent = [];
  for (let number = model.tick - 1; number > model.tick - 21; number -= 1) recent.push(model.ticks.get(number));
  const ticks = recent.filter((one) => one?.calls);
  const calls = ticks.reduce((sum, one) => sum + one.calls, 0);
  const typical = ticks.map((one) => one.typical_s).sort((a, b) => a - b)[Math.floor(ticks.length / 2)];
  const longest = Math.max(0, ...ticks.map((one) => one.longest_s));
  $("figures").replaceChildren(
    figure("calls/s over HTTP", rate(calls / (20 * model.tickS))),
    figure("typical call", ticks.length ? duration(typical) : "–"),
    figure("longest in 10 s", ticks.length ? duration(longest) : "–"),
    figure("waiting now", String(waiting)),
    figure("last pause", last ? duration(last.outcome === "rejected" ? 0 : last.pause_s) : "–"));
}

function drawHistory() {
  const report = chosen();
  const width = Math.max(260, $("detail").clientWidth);
  const fresh = report && Date.now() / 1000 - startOf(report) < 20; // its picture still grows
  const key = `${model.historyVersion} ${report?.id} ${width} ${fresh ? model.tick : ""}`;
  if (key === drawn) return;
  const list = drawn.split(" ")[0] !== String(model.historyVersion) || !drawn.includes(` ${report?.id} `);
  drawn = key;
  if (list) drawList(report);
  const open = $("detail").querySelector("details")?.open;
  $("detail").replaceChildren(...detailOf(report, width).flat(9).filter(Boolean));
  if (open && $("detail").querySelector("details")) $("detail").querySelector("details").open = true;
}

function drawList(report) {
  const focused = document.activeElement?.dataset?.id;
  $("history").replaceChildren(...model.history.map((one) => {
    const { word, mark } = endOf(one);
    const current = one.id === report?.id;
    return h("li", {}, h("button", { type: "button", class: "entry", "data-id": one.id, "aria-current": current ? "true" : null, onclick: () => choose(one.id) },
      h("span", { class: `mark ${one.outcome}`, "aria-hidden": "true" }, mark),
      h("span", { class: "name" }, headline(one), h("span", { class: "dim" }, `${word}, `, h("span", { "data-at": startOf(one) }, ago(startOf(one))))),
      h("span", { class: "pause" }, isStart(one) ? "" : one.outcome === "rejected" ? "no pause" : duration(one.pause_s))));
  }));
  if (focused) document.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function choose(id) {
  model.selected = id === model.history[0]?.id ? null : id;
  draw();
}

function drawNotices() {
  $("notices-section").hidden = model.notices.length === 0;
  const key = `${model.notices.length} ${model.notices[0]?.at}`;
  if ($("notices").dataset.key === key) return;
  $("notices").dataset.key = key;
  $("notices").replaceChildren(...model.notices.map((one) => h("li", {}, one.where && h("strong", {}, one.where), ` ${one.text} `, h("span", { class: "dim", "data-at": one.at }, ago(one.at)))));
}

function announce(report) {
  model.selected = null;
  say($("news"), `${headline(report)}: ${endOf(report).word}`);
}

// -- what the keys and buttons do --------------------------------------------------------------

function reload(name) {
  askReload([name], draw);
}

function rollback(name) {
  askRollback(name, draw);
}

async function order(path, body) {
  try {
    await post(path, body);
    await readStatus();
  } catch (error) {
    tell(error);
  }
  draw();
}

function pauseProbation(report) {
  order("/control/probation", { module: report.modules[0], action: report.state === "paused" ? "resume" : "pause" });
}

function pauseAll() {
  order(model.paused.length ? "/control/schedule/resume" : "/control/schedule/pause", { modules: [] });
}

function moveInHistory(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const entries = [...$("history").querySelectorAll("button")];
  const next = entries[entries.indexOf(document.activeElement) + step];
  if (next) {
    next.focus();
    event.preventDefault();
  }
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  say($("theme"), `Theme: ${theme}`);
  localStorage.setItem("replank-theme", theme);
}

function signIn(text = "") {
  $("page").hidden = true;
  $("door").hidden = false;
  say($("sign-in-error"), text);
  $("token").value = "";
  $("token").focus();
}

function enter() {
  $("door").hidden = true;
  $("page").hidden = false;
  follow();
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value);
  enter();
});
$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
$("reload-all").addEventListener("click", () => askReload(model.modules.map((one) => one.name), draw));
$("pause-all").addEventListener("click", pauseAll);
$("history").addEventListener("keydown", moveInHistory);
window.addEventListener("resize", draw);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

setTheme(THEMES.includes(localStorage.getItem("replank-theme")) ? localStorage.getItem("replank-theme") : "auto");
takeTokenFromAddress();
if (hasToken()) enter();
else signIn();
poll();
