// How each stage of each camera does, and the log.

import { find, keep, make, text } from "./dom.js";
import { state } from "./state.js";
import { count, latency, stateOf, time } from "./words.js";

const HEADS = ["Camera", "Stage", "State", "Processed", "Dropped", "Waiting", "Latency, p95"];
const rows = new Map();
const lines = new Map();
let body = null;

export function drawHealth() {
  const panel = find("health");
  if (panel.hidden) return;
  if (!body) {
    body = make("tbody");
    const heads = HEADS.map((one) => make("th", { scope: "col", textContent: one }));
    panel.append(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
  }
  const entries = [];
  for (const camera of state.cameras.values()) {
    entries.push([camera.name, [camera.name, "all", stateOf(camera), `${camera.fps.toFixed(1)} fps`, count(camera.skipped), "", latency(camera.latency)]]);
    for (const [stage, told, processed, dropped, queued, seconds] of camera.stages) {
      entries.push([`${camera.name} ${stage}`, ["", stage, told, count(processed), count(dropped), count(queued), latency(seconds)]]);
    }
  }
  keep(body, rows, entries, makeRow, changeRow, { ordered: true });
}

function makeRow() {
  return make("tr", {}, make("th", { scope: "row" }), ...HEADS.slice(1).map(() => make("td")));
}

function changeRow(row, cells) {
  cells.forEach((cell, place) => text(row.children[place], cell));
  row.dataset.state = cells[2].split(" ")[0];
  row.classList.toggle("all", cells[1] === "all");
}

export function drawLog() {
  const panel = find("log");
  if (panel.hidden) return;
  const list = panel.firstElementChild;
  keep(list, lines, state.notes.map(([serial, at, words]) => [serial, { at, words }]), ({ at, words }) =>
    make("li", {}, make("time", { className: "muted", textContent: time(at) }), make("span", { textContent: words })), () => {}, { ordered: true });
}
