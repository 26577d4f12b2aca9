// What the server has told, and what whoever watches has chosen.

export const state = {
  now: 0,
  cameras: new Map(), // name -> what the last tick told, with boxes
  people: new Map(), // identity -> card
  crops: new Map(), // key of a track -> bitmap
  sights: new Map(), // key of a track -> when it was in a frame last
  notes: [],
  counters: {},
  followed: null,
  followedTracks: new Set(),
  privacy: readPrivacy(),
  allowed: true, // whether the server gives pictures at all
  changed: true, // cards have changed since they were drawn
};

const MOST_NOTES = 200;
const MISSED = 1; // seconds that somebody may be in no frame and still is in view
const byName = new Intl.Collator([], { numeric: true });

function readPrivacy() {
  try {
    return localStorage.getItem("boxes-only") === "yes";
  } catch {
    return true; // a browser that keeps nothing starts without pictures
  }
}

export function setPrivacy(on) {
  state.privacy = on;
  try {
    localStorage.setItem("boxes-only", on ? "yes" : "no");
  } catch { /* it holds for this visit then */ }
  if (on) {
    for (const bitmap of state.crops.values()) bitmap.close();
    state.crops.clear();
  }
  state.changed = true;
}

// Follow a person; the one who is followed already is let go of, and so is everybody with null.
export function follow(identity) {
  state.followed = state.followed === identity ? null : identity;
  rememberTracks();
  state.changed = true;
  document.dispatchEvent(new CustomEvent("followed"));
}

export function takeTick(tick, fresh) {
  state.now = tick.now;
  state.counters = tick.counters;
  state.allowed = tick.pictures;
  takeCameras(tick.cameras);
  if (fresh) {
    state.people.clear();
    state.notes.length = 0;
  }
  for (const card of tick.cards) state.people.set(card.id, card);
  if (tick.known || fresh) {
    const known = new Set(tick.known ?? []);
    for (const identity of state.people.keys()) if (!known.has(identity)) state.people.delete(identity);
    stayWithFollowed();
    dropOfNobody();
    state.changed = true;
  }
  state.notes.unshift(...tick.notes.reverse());
  state.notes.length = Math.min(state.notes.length, MOST_NOTES);
}

function takeCameras(cameras) {
  const names = new Set();
  for (const told of cameras.sort((one, other) => byName.compare(one.name, other.name))) {
    names.add(told.name);
    const before = state.cameras.get(told.name);
    state.cameras.delete(told.name); // set anew, in order
    const camera = { boxes: before?.boxes ?? [], stages: before?.stages ?? [], ...told };
    state.cameras.set(told.name, camera);
    if (told.boxes) takeBoxes(camera, told.boxes, told.epoch);
  }
  for (const name of state.cameras.keys()) if (!names.has(name)) state.cameras.delete(name);
}

// Numbers are corrected: whoever is followed is followed on under the new one.
function stayWithFollowed() {
  if (state.followed === null) return;
  const same = state.people.get(state.followed)?.tracks.some((track) => state.followedTracks.has(track.key));
  if (!same) {
    const found = [...state.people.values()].find((card) => card.tracks.some((track) => state.followedTracks.has(track.key)));
    state.followed = found ? found.id : null;
    document.dispatchEvent(new CustomEvent("followed"));
  }
  rememberTracks();
}

function rememberTracks() {
  const card = state.people.get(state.followed);
  state.followedTracks = new Set(card ? card.tracks.map((track) => track.key) : []);
}

function dropOfNobody() {
  const tracks = new Set([...state.people.values()].flatMap((card) => card.tracks.map((track) => track.key)));
  for (const key of state.sights.keys()) if (!tracks.has(key)) state.sights.delete(key);
  for (const [key, bitmap] of state.crops) {
    if (!tracks.has(key)) {
      bitmap.close();
      state.crops.delete(key);
    }
  }
}

// A tracker waits for who is hidden; here nobody is in view who was not in a frame lately, or whose camera has stalled.
export const untilOf = (track) => (track.live ? Math.max(state.sights.get(track.key) ?? 0, track.until) : track.until);

export function inView(track) {
  const camera = state.cameras.get(track.camera);
  return track.live && camera?.state === "live" && camera.at - untilOf(track) < MISSED;
}

export function takeBoxes(camera, boxes, epoch) {
  camera.boxes = boxes;
  for (const [track] of boxes) state.sights.set(`${epoch}/${track}/${camera.name}`, camera.at);
}
export const isLive = (card) => card.tracks.some(inView);
export const lastTrack = (card) => card.tracks.reduce((one, other) => (after(other, one) ? other : one));
export const lastSeen = (card) => Math.max(...card.tracks.map(untilOf));

function after(one, other) {
  if (inView(one) !== inView(other)) return inView(one);
  return inView(one) ? one.from >= other.from : untilOf(one) >= untilOf(other);
}
