// One card for each transaction on probation: how its calls do beside those of the version before.
// Cards stay the same nodes, so that a button keeps its focus.

import { $, h, say } from "./dom.js";
import { count, duration } from "./format.js";
import { labelOf, model } from "./model.js";

const CALLS_MAX = 8;
const cards = new Map();

// Args: what the buttons do, each called with a report: keep, pause, goBack.
export function drawProbations(actions) {
  const list = $("probation-list");
  const ids = model.probations.map((one) => one.id);
  for (const [id, card] of cards) {
    if (!ids.includes(id)) {
      card.node.remove();
      cards.delete(id);
    }
  }
  for (const report of model.probations) {
    let card = cards.get(report.id);
    if (!card) {
      card = makeCard(report, actions);
      cards.set(report.id, card);
      list.append(card.node);
    }
    draw(card, report);
  }
  $("probation").hidden = cards.size === 0;
}

function makeCard(report, actions) {
  const names = report.modules.map((name) => `${name} ${labelOf(name)}`).join(", ");
  const card = { report, whole: report.left_s, left: h("strong", { class: "left" }), bar: h("span", {}), calls: h("tbody", {}) };
  const button = (text, what, kind) => h("button", { type: "button", class: kind, onclick: () => actions[what](card.report), "aria-label": `${text.replace("…", "")}: ${names}` }, text);
  card.pause = button("Pause", "pause");
  card.node = h("article", { class: "probation", "aria-label": `Probation of ${names}` },
    h("div", { class: "head" },
      h("h3", {}, names),
      card.left,
      h("div", { class: "buttons" }, button("Keep…", "keep", "main"), card.pause, button("Go back…", "goBack"))),
    h("div", { class: "lane" }, card.bar),
    h("table", { class: "calls" },
      h("thead", {}, h("tr", {}, ["Call", "median before", "median now", "failed before", "failed now", ""].map((text) => h("th", { scope: "col" }, text)))),
      card.calls));
  return card;
}

function draw(card, report) {
  card.report = report;
  card.whole = Math.max(card.whole, report.left_s);
  const held = report.state === "paused";
  say(card.left, held ? `paused, ${Math.ceil(report.left_s)} s left` : `${Math.ceil(report.left_s)} s left`);
  say(card.pause, held ? "Resume" : "Pause");
  card.bar.className = held ? "held" : "serving";
  card.bar.style.width = `${(report.left_s / (card.whole || 1)) * 100}%`;
  const rows = report.calls.filter((one) => one.calls_after || one.calls_before).slice(0, CALLS_MAX);
  card.calls.replaceChildren(...rows.map(row));
  card.calls.parentElement.hidden = rows.length === 0;
}

function row(one) {
  const verdict = one.tripped || one.slower || one.unjudged || "as before";
  const name = model.modules.length > 1 ? `${one.module}.${one.call}` : one.call;
  return h("tr", { class: one.tripped ? "bad" : one.slower ? "warn" : one.unjudged ? "dim" : "good" },
    h("th", { scope: "row" }, name),
    h("td", {}, one.calls_before ? duration(one.median_before_s) : "–"), h("td", {}, one.calls_after ? duration(one.median_after_s) : "–"),
    h("td", {}, share(one.errors_before, one.calls_before)), h("td", {}, share(one.errors_after, one.calls_after)),
    h("td", { class: "verdict" }, verdict));
}

function share(errors, calls) {
  return calls ? `${count(errors)} of ${count(calls)}` : "–";
}
