// The page: connects its parts with the server.

import { Cameras } from "./cameras.js";
import { setText } from "./dom.js";
import { Events } from "./events.js";
import { Live } from "./live.js";
import { MasksDialog } from "./masks.js";
import { SettingsDialog } from "./settings.js";

const byId = (id) => document.getElementById(id);

const live = new Live();
const masks = new MasksDialog(byId("masks"));
const settings = new SettingsDialog(byId("settings"));
const cameras = new Cameras(byId("cameras"), live, {
  masks: (camera, tile) => masks.open(camera, tile),
  settings: (camera) => settings.open(camera),
});
const events = new Events(byId("events"), (id) => cameras.name(id));

function update({ cameras: list, storage_error: problem }) {
  cameras.update(list);
  setText(byId("problem"), problem ? `Events cannot be stored: ${problem}` : "");
  byId("problem").hidden = !problem;
  const count = (...states) => list.filter(({ state }) => states.includes(state)).length;
  const parts = [
    [list.length, list.length === 1 ? "camera" : "cameras"],
    [list.filter(({ event }) => event).length, "anomalous"],
    [count("lost"), "lost"],
    [count("connecting", "warming-up", "calibrating"), "starting"],
  ];
  setText(byId("summary"), parts.filter(([number], at) => at === 0 || number > 0).map((part) => part.join(" ")).join(" · "));
  const open = list.some(({ event }) => event);
  document.title = open ? "● Anomaly – Watch" : "Watch";
}

// ---- the stream of states, scores and events ----

let source = null;
let known = false;

function connect() {
  source?.close();
  source = new EventSource("/api/stream");
  const on = (name, handler) => source.addEventListener(name, ({ data }) => handler(JSON.parse(data)));
  // The first message after every connection: everything, so that nothing is missed.
  on("hello", ({ now, scores, ...overview }) => {
    byId("offline").hidden = true;
    update(overview);
    cameras.scores(now, scores, true);
    if (!known) events.setCameras(cameras.list);
    known = true;
    events.reload();
  });
  on("cameras", update);
  on("scores", ({ now, scores }) => cameras.scores(now, scores));
  on("event", (event) => events.put(event));
  source.onerror = () => {
    byId("offline").hidden = document.hidden;
    // The browser does not retry after a refusal.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

// A hidden page takes nothing: browsers open only six connections to a server, for all its windows together.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source?.close();
  else connect();
  live.restart();
});

// ---- views, wall display, theme ----

function show(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll(".tabs button")) {
    if (button.dataset.view === view) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  if (view === "events") events.seen();
}
for (const button of document.querySelectorAll(".tabs button")) {
  button.addEventListener("click", () => show(button.dataset.view));
}

function wall(on) {
  document.body.classList.toggle("wall", on);
  byId("wall").setAttribute("aria-pressed", String(on));
  localStorage.setItem("watch.wall", on ? "1" : "");
}
byId("wall").addEventListener("click", () => wall(!document.body.classList.contains("wall")));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key === "w" && !typing && !event.ctrlKey && !event.metaKey) byId("wall").click();
});

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}
byId("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "light" : "dark";
  localStorage.setItem("watch.theme", next);
  theme(next);
});

theme(localStorage.getItem("watch.theme"));
wall(localStorage.getItem("watch.wall") === "1");
connect();
