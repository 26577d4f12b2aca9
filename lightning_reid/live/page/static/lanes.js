// Lanes: cameras over time, a bar for each stay of a person, an arc for each handover.

import { attribute, find, text } from "./dom.js";
import { follow, inView, state, untilOf } from "./state.js";
import { hue, time } from "./words.js";

const [THINNEST, LABELED, THICKEST] = [6, 8, 15]; // of a bar, in pixels: below the second its number is in its title alone
const SPACE = 2; // between bars
const PAD = 3;
const AXIS = 18;
const SHORTEST = 20; // seconds: what is not there yet takes no space
const RIGHT = 14;
const TICKS = [10, 15, 30, 60, 120, 300];
const known = new Map();
const made = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
let drawing = null;

export function drawLanes() {
  const panel = find("lanes");
  if (panel.hidden || (!state.cameras.size && !drawing)) return;
  if (!drawing) panel.append((drawing = made("svg")));
  const first = Math.min(...[...state.people.values()].flatMap((card) => card.tracks.map((track) => track.from)));
  const span = Math.max(Math.min(60 * Number(find("span").value), state.now - first), SHORTEST);
  const width = panel.clientWidth;
  const left = Math.min(Math.max(width * 0.12, 64), 130);
  const start = state.now - span;
  const x = (at) => left + ((width - left - RIGHT) * (Math.min(Math.max(at, start), state.now) - start)) / span;
  const { bars, lanes, height, thick } = arrange(start, panel.clientHeight - AXIS - 2);
  const total = Math.max(height, panel.clientHeight - 1);
  attribute(drawing, "width", String(width));
  attribute(drawing, "height", String(total));
  attribute(drawing, "role", "group");
  attribute(drawing, "aria-label", `Stays of the last ${Math.round(span)} seconds, by camera`);
  const wanted = new Map();
  for (const lane of lanes) addLane(wanted, lane, left, width);
  addTicks(wanted, start, span, x, total, width - left);
  for (const arc of arcs(bars, start)) wanted.set(arc.key, { ...arc, kind: "path", set: (one) => setArc(one, arc, x, thick) });
  for (const bar of bars.values()) wanted.set(bar.track.key, { kind: "g", set: (one) => setBar(one, bar, x, thick) });
  redraw(wanted);
}

// Who is in a camera at a time lies one below the other; a row is free again when its bar is over. Bars are as thick as fits.
function arrange(start, available) {
  const lanes = [...state.cameras.values()].map((camera) => ({ camera, ...rowsOf(camera, start) }));
  const rows = lanes.reduce((sum, lane) => sum + lane.rows, 0);
  const thick = Math.min(Math.max(Math.floor((available - 2 * PAD * lanes.length) / Math.max(rows, 1)) - SPACE, THINNEST), THICKEST);
  const bars = new Map();
  const spare = Math.max(available - rows * (thick + SPACE) - 2 * PAD * lanes.length, 0) / Math.max(lanes.length, 1);
  let top = AXIS;
  for (const lane of lanes) {
    const height = lane.rows * (thick + SPACE) - SPACE + 2 * PAD + Math.min(spare, 14);
    Object.assign(lane, { y: top, height });
    const first = top + (height - lane.rows * (thick + SPACE) + SPACE) / 2;
    for (const bar of lane.stays) bars.set(bar.track.key, { ...bar, y: first + bar.row * (thick + SPACE) });
    top += height;
  }
  return { bars, lanes, height: top, thick };
}

function rowsOf(camera, start) {
  const stays = [...state.people.values()]
    .flatMap((card) => card.tracks.filter((track) => track.camera === camera.name).map((track) => ({ identity: card.id, track })))
    .map((bar) => ({ ...bar, until: untilOf(bar.track) }))
    .filter((bar) => bar.until >= start)
    .sort((a, b) => a.track.from - b.track.from);
  const ends = [];
  for (const bar of stays) {
    const free = ends.findIndex((until) => until < bar.track.from);
    bar.row = free < 0 ? ends.length : free;
    ends[bar.row] = bar.until;
  }
  return { stays, rows: Math.max(ends.length, 1) };
}

function arcs(bars, start) {
  return [...state.people.values()].flatMap((card) => card.matches
    .filter((match) => match.at >= start && bars.has(match.track) && bars.has(match.other))
    .map((match) => ({ key: `arc ${match.track} ${match.other}`, identity: card.id, from: bars.get(match.other), to: bars.get(match.track), match })));
}

function addLane(wanted, { camera, y, height }, left, width) {
  wanted.set(`lane ${camera.name}`, {
    kind: "rect",
    set: (one) => set(one, { class: "lane", x: 0, y, width, height, "data-state": camera.state }),
  });
  wanted.set(`name ${camera.name}`, {
    kind: "text",
    set: (one) => {
      set(one, { class: "name", x: 10, y: y + height / 2 });
      const most = Math.floor((left - 16) / 6.6);
      text(one, camera.name.length > most ? `${camera.name.slice(0, most - 1)}…` : camera.name);
    },
  });
}

function addTicks(wanted, start, span, x, height, pixels) {
  const step = TICKS.find((one) => (pixels * one) / span > 80) ?? 600;
  for (let at = Math.ceil(start / step) * step; at <= state.now; at += step) {
    if (at < 0) continue;
    wanted.set(`line ${at}`, { kind: "line", set: (one) => set(one, { class: "tick", x1: x(at), x2: x(at), y1: AXIS, y2: height }) });
    wanted.set(`time ${at}`, { kind: "text", set: (one) => { set(one, { class: "time", x: x(at), y: 12 }); text(one, time(at)); } });
  }
}

function setBar(one, { identity, track, until, y }, x, thick) {
  if (!one.firstChild) {
    one.append(made("rect"), made("text"), made("title"));
    one.addEventListener("click", () => follow(one.identity));
  }
  const [rect, label, title] = one.children;
  const from = x(track.from);
  const width = Math.max(x(until) - from, 4);
  one.identity = identity;
  set(one, { class: `bar${inView(track) ? " live" : ""}${dimmed(identity)}` });
  set(rect, { x: from, y, width, height: thick, rx: 3, fill: `oklch(var(--bar) ${hue(identity)})` });
  set(label, { x: from + 4, y: y + thick / 2, "font-size": Math.max(Math.min(thick - 1, 11), 8) });
  const fits = width > 7 + 7 * String(identity).length && (thick >= LABELED || identity === state.followed);
  text(label, fits ? String(identity) : "");
  text(title, `Person ${identity} in ${track.camera}, ${time(track.from)} to ${inView(track) ? "now" : time(until)}`);
}

function setArc(one, { identity, from, to, match }, x, thick) {
  const [x0, x1] = [x(from.until < match.at ? from.until : match.at), x(Math.max(to.track.from, from.track.from))];
  const [y0, y1] = [from.y + thick / 2, to.y + thick / 2];
  const reach = Math.max(Math.abs(x1 - x0) / 2, 14);
  const path = `M${x0.toFixed(1)} ${y0} C${(x0 + reach).toFixed(1)} ${y0} ${(x1 - reach).toFixed(1)} ${y1} ${x1.toFixed(1)} ${y1}`;
  set(one, { class: `arc${dimmed(identity)}`, d: path, stroke: `oklch(var(--bar) ${hue(identity)})` });
}

const dimmed = (identity) => (state.followed === null ? "" : identity === state.followed ? " followed" : " other");

function set(one, attributes) {
  for (const [name, value] of Object.entries(attributes)) attribute(one, name, typeof value === "number" ? String(Math.round(value * 10) / 10) : value);
}

function redraw(wanted) {
  for (const [key, one] of known) {
    if (!wanted.has(key)) {
      one.remove();
      known.delete(key);
    }
  }
  for (const [key, { kind, set: change }] of wanted) {
    let one = known.get(key);
    if (!one) {
      one = made(kind);
      known.set(key, one);
      const layer = kind === "g" ? null : [...drawing.children].find((other) => order(other) > order(one, kind)) ?? null;
      drawing.insertBefore(one, layer);
    }
    change(one);
  }
}

// Lanes lie below lines, these below arcs, these below bars.
const order = (one, kind = one.tagName) => ({ rect: 0, line: 1, text: 2, path: 3, g: 4 })[kind];
