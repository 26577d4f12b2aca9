// The grid of cameras: a picture each, and over it a button for each person.

import { attribute, find, keep, make, text } from "./dom.js";
import { follow, state, takeBoxes } from "./state.js";
import { latency, paint, stateOf } from "./words.js";

const CAPTION = 30; // pixels above a picture
const GAP = 10;
const EDGE = 2; // so that the outline of a tile is not cut off
const SMALLEST = 190;
const tiles = new Map();
const shown = new Set(); // cameras that are within the window
let enlarged = null;

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) shown[isIntersecting ? "add" : "delete"](target.dataset.camera);
  document.dispatchEvent(new CustomEvent("shown"));
});

// Names of the cameras to send pictures of; null for all, before it is known which are in sight.
export const inSight = () => (document.hidden ? [] : shown.size ? [...shown] : null);

export function drawPicture(head, bitmap) {
  const tile = tiles.get(head.camera);
  const camera = state.cameras.get(head.camera);
  if (tile && camera && !state.privacy) {
    const { canvas } = tile.parts;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    camera.size = head.size;
    takeBoxes(camera, head.boxes, head.epoch);
    tile.painted = true;
    tile.classList.remove("bare");
    drawBoxes(tile, camera);
  }
  bitmap.close();
}

export function drawCameras() {
  const grid = find("grid");
  const before = tiles.size;
  keep(grid, tiles, state.cameras, makeTile, changeTile, { ordered: true });
  find("no-cameras").hidden = state.cameras.size > 0;
  if (enlarged !== null && !tiles.has(enlarged)) enlarge(null);
  if (before !== tiles.size) layOut();
}

function makeTile(camera, name) {
  const canvas = make("canvas", { width: 4, height: 3, "aria-hidden": "true" });
  const boxes = make("div", { className: "boxes", role: "group" });
  const veil = make("p", { className: "veil" });
  const stage = make("div", { className: "stage" }, canvas, boxes, veil);
  const [told, figures] = [make("span", { className: "told" }), make("span", { className: "figures" })];
  const larger = make("button", { type: "button", className: "larger" });
  larger.addEventListener("click", () => enlarge(enlarged === name ? null : name));
  const title = make("h3", { textContent: name, title: name });
  const caption = make("header", {}, make("span", { className: "dot", "aria-hidden": "true" }), title, told, figures, larger);
  const tile = make("article", { className: "tile" }, caption, stage);
  tile.dataset.camera = name;
  tile.parts = { canvas, boxes, veil, stage, told, figures, larger };
  tile.buttons = new Map();
  boxes.addEventListener("keydown", (event) => walk(event, tile));
  seen.observe(tile);
  return tile;
}

function changeTile(tile, camera, name) {
  const { canvas, boxes, veil, stage, told, figures, larger } = tile.parts;
  tile.dataset.state = camera.state;
  const live = camera.state === "live";
  const bare = live && !camera.picture;
  if ((state.privacy || bare) && tile.painted) {
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    tile.painted = false;
  }
  tile.classList.toggle("bare", !tile.painted);
  const [width, height] = camera.size;
  if (width && height) stage.style.aspectRatio = `${width} / ${height}`;
  text(veil, live ? (bare && !state.privacy ? "no picture, boxes only" : "") : stateOf(camera));
  text(told, live ? "live" : stateOf(camera));
  text(figures, live ? `${camera.fps.toFixed(1)} fps · ${latency(camera.latency)}` : "");
  attribute(figures, "title", `${camera.skipped} frames dropped; latency from capture to identity, p95`);
  attribute(boxes, "aria-label", `People in ${name}`);
  attribute(tile, "aria-label", `Camera ${name}, ${live ? "live" : stateOf(camera)}`);
  attribute(larger, "aria-label", enlarged === name ? `Show all cameras` : `Enlarge ${name}`);
  attribute(larger, "aria-pressed", String(enlarged === name));
  drawBoxes(tile, camera);
}

function drawBoxes(tile, camera) {
  const [width, height] = camera.size;
  const boxes = camera.state === "live" || tile.painted ? camera.boxes : [];
  const had = tile.contains(document.activeElement) ? document.activeElement : null;
  keep(tile.parts.boxes, tile.buttons, new Map(boxes.map((box) => [box[0], box])), makeBox, (button, [, identity, x0, y0, x1, y1]) => {
    Object.assign(button.style, {
      left: `${(100 * x0) / width}%`,
      top: `${(100 * y0) / height}%`,
      width: `${(100 * (x1 - x0)) / width}%`,
      height: `${(100 * (y1 - y0)) / height}%`,
    });
    if (button.identity !== identity) {
      button.identity = identity;
      paint(button, identity);
      text(button.firstChild, identity === null ? "?" : String(identity));
      button.disabled = identity === null;
    }
    button.classList.toggle("high", y0 < height * 0.07);
    const followed = identity !== null && identity === state.followed;
    attribute(button, "aria-pressed", String(followed));
    attribute(button, "aria-label", identity === null ? "Somebody without a number yet" : `Follow person ${identity}, in ${camera.name}`);
  });
  if (had && !had.isConnected) (tile.buttons.values().next().value ?? tile.parts.larger).focus();
  oneStop(tile);
  tile.classList.toggle("here", boxes.some(([, identity]) => identity !== null && identity === state.followed));
}

function makeBox() {
  const button = make("button", { type: "button", className: "box", tabIndex: -1 }, make("span", {}));
  button.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && button.identity !== null) follow(button.identity); // people walk: a click may end beside them
  });
  button.addEventListener("click", (event) => {
    if (event.detail === 0 && button.identity !== null) follow(button.identity); // by the keyboard, or a screen reader
  });
  button.identity = undefined;
  return button;
}

// One stop of the Tab key a camera; arrows go from person to person within it.
function oneStop(tile) {
  const buttons = [...tile.buttons.values()];
  const stop = buttons.find((one) => one === document.activeElement) ?? buttons.find((one) => !one.disabled);
  for (const one of buttons) one.tabIndex = one === stop ? 0 : -1;
}

function walk(event, tile) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const sorted = [...tile.buttons.values()].filter((one) => !one.disabled).sort((a, b) => parseFloat(a.style.left) - parseFloat(b.style.left));
  const place = sorted.indexOf(document.activeElement);
  sorted[(place + step + sorted.length) % sorted.length]?.focus();
  oneStop(tile);
  event.preventDefault();
}

function enlarge(name) {
  enlarged = name;
  find("grid").classList.toggle("one", name !== null);
  for (const [key, tile] of tiles) tile.classList.toggle("large", key === name);
  layOut();
}

// As many columns as make the pictures largest; where they would be too small, the grid scrolls. Height that pictures leave is the lanes'.
export function layOut() {
  const main = document.querySelector("main");
  if (main.classList.contains("folded")) main.style.gridTemplateRows = ""; // before anything is measured
  const number = enlarged === null ? state.cameras.size : 1;
  const flows = getComputedStyle(document.documentElement).getPropertyValue("--flows").trim() === "yes";
  const width = find("cameras").clientWidth - 2 * EDGE;
  const height = main.clientHeight - 3 * GAP - lowest(main) - 2 * EDGE;
  const aspect = Math.min(...[...state.cameras.values()].map(({ size: [wide, high] }) => (wide && high ? wide / high : 4 / 3)));
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= number; columns += 1) {
    const rows = Math.ceil(number / columns);
    const across = (width - GAP * (columns - 1)) / columns;
    const down = ((height - GAP * (rows - 1)) / rows - CAPTION) * aspect;
    const size = Math.floor(Math.min(across, down));
    if (size > best.size) best = { columns, size, used: rows * (size / aspect + CAPTION) + GAP * (rows - 1) };
  }
  if (flows || best.size < SMALLEST) {
    const least = flows ? 1.6 * SMALLEST : SMALLEST;
    const columns = Math.max(Math.min(Math.floor((width + GAP) / (least + GAP)), number), flows && number > 3 ? 2 : 1, 1);
    best = { columns, size: Math.floor((width - GAP * (columns - 1)) / columns) };
  }
  find("grid").style.gridTemplateColumns = `repeat(${best.columns}, ${best.size}px)`;
  const fixed = best.used && !main.classList.contains("folded");
  main.style.gridTemplateRows = fixed ? `${Math.ceil(best.used) + 2 * EDGE}px minmax(0, 1fr)` : "";
}

const lowest = (main) => (main.classList.contains("folded") ? find("below").offsetHeight : Math.max(150, window.innerHeight * 0.27));
