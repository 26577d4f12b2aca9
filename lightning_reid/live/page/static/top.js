// The line at the top: counters, whom one follows, the privacy switch, the connection.

import { attribute, find, text } from "./dom.js";
import { follow, isLive, lastSeen, lastTrack, setPrivacy, state } from "./state.js";
import { age, count, latency, paint } from "./words.js";

export function drawTop() {
  for (const place of find("counters").children) {
    const value = state.counters[place.dataset.of];
    text(place.firstElementChild, place.dataset.of === "latency" ? latency(value) : count(value));
  }
  const privacy = find("privacy");
  privacy.checked = state.privacy || !state.allowed;
  privacy.disabled = !state.allowed;
  drawFollowing();
}

function drawFollowing() {
  const card = state.people.get(state.followed);
  find("following").hidden = !card;
  document.documentElement.classList.toggle("follows", Boolean(card));
  if (!card) return;
  const last = lastTrack(card);
  text(find("following-chip"), String(card.id));
  paint(find("following"), card.id);
  text(find("following-where"), isLive(card) ? `is in ${last.camera}` : `seen in ${last.camera} ${age(state.now - lastSeen(card))} ago`);
}

export function showLink(link, wait) {
  attribute(document.documentElement, "data-link", link);
  text(find("link-text"), link === "live" ? "Connected" : `Connection lost, trying again${wait > 1500 ? ` in ${Math.round(wait / 1000)} s` : ""}`);
}

export function prepareTop(changed) {
  find("privacy").checked = state.privacy;
  find("privacy").addEventListener("change", (event) => {
    setPrivacy(event.target.checked);
    changed();
  });
  find("unfollow").addEventListener("click", () => follow(null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.followed !== null && !find("ask").open) follow(null);
  });
}
