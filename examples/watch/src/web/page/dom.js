// Building blocks of the page: elements, times, short messages.

/** An element with properties and children; a property that the element lacks becomes an attribute. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon, whose label is its tooltip. */
export function iconButton(name, label, onclick) {
  const button = h("button", { type: "button", className: "icon", title: label, onclick }, icon(name));
  button.setAttribute("aria-label", label);
  return button;
}

/** A message at the bottom edge, for some seconds. */
export function toast(text, kind = "info") {
  const element = h("p", { className: `toast ${kind}` }, text);
  const toasts = document.getElementById("toasts");
  // A modal dialog covers everything but what is inside it.
  const dialog = [...document.querySelectorAll("dialog[open]")].pop();
  (dialog ?? document.body).append(toasts);
  toasts.append(element);
  setTimeout(() => element.remove(), kind === "error" ? 8000 : 3500);
}

/** The text of an element, changed only where it differs. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Closes a dialog by its button and by a click beside it. */
export function closable(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return iconButton("close", "Close (Esc)", () => dialog.close());
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

/** The time of day of a time in milliseconds. */
export const timeOfDay = (ms) => clock.format(ms);

/** "Today", "Yesterday" or the date. */
export function dayName(ms) {
  const start = new Date();
  start.setHours(0, 0, 0, 0);
  if (ms >= start.getTime()) return "Today";
  start.setDate(start.getDate() - 1);
  return ms >= start.getTime() ? "Yesterday" : day.format(ms);
}

export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}\u00a0s`;
  if (seconds < 60) return `${Math.round(seconds)}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}\u00a0min ${Math.round(seconds % 60)}\u00a0s`;
  return `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}
