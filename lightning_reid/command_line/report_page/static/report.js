// The map: a mark shows its crop when it is pointed at or reached by keys; one stop of the tab key, arrows go on from there.
"use strict";
const [WIDTH, HEIGHT] = [960, 600]; // of the map as it is written
const NARROW = 620;
const map = document.querySelector(".map");
if (map) {
  const box = map.parentElement;
  const tip = document.getElementById("tip");
  const marks = [...map.querySelectorAll(".point")];
  const shares = marks.map((mark) => mark.transform.baseVal.consolidate().matrix).map(({ e, f }) => [e / WIDTH, f / HEIGHT]);
  let places = [];
  let entry = 0;
  marks.forEach((mark, number) => mark.setAttribute("tabindex", number ? "-1" : "0"));

  // Marks keep their size in pixels, however wide the map is: on a telephone they would be dots.
  const lay = () => {
    const wide = Math.max(200, box.clientWidth);
    const high = wide * (wide < NARROW ? 1.1 : HEIGHT / WIDTH);
    map.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    places = shares.map(([x, y]) => [x * wide, y * high]);
    marks.forEach((mark, number) => mark.setAttribute("transform", `translate(${places[number].join()})`));
  };
  lay();
  new ResizeObserver(lay).observe(box);

  const clear = () => {
    tip.hidden = true;
    map.classList.remove("looking");
    marks.forEach((mark) => mark.classList.remove("same", "here"));
  };

  const show = (mark) => {
    clear();
    const { crop, said, file, person } = mark.dataset;
    tip.querySelector("img").src = crop;
    tip.querySelector("p").textContent = `${said}\n${file}`;
    tip.hidden = false;
    map.classList.add("looking");
    mark.classList.add("here");
    marks.forEach((one) => one.classList.toggle("same", one.dataset.person === person));
    const [here, around] = [mark.getBoundingClientRect(), box.getBoundingClientRect()];
    const left = here.right - around.left + 10;
    const fits = left + tip.offsetWidth <= around.width;
    const wanted = fits ? left : here.left - around.left - tip.offsetWidth - 10;
    const top = (here.top + here.bottom) / 2 - around.top - tip.offsetHeight / 2;
    tip.style.left = `${Math.max(2, Math.min(wanted, around.width - tip.offsetWidth - 2))}px`;
    tip.style.top = `${Math.max(2, Math.min(top, around.height - tip.offsetHeight - 2))}px`;
  };

  const enter = (number) => {
    marks[entry].setAttribute("tabindex", "-1");
    entry = number;
    marks[entry].setAttribute("tabindex", "0");
    marks[entry].focus();
  };

  // The nearest mark in a direction; what lies aside counts double, so that a way back leads back more often than not.
  const nearest = (from, [right, down]) => {
    let best = from;
    let least = Infinity;
    places.forEach((place, number) => {
      const [x, y] = [place[0] - places[from][0], place[1] - places[from][1]];
      const ahead = x * right + y * down;
      const cost = Math.abs(ahead) + 2 * Math.abs(x * down + y * right);
      if (number !== from && ahead > 0 && cost < least) [best, least] = [number, cost];
    });
    return best;
  };

  const KEYS = {
    ArrowRight: (from) => nearest(from, [1, 0]),
    ArrowLeft: (from) => nearest(from, [-1, 0]),
    ArrowDown: (from) => nearest(from, [0, 1]),
    ArrowUp: (from) => nearest(from, [0, -1]),
    PageDown: (from) => (from + 1) % marks.length, // one person after the other: no mark is out of reach
    PageUp: (from) => (from - 1 + marks.length) % marks.length,
    Home: () => 0,
    End: () => marks.length - 1,
  };

  // At the box, not the map: Chromium makes an svg that listens for focus a stop of the tab key, at which arrows do nothing.
  box.addEventListener("pointerover", (event) => event.target.matches(".point") && show(event.target));
  map.addEventListener("pointerleave", () => (marks.includes(document.activeElement) ? show(document.activeElement) : clear()));
  box.addEventListener("click", (event) => event.target.matches(".point") && enter(marks.indexOf(event.target)));
  box.addEventListener("focusin", (event) => event.target.matches(".point") && show(event.target));
  box.addEventListener("focusout", clear);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") clear();
    const from = marks.indexOf(event.target);
    if (from < 0 || !(event.key in KEYS) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    enter(KEYS[event.key](from));
  });
}
