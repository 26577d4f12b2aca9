// Identity cards: one crop a camera, where the person went, and how sure each match was.

import { ask } from "./ask.js";
import { attribute, find, keep, make, text } from "./dom.js";
import { follow, inView, isLive, lastSeen, lastTrack, state } from "./state.js";
import { age, paint, time } from "./words.js";

const cards = new Map();
const MOST_MATCHES = 3; // on a card that is not followed
const MOST_LEFT = 20; // people who have left, unless one asks for more
const HELD = 8000; // milliseconds: nothing moves away under a hand
let all = false;
let touched = -HELD;

export function preparePeople() {
  for (const kind of ["pointermove", "pointerdown", "keydown", "focusin", "wheel"]) {
    find("cards").addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
  }
  find("more").addEventListener("click", () => {
    all = true;
    drawPeople();
  });
}

export function drawPeople() {
  const list = find("cards");
  const held = performance.now() - touched < HELD && (list.matches(":hover") || list.contains(document.activeElement));
  const order = held ? heldOrder() : freshOrder();
  keep(list, cards, order.map((identity) => [identity, state.people.get(identity)]), makeCard, changeCard, { ordered: true });
  find("no-people").hidden = state.people.size > 0;
  find("more").hidden = all || state.people.size <= cards.size;
  text(find("more"), `Show ${state.people.size - cards.size} more who have left`);
}

const heldOrder = () => [...[...find("cards").children].map((one) => one.identity).filter((one) => state.people.has(one)),
  ...freshOrder().filter((one) => !cards.has(one))];

function freshOrder() {
  const began = (card) => lastTrack(card).from;
  const sorted = [...state.people.values()].sort((one, other) => (other.id === state.followed) - (one.id === state.followed) ||
    isLive(other) - isLive(one) || (isLive(one) ? began(other) - began(one) : lastSeen(other) - lastSeen(one)) || one.id - other.id);
  const here = sorted.filter((card) => isLive(card) || card.id === state.followed).length;
  return sorted.slice(0, all ? sorted.length : here + MOST_LEFT).map((card) => card.id);
}

function makeCard(card, identity) {
  const chip = make("span", { className: "chip", textContent: String(identity) });
  const [where, when] = [make("span", { className: "where" }), make("span", { className: "when" })];
  const head = make("button", { type: "button", className: "head" }, chip, make("span", { className: "lines" }, where, when));
  head.addEventListener("click", () => follow(identity));
  const [crops, matches] = [make("div", { className: "crops" }), make("ol", { className: "matches" })];
  const forget = make("button", { type: "button", className: "quiet forget", textContent: "Forget this person" });
  forget.addEventListener("click", () => ask.forget(identity));
  const made = make("li", { className: "card" }, head, crops, matches, forget);
  made.parts = { head, where, when, crops, matches };
  Object.assign(made, { identity, crops: new Map(), matches: new Map() });
  paint(made, identity);
  return made;
}

function changeCard(made, card, identity) {
  const last = lastTrack(card);
  const live = isLive(card);
  const followed = identity === state.followed;
  made.classList.toggle("left", !live);
  made.classList.toggle("followed", followed);
  attribute(made.parts.head, "aria-pressed", String(followed));
  attribute(made.parts.head, "aria-label", `Follow person ${identity}, ${live ? "in" : "last in"} ${last.camera}`);
  text(made.parts.where, live ? now(card) : last.camera);
  text(made.parts.when, live ? `since ${time(last.from)}` : `seen ${age(state.now - lastSeen(card))} ago`);
  keep(made.parts.crops, made.crops, bestCrops(card), makeCrop, changeCrop);
  const matches = followed ? card.matches : card.matches.slice(-MOST_MATCHES);
  keep(made.parts.matches, made.matches, matches.map((one) => [`${one.track} ${one.other} ${one.at}`, one]), makeMatch, () => {});
}

const now = (card) => [...new Set(card.tracks.filter(inView).map((track) => track.camera))].join(", ");

// Of each camera the track in which the person was seen largest.
function bestCrops(card) {
  const best = new Map();
  for (const track of card.tracks) if (!best.has(track.camera) || best.get(track.camera).area < track.area) best.set(track.camera, track);
  return best;
}

function makeCrop(track) {
  const canvas = make("canvas", { width: 45, height: 90, role: "img" });
  const caption = make("figcaption", { textContent: track.camera, title: track.camera });
  const made = make("figure", {}, canvas, caption, make("span", { className: "muted" }));
  made.canvas = canvas;
  return made;
}

export function changeCrop(made, track) {
  const bitmap = state.privacy ? undefined : state.crops.get(track.key);
  text(made.lastChild, time(track.from));
  attribute(made.canvas, "aria-label", bitmap ? `In ${track.camera} at ${time(track.from)}` : `No picture from ${track.camera}`);
  if (made.bitmap === bitmap) return;
  made.bitmap = bitmap;
  const { canvas } = made;
  canvas.classList.toggle("full", Boolean(bitmap));
  Object.assign(canvas, bitmap ? { width: bitmap.width, height: bitmap.height } : { width: 45, height: 90 });
  if (bitmap) canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

export function cropOf(key) {
  const track = [...state.people.values()].flatMap((card) => card.tracks).find((one) => one.key === key);
  if (!track) return null;
  const made = makeCrop(track);
  changeCrop(made, track);
  return made;
}

function makeMatch(match) {
  const path = make("span", { className: "path", title: `${match.from} → ${match.to}` }, make("span", { textContent: match.from }), " → ", make("span", { textContent: match.to }));
  const sure = make("span", { textContent: match.similarity.toFixed(2), title: "Similarity of the two, at most 1" });
  const when = make("span", { className: "muted", textContent: time(match.at) });
  const wrong = make("button", { type: "button", className: "quiet wrong", textContent: "Wrong?" });
  wrong.setAttribute("aria-label", `Wrong match: ${match.from} to ${match.to}`);
  wrong.addEventListener("click", () => ask.undo(match));
  return make("li", {}, path, sure, when, wrong);
}
