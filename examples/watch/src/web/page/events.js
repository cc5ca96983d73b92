// The list of events, its filter, and the player.

import * as api from "./api.js";
import { closable, dayName, duration, h, icon, iconButton, setText, timeOfDay, toast } from "./dom.js";

const PAGE = 30;
/** Entries that the list holds at most; a wall display runs for weeks. */
const LONGEST = 300;
const STORED_FILTER = "watch.filter";
/** Seconds before an event that are played, too, where its clip has them: it may begin with other events. */
const LEAD_IN = 5;

/** Ids rise with the begins of events, except for those that begin at the same time on several cameras. */
const newerFirst = (a, b) => b.begin - a.begin || b.id - a.id;

/** Highest score, cue and length. */
const facts = (event) => {
  const length = event.end === null ? "" : duration(event.end - event.begin);
  return [event.peak.toFixed(2), event.cue, length].filter(Boolean).join(" · ");
};

/** The entry of an event in the list. */
class Entry {
  constructor(event, list) {
    this.list = list;
    this.image = h("img", { alt: "", loading: "lazy", decoding: "async", width: 128, height: 72 });
    this.play = h("span", { className: "play" }, icon("play"));
    this.name = h("strong");
    this.time = h("time");
    this.facts = h("span", { className: "facts", title: "Highest score, cue, length" });
    this.status = h("span", { className: "chip", hidden: true });
    this.accept = iconButton("check", "This was normal", () => list.accept(this.event));
    this.accept.classList.add("accept");
    this.open = h(
      "button",
      { type: "button", className: "event-open", onclick: () => list.player.open(this.event) },
      h("span", { className: "thumb" }, this.image, this.play),
      h("span", { className: "event-text" }, h("span", { className: "event-line" }, this.name, this.time), this.facts, this.status),
    );
    this.element = h("li", { className: "event" }, this.open, this.accept);
    this.element.dataset.event = event.id;
    this.update(event);
  }

  update(event) {
    this.event = event;
    setText(this.name, this.list.cameraName(event.camera));
    setText(this.time, timeOfDay(event.begin));
    this.time.dateTime = new Date(event.begin).toISOString();
    this.time.title = new Date(event.begin).toLocaleString();
    setText(this.facts, facts(event));
    const picture = event.thumbnail ? api.thumbnailOf(event) : "";
    if (picture && this.image.getAttribute("src") !== picture) this.image.src = picture;
    this.image.hidden = !picture;
    this.play.hidden = !event.clip;
    const status = event.accepted ? "normal" : event.end === null ? "going on" : event.reason === "absorbed" ? "became normal" : "";
    setText(this.status, status);
    this.status.hidden = !status;
    this.status.dataset.kind = event.accepted ? "good" : event.end === null ? "bad" : "idle";
    this.accept.disabled = event.accepted;
    this.element.classList.toggle("accepted", event.accepted);
    this.element.classList.toggle("open", event.end === null);
  }
}

/** The dialog that plays an event's clip. */
class Player {
  #event = null;

  constructor(dialog, list) {
    this.dialog = dialog;
    this.list = list;
    this.title = h("h2", { id: "player-title" });
    this.video = h("video", { controls: true, playsInline: true, muted: true, preload: "auto" });
    this.still = h("img", { alt: "The strongest frame of the event" });
    this.note = h("p", { className: "note" });
    this.facts = h("p", { className: "facts" });
    this.accept = h("button", { type: "button", className: "accept", onclick: () => this.list.accept(this.#event) }, icon("check"), "This was normal");
    this.accepted = h("span", { className: "chip" }, "accepted as normal");
    this.accepted.dataset.kind = "good";
    this.download = h("a", { className: "button" }, "Download");
    this.newer = iconButton("previous", "Newer event (←)", () => this.#step(-1));
    this.older = iconButton("next", "Older event (→)", () => this.#step(1));
    this.video.addEventListener("error", () => {
      if (this.dialog.open && this.video.getAttribute("src")) setText(this.note, "The clip cannot be played.");
    });
    dialog.append(
      h("div", { className: "dialog-head" }, this.title, this.newer, this.older, closable(dialog)),
      h("div", { className: "stage" }, this.video, this.still),
      h("div", { className: "dialog-foot" }, h("div", { className: "grow" }, this.facts, this.note), this.accepted, this.download, this.accept),
    );
    dialog.addEventListener("close", () => this.#stop());
    dialog.addEventListener("keydown", (event) => {
      if (event.target === this.video) return;
      if (event.key === "ArrowLeft") this.#step(-1);
      if (event.key === "ArrowRight") this.#step(1);
    });
  }

  open(event) {
    this.#show(event);
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** Follows a change of the event that is shown. */
  update(event) {
    if (this.dialog.open && this.#event?.id === event.id) this.#show(event);
  }

  #show(event) {
    this.#event = event;
    setText(this.title, this.list.cameraName(event.camera));
    setText(this.facts, `${dayName(event.begin)} ${timeOfDay(event.begin)} · ${facts(event)}`);
    const start = Math.max(0, (event.begin - (event.clip_begin ?? event.begin)) / 1000 - LEAD_IN);
    const clip = event.clip ? `${api.clipOf(event)}#t=${start.toFixed(1)}` : "";
    if (clip && this.video.getAttribute("src") !== clip) {
      this.video.src = clip;
      this.video.poster = event.thumbnail ? api.thumbnailOf(event) : "";
      this.video.play().catch(() => {});
    }
    if (!clip) this.#stop();
    this.video.hidden = !clip;
    this.still.hidden = Boolean(clip) || !event.thumbnail;
    if (event.thumbnail) this.still.src = api.thumbnailOf(event);
    setText(this.note, clip ? "" : event.end === null ? "The clip is being recorded." : "There is no clip of this event.");
    this.download.hidden = !clip;
    this.download.href = event.clip ? api.clipOf(event) : "#";
    this.download.download = `${event.camera}-${event.id}`;
    this.accept.hidden = event.accepted;
    this.accepted.hidden = !event.accepted;
    this.newer.disabled = !this.list.neighbour(event, -1);
    this.older.disabled = !this.list.neighbour(event, 1);
  }

  #step(by) {
    const event = this.list.neighbour(this.#event, by);
    if (event) this.#show(event);
  }

  #stop() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}

/** Events newest first, as the filter says. */
export class Events {
  #entries = new Map();
  #cameraName;
  #loading = 0;
  /** Events that have changed since the last request: its answer is older. */
  #changed = new Set();
  #seen = 0;

  constructor(root, cameraName) {
    this.root = root;
    this.#cameraName = cameraName;
    this.list = root.querySelector("#event-list");
    this.empty = root.querySelector("#no-events");
    this.more = root.querySelector("#more");
    this.form = root.querySelector("#filter");
    this.player = new Player(document.getElementById("player"), this);
    this.more.addEventListener("click", () => this.#load(this.#oldest()));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", () => {
      localStorage.setItem(STORED_FILTER, JSON.stringify(this.#filter()));
      this.reload();
    });
  }

  cameraName(id) {
    return this.#cameraName(id);
  }

  /** Fills the choice of cameras and restores the stored filter. */
  setCameras(cameras) {
    const { camera, time, from, to } = this.form.elements;
    camera.replaceChildren(h("option", { value: "" }, "All cameras"), ...cameras.map(({ id, name }) => h("option", { value: id }, name)));
    try {
      const stored = JSON.parse(localStorage.getItem(STORED_FILTER)) ?? {};
      time.value = stored.time ?? "";
      from.value = stored.from ?? "";
      to.value = stored.to ?? "";
      camera.value = stored.camera ?? "";
    } catch {
      localStorage.removeItem(STORED_FILTER);
    }
    if (camera.selectedIndex < 0) camera.value = "";
    if (time.selectedIndex < 0) time.value = "";
  }

  #filter() {
    const { camera, time, from, to } = this.form.elements;
    return { camera: camera.value, time: time.value, from: from.value, to: to.value };
  }

  /** The filter as the bounds of the request. */
  #query() {
    const { camera, time, from, to } = this.#filter();
    const query = {};
    if (camera) query.camera = camera;
    if (time === "custom") {
      if (from) query.from = new Date(from).getTime();
      if (to) query.to = new Date(to).getTime();
    } else if (time) {
      query.from = Date.now() - Number(time) * 1000;
    }
    return query;
  }

  #matches(event) {
    const { camera, from = -Infinity, to = Infinity } = this.#query();
    return (!camera || event.camera === camera) && (event.end ?? Infinity) >= from && event.begin < to;
  }

  async reload() {
    this.form.querySelector(".custom").hidden = this.form.elements.time.value !== "custom";
    await this.#load(null);
  }

  /** Loads the newest events, or those before `before`. */
  async #load(before) {
    const request = ++this.#loading;
    this.#changed.clear();
    const query = { ...this.#query(), limit: PAGE };
    if (before !== null) query.before = before;
    let events;
    try {
      ({ events } = await api.events(query));
    } catch (error) {
      toast(`Events: ${error.message}`, "error");
      return;
    }
    if (request !== this.#loading) return;
    if (before === null) {
      const listed = new Set(events.map(({ id }) => id));
      for (const [id, entry] of this.#entries) {
        if (!listed.has(id) && !this.#changed.has(id)) this.#remove(entry);
      }
    }
    for (const event of events) {
      if (!this.#changed.has(event.id)) this.#put(event);
    }
    this.more.hidden = events.length < PAGE;
    this.#headings();
  }

  /** Takes a new or changed event. */
  put(event) {
    this.player.update(event);
    this.#changed.add(event.id);
    if (this.#entries.has(event.id) || this.#matches(event)) {
      const oldest = this.#oldest();
      // What is older than the list comes with "Older events".
      if (!this.#entries.has(event.id) && !this.more.hidden && oldest !== null && event.id < oldest) return;
      if (!this.#entries.has(event.id)) this.#count(event);
      this.#put(event);
      while (this.#entries.size > LONGEST) {
        this.#remove(this.#entries.get(this.#oldest()));
        this.more.hidden = false;
      }
      this.#headings();
    }
  }

  #remove(entry) {
    entry.element.remove();
    this.#entries.delete(entry.event.id);
  }

  #put(event) {
    const known = this.#entries.get(event.id);
    if (known) {
      known.update(event);
      return;
    }
    const entry = new Entry(event, this);
    this.#entries.set(event.id, entry);
    const after = this.#sorted().find((other) => newerFirst(other.event, event) > 0);
    this.list.insertBefore(entry.element, after?.element ?? null);
  }

  #sorted() {
    return [...this.#entries.values()].sort((a, b) => newerFirst(a.event, b.event));
  }

  #oldest() {
    return this.#entries.size ? Math.min(...this.#entries.keys()) : null;
  }

  /** The next older (1) or newer (-1) event of the list. */
  neighbour(event, by) {
    const sorted = this.#sorted();
    const at = sorted.findIndex((entry) => entry.event.id === event.id);
    return at < 0 ? undefined : sorted[at + by]?.event;
  }

  #headings() {
    for (const heading of this.list.querySelectorAll(".day")) heading.remove();
    let last = "";
    for (const { element, event } of this.#sorted()) {
      const name = dayName(event.begin);
      if (name !== last) this.list.insertBefore(h("li", { className: "day" }, name), element);
      last = name;
    }
    const filtered = Object.keys(this.#query()).length > 0;
    setText(this.empty, filtered ? "No events match the filter." : "No events yet. The first can come when a camera is detecting.");
    this.empty.hidden = this.#entries.size > 0;
  }

  /** Counts events that arrive while another view is shown. */
  #count(event) {
    if (event.end !== null) return;
    this.#seen = document.body.dataset.view === "events" ? 0 : this.#seen + 1;
    this.showUnseen();
  }

  seen() {
    this.#seen = 0;
    this.showUnseen();
  }

  showUnseen() {
    const badge = document.getElementById("unseen");
    setText(badge, String(this.#seen));
    badge.hidden = this.#seen === 0;
  }

  async accept(event) {
    try {
      this.put(await api.accept(event.id));
      toast("Accepted: the detector learns it as normal.");
    } catch (error) {
      toast(`Not accepted: ${error.message}`, "error");
    }
  }
}
