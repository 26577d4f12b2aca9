// Lanes, health and log share a place.

import { attribute, find, text } from "./dom.js";

export function prepareTabs(opened) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const open = (tab) => {
    for (const one of tabs) {
      const chosen = one === tab;
      attribute(one, "aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
      find(one.getAttribute("aria-controls")).hidden = !chosen;
    }
    opened();
  };
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      next.focus();
      open(next);
    });
  }
  find("fold").addEventListener("click", () => {
    const folded = document.querySelector("main").classList.toggle("folded");
    attribute(find("fold"), "aria-expanded", String(!folded));
    text(find("fold"), folded ? "Lanes, health, log" : "Fold");
    opened();
  });
  find("span").addEventListener("change", opened);
}
