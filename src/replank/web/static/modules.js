// One row for each module. Rows stay the same nodes, so that a button keeps its focus.

import { sparkline } from "./chart.js";
import { $, h, say } from "./dom.js";
import { ago, count, rate, unixOf } from "./format.js";
import { model } from "./model.js";

const rows = new Map();

export function drawModules(onReload, onRollback) {
  const list = $("module-list");
  const names = model.modules.map((one) => one.name);
  for (const [name, row] of rows) {
    if (!names.includes(name)) {
      row.node.remove();
      rows.delete(name);
    }
  }
  for (const module of model.modules) {
    let row = rows.get(module.name);
    if (!row) {
      row = makeRow(module.name, onReload, onRollback);
      rows.set(module.name, row);
      list.append(row.node);
    }
    draw(row, module);
  }
}

function makeRow(name, onReload, onRollback) {
  const parts = {};
  const cell = (key, label) => {
    parts[key] = h("dd", {});
    return h("div", { class: `cell ${key}` }, h("dt", {}, label), parts[key]);
  };
  parts.state = h("span", { class: "gate" });
  parts.spark = h("span", { class: "spark-place" });
  const node = h("article", { class: "module", "aria-label": name },
    h("div", { class: "who" }, h("h3", {}, name), parts.state),
    h("dl", {}, cell("version", "version"), cell("schema", "schema"), cell("generation", "generation"),
      cell("calls", "calls/s"), cell("flight", "in flight"), cell("waiting", "waiting"), cell("queued", "queued"), cell("since", "serves since")),
    parts.spark,
    h("div", { class: "buttons" },
      h("button", { type: "button", onclick: () => onReload(name), "aria-label": `Reload ${name}` }, "Reload…"),
      h("button", { type: "button", onclick: () => onRollback(name), "aria-label": `Roll back ${name}` }, "Roll back…")));
  return { node, parts };
}

function draw({ node, parts }, module) {
  const rates = model.rates.get(module.name) || [];
  const busy = [...model.running.values()].some((one) => one.modules.includes(module.name));
  node.classList.toggle("busy", busy);
  node.classList.toggle("closed", module.gate === "closed");
  node.classList.toggle("down", Boolean(module.down));
  say(parts.state, busy ? "reloading" : stateOf(module));
  parts.state.title = module.down || "";
  say(parts.version, module.label);
  parts.version.title = `${module.source}, ${module.digest.slice(0, 12)}`;
  say(parts.schema, String(module.schema));
  say(parts.generation, String(module.generation));
  say(parts.calls, rates.length ? rate(rates.at(-1)) : "–");
  say(parts.flight, count(module.in_flight));
  say(parts.waiting, count(module.waiting));
  say(parts.queued, module.messages_failed ? `${count(module.messages_queued)}, ${count(module.messages_failed)} failed` : count(module.messages_queued));
  say(parts.since, ago(unixOf(module.started_at)));
  parts.spark.replaceChildren(sparkline(rates));
}

function stateOf(module) {
  if (module.down) return "down: reload it";
  if (module.isolation === "none") return module.gate === "closed" ? "gate closed" : "serving";
  const where = module.pid === null ? "no process" : `process ${module.pid}, ${count(module.memory_bytes / 1048576)} MiB`;
  const again = module.restarts ? `, started again ${count(module.restarts)}×` : "";
  return `${module.gate === "closed" ? "gate closed" : "serving"} in ${where}${again}`;
}
