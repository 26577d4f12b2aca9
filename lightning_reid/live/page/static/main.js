// Puts the parts together: what the link brings goes into the state, and the parts draw it.

import { prepareAsking, toast } from "./ask.js";
import { drawCameras, drawPicture, inSight, layOut } from "./cameras.js";
import { drawHealth, drawLog } from "./health.js";
import { drawLanes } from "./lanes.js";
import { Link } from "./link.js";
import { drawPeople, preparePeople } from "./people.js";
import { state, takeTick } from "./state.js";
import { prepareTabs } from "./tabs.js";
import { drawTop, prepareTop, showLink } from "./top.js";

const SLOWLY = 300; // milliseconds between drawings of what need not move with the pictures
let drawn = 0;

function drawAll() {
  drawn = performance.now();
  drawTop();
  drawPeople();
  drawLanes();
  drawHealth();
  drawLog();
}

const link = new Link({
  show: () => ({ pictures: !state.privacy, cameras: inSight() }),
  onPicture: drawPicture,
  onCrop(head, bitmap) {
    state.crops.get(head.key)?.close();
    if (state.privacy) return bitmap.close();
    state.crops.set(head.key, bitmap);
  },
  onTick(tick, fresh) {
    takeTick(tick, fresh);
    drawCameras();
    if (fresh || performance.now() - drawn > SLOWLY) drawAll();
  },
  onRefused: toast,
  onLink(now, wait) {
    showLink(now, wait);
    if (now !== "lost") return;
    for (const camera of state.cameras.values()) camera.state = "lost"; // a picture that stands still is not live
    drawCameras();
  },
});

prepareTop(() => {
  link.tellShow();
  drawCameras();
  drawAll();
});
preparePeople();
prepareTabs(() => {
  layOut();
  drawAll();
});
prepareAsking((message) => link.send(message));
document.addEventListener("followed", () => {
  drawCameras();
  drawAll();
});
document.addEventListener("shown", () => link.tellShow());
document.addEventListener("visibilitychange", () => link.tellShow());
new ResizeObserver(() => {
  layOut();
  drawLanes();
}).observe(document.querySelector("main"));
