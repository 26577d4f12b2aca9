// Elements made and changed in place. Text goes in as text only: what a camera is called is never markup.

export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

export function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export const find = (id) => document.getElementById(id);

// Keeps one element a key below a parent: makes what is new, changes what stays, removes what is gone. What stays is not moved
// unless the order asks for it, so a click that has begun ends on the same element.
export function keep(parent, known, entries, create, change, { ordered = false } = {}) {
  const keys = new Set();
  const focused = document.activeElement;
  let before = null;
  for (const [key, entry] of entries) {
    keys.add(key);
    let element = known.get(key);
    if (!element) {
      element = create(entry, key);
      known.set(key, element);
      if (!ordered) parent.append(element);
    }
    if (ordered) {
      const place = before ? before.nextSibling : parent.firstChild;
      if (place !== element) parent.insertBefore(element, place);
      before = element;
    }
    change(element, entry, key);
  }
  for (const [key, element] of known) {
    if (!keys.has(key)) {
      known.delete(key);
      element.remove();
    }
  }
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true }); // it was moved
}
