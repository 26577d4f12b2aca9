// The two things that cannot be taken back are asked for first.

import { find, make, text } from "./dom.js";
import { cropOf } from "./people.js";
import { follow, state } from "./state.js";
import { time } from "./words.js";

let agreed = () => {};
let send = () => false;

export const ask = {
  undo(match) {
    const pictures = [match.other, match.track].map(cropOf).filter(Boolean);
    const told = `${match.from} → ${match.to}, at ${time(match.at)}, similarity ${match.similarity.toFixed(2)}.`;
    const body = [make("div", { className: "crops large" }, ...pictures), make("p", { textContent: told }),
      make("p", { className: "muted", textContent: "They get two numbers from now on, and are not matched with each other again. This is logged." })];
    open("Are these two different people?", body, "They are different", { kind: "undo", track: match.track, other: match.other });
  },
  forget(identity) {
    const told = "Features and crops of this person are deleted. Whoever is still in view gets a new number, of which nothing is kept but the boxes. This is logged.";
    open(`Forget person ${identity}?`, [make("p", { textContent: told })], "Forget", { kind: "forget", identity }, () => {
      if (state.followed === identity) follow(null);
    });
  },
};

function open(title, body, yes, message, also = () => {}) {
  text(find("ask-title"), title);
  find("ask-body").replaceChildren(...body);
  text(find("ask-yes"), yes);
  agreed = () => {
    const sent = send(message);
    if (sent) also();
    toast(sent ? "Asked for. It takes a moment." : "There is no connection: nothing was asked for.");
  };
  find("ask").showModal();
  find("ask-no").focus();
}

export function prepareAsking(sender) {
  send = sender;
  find("ask-no").addEventListener("click", () => find("ask").close());
  find("ask-yes").addEventListener("click", () => {
    find("ask").close();
    agreed();
  });
}

let hiding = null;

export function toast(words) {
  const shown = find("toast");
  text(shown, words);
  shown.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { shown.hidden = true; }, 6000);
}
