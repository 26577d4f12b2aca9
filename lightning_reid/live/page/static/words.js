// How numbers, times and people are written and colored.

// Golden angle: neighbors in number are far apart in hue, and a number has its hue for good.
export const hue = (identity) => (identity * 137.508 + 25) % 360;

export function paint(element, identity) {
  element.style.setProperty("--hue", identity === null ? "0" : hue(identity).toFixed(1));
  element.classList.toggle("nobody", identity === null);
}

export function age(seconds) {
  if (seconds < 90) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const A_YEAR = 3.2e7;

// Recordings count from 0; everything else is the time of day.
export function time(seconds) {
  if (seconds > A_YEAR) return clock.format(seconds * 1000);
  const whole = Math.max(Math.floor(seconds), 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function latency(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

const grouped = new Intl.NumberFormat("en");
export const count = (value) => (value === null || value === undefined ? "–" : grouped.format(value));

export function stateOf(camera) {
  if (camera.state === "live") return "live";
  if (camera.state === "waiting") return "waiting for the first frame";
  if (camera.state === "lost") return "connection lost";
  return `${camera.state} since ${age(camera.age)}`;
}
