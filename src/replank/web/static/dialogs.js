// Before anything changes: what a reload would do, and a question before a rollback.

import { Failed, post } from "./api.js";
import { changesOf, errorOf } from "./detail.js";
import { $, h } from "./dom.js";
import { duration } from "./format.js";
import { labelOf, model } from "./model.js";

const TITLES = { reload: "The reload", rollback: "The rollback", abort: "The way back", probation: "The end of the probation" };

function open(...content) {
  const dialog = $("dialog");
  dialog.replaceChildren(...content.flat(9).filter(Boolean));
  if (!dialog.open) dialog.showModal();
  return dialog;
}

function close() {
  $("dialog").close();
}

function buttons(...found) {
  return h("div", { class: "buttons" }, h("button", { type: "button", onclick: close }, "Cancel"), found);
}

function titled(text) {
  return h("h2", { id: "dialog-title" }, text);
}

export async function askReload(names, onEnd) {
  const what = names.join(", ");
  open(titled(`Reload ${what}?`), h("p", { class: "dim" }, "Rehearsing on a copy of the live state. Nothing changes, no call waits."), buttons());
  let plan;
  try {
    plan = await post("/control/plan", { modules: names });
  } catch (error) {
    if ($("dialog").open) open(titled("No plan could be made"), failure(error), buttons());
    return;
  }
  if (!$("dialog").open) return;
  const same = plan.accepted && plan.modules.every((one) => one.unchanged);
  const pause = plan.modules.reduce((sum, one) => sum + one.predicted_pause_s, 0);
  const go = h("button", { type: "button", class: plan.accepted ? "main" : null, onclick: () => run("reload", { modules: names, reason: "dashboard" }, plan, onEnd) }, plan.accepted ? "Reload now" : "Try all the same");
  open(
    titled(plan.accepted ? `Reload ${what}?` : `${what}: this would be rejected`),
    same && h("p", {}, "The source is byte for byte what serves: a reload would only restart the module."),
    plan.accepted && !same && h("p", {}, `Rehearsed in ${duration(plan.seconds)}: it fits. `, pause ? `Calls would wait about ${duration(pause)}.` : ""),
    plan.error && errorOf(plan.error),
    plan.warnings.length > 0 && h("ul", { class: "notices" }, plan.warnings.map((one) => h("li", {}, one))),
    plan.modules.map(changesOf),
    buttons(go));
  (plan.accepted ? go : $("dialog").querySelector("button")).focus();
}

export function askGoBack(report, onEnd) {
  const names = report.modules.join(", ");
  const go = h("button", { type: "button", class: "main danger", onclick: () => run("abort", { module: report.modules[0] }, null, onEnd) }, "Go back now");
  open(
    titled(`Send ${names} back?`),
    h("p", {}, "The version before serves again, with every write since then kept. It is one more pause, as short as the last."),
    buttons(go));
  go.focus();
}

export function askKeep(report, onEnd) {
  const names = report.modules.map((name) => `${name} ${labelOf(name)}`).join(", ");
  const go = h("button", { type: "button", class: "main", onclick: () => run("probation", { module: report.modules[0], action: "promote" }, null, onEnd) }, "Keep it now");
  open(
    titled(`Keep ${names}?`),
    h("p", {}, "The probation ends, and what was kept of the version before is freed. It will no longer go back by itself; by hand it still can, as an ordinary reload."),
    buttons(go));
  go.focus();
}

export function tell(error) {
  open(titled("That could not be done"), failure(error), buttons());
}

export function askRollback(name, onEnd) {
  const one = model.modules.find((module) => module.name === name);
  const go = h("button", { type: "button", class: "main danger", onclick: () => run("rollback", { module: name }, null, onEnd) }, "Roll back now");
  open(
    titled(`Roll ${name} back?`),
    h("p", {}, `Version ${one.label} serves now. The version committed before it would serve again, with every write since then kept: the state goes back through its migrations too.`),
    buttons(go));
  go.focus();
}

async function run(kind, body, plan, onEnd) {
  close();
  try {
    const report = await post(`/control/${kind}`, body);
    if (plan) model.plans.set(report.id, plan);
    onEnd(report);
  } catch (error) {
    open(titled(`${TITLES[kind]} did not run`), failure(error), buttons());
  }
}

function failure(error) {
  const facts = error instanceof Failed ? error.facts : {};
  const rows = [["found", facts.found], ["expected", facts.expected], ["now serving", facts.serves], ["do", facts.do]].filter((row) => row[1]);
  return h("div", { class: "error" }, h("p", { class: "message" }, error.message), h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}
