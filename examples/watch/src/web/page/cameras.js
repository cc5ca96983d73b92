// The tiles of the cameras: live image, state, score strip.

import { h, iconButton, setText } from "./dom.js";
import { Strip } from "./strip.js";

/** What is shown for a state, and its colour. */
const STATES = {
  connecting: ["connecting", "busy"],
  "warming-up": ["learning", "busy"],
  calibrating: ["calibrating", "busy"],
  detecting: ["detecting", "good"],
  adapting: ["adapting", "busy"],
  frozen: ["frozen", "good"],
  lost: ["source lost", "bad"],
  ended: ["ended", "idle"],
  stopped: ["stopped", "idle"],
};

/** What is shown of a recording, and its colour; nothing while it waits for an event or is switched off. */
function recordingChip({ state, reason }) {
  if (state === "writing") return ["rec", "bad"];
  if (state === "failed") return [reason.includes("disk is full") ? "disk full" : "not recorded", "busy"];
  return ["", "idle"];
}

/** States in which scores count. */
const LABELLING = ["detecting", "frozen"];

/** A strip moves by less than a pixel in this time. */
const DRAWN_EVERY_MS = 100;

class Tile {
  constructor(camera, actions) {
    this.camera = camera;
    this.image = h("canvas", { className: "image", width: 640, height: 360 });
    this.image.setAttribute("role", "img");
    this.image.setAttribute("aria-label", `Live image of ${camera.name}`);
    this.problem = h("span");
    this.retry = h("span", { className: "retry" });
    this.placeholder = h("p", { className: "placeholder" }, this.problem, this.retry);
    this.state = h("span", { className: "chip state" });
    this.alarm = h("span", { className: "chip alarm", hidden: true }, "anomaly");
    this.recording = h("span", { className: "chip recording", hidden: true });
    this.trouble = h("span", { className: "trouble" });
    this.score = h("output", { className: "score", title: "Score of the last frame; 0.50 is the threshold" }, "–");
    this.strip = new Strip(h("canvas", { className: "strip" }));
    this.strip.canvas.setAttribute("role", "img");
    this.strip.canvas.setAttribute("aria-label", "Scores of the last minute; the line is the threshold");
    this.rate = h("span", { className: "rate" });
    const view = h(
      "button",
      { type: "button", className: "view", title: `${camera.name}: larger`, onclick: () => actions.focus(this.camera.id) },
      this.image,
      this.placeholder,
      h("span", { className: "caption" }, h("strong", {}, camera.name), h("span", { className: "chips" }, this.alarm, this.recording, this.state)),
      this.trouble,
      this.rate,
    );
    this.element = h(
      "article",
      { className: "tile" },
      view,
      h(
        "div",
        { className: "tile-foot" },
        this.score,
        this.strip.canvas,
        h(
          "div",
          { className: "tile-tools" },
          iconButton("mask", `Masks of ${camera.name}`, () => actions.masks(this.camera, this)),
          iconButton("settings", `Settings of ${camera.name}`, () => actions.settings(this.camera)),
        ),
      ),
    );
    this.element.dataset.camera = camera.id;
    this.image.addEventListener("image", () => this.#imageShown());
    this.update(camera);
  }

  #imageShown() {
    this.placeholder.hidden = true;
    const { width, height } = this.image;
    this.element.style.setProperty("--aspect", `${width} / ${height}`);
    this.element.dataset.image = "shown";
  }

  update(camera) {
    this.camera = camera;
    const [text, kind] = STATES[camera.state] ?? [camera.state, "idle"];
    setText(this.state, text);
    this.state.dataset.kind = kind;
    this.state.title = camera.detail ?? "";
    this.element.dataset.state = camera.state;
    const lost = camera.state === "lost";
    setText(this.problem, camera.detail ?? "");
    if (!lost) setText(this.retry, camera.state === "connecting" ? "Connecting …" : "Waiting for the first image …");
    this.placeholder.hidden = !lost && this.element.dataset.image === "shown";
    const [recording, colour] = recordingChip(camera.recording);
    setText(this.recording, recording);
    this.recording.title = camera.recording.reason ?? "A clip is being recorded";
    this.recording.hidden = !recording;
    this.recording.dataset.kind = colour;
    setText(this.trouble, camera.recording.reason ? `Not recorded: ${camera.recording.reason}` : "");
    const size = camera.width ? `${camera.width}×${camera.height}` : "";
    setText(this.rate, [size, camera.fps ? `${camera.fps.toFixed(1)}/s` : ""].filter(Boolean).join(" · "));
    if (lost) setText(this.score, "–");
    this.alarm.hidden = !camera.event;
    this.element.classList.toggle("anomalous", Boolean(camera.event));
  }

  /** Draws what moves, at a time of the server's clock. */
  draw(now) {
    this.strip.draw(now);
    if (this.camera.state !== "lost") return;
    const seconds = Math.ceil((this.camera.retry_at - now) / 1000);
    setText(this.retry, seconds > 0 ? `Retrying in ${seconds} s` : "Retrying …");
  }

  /** Takes new scores: `[time, score, whether it is an anomaly]`. */
  addScores(scores) {
    const scored = LABELLING.includes(this.camera.state);
    for (const [at, score, anomaly] of scores) {
      this.strip.push(at, score, anomaly ? "anomaly" : scored ? "normal" : "unknown");
    }
    const [, score, anomaly] = scores.at(-1);
    setText(this.score, score.toFixed(2));
    this.score.dataset.label = anomaly ? "anomaly" : scored ? "normal" : "unknown";
  }
}

/** All tiles, in the order of the configuration. */
export class Cameras {
  #tiles = new Map();
  /** The server's clock minus the browser's, in ms. */
  #offset = 0;
  #focused = null;

  constructor(root, live, actions) {
    this.root = root;
    this.live = live;
    this.actions = { ...actions, focus: (id) => this.focus(this.#focused === id ? null : id) };
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) this.live.want(entry.target.dataset.camera, entry.isIntersecting);
    });
    let last = 0;
    const draw = (time) => {
      if (time - last >= DRAWN_EVERY_MS) {
        last = time;
        const now = Date.now() + this.#offset;
        for (const tile of this.#tiles.values()) tile.draw(now);
      }
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
    new ResizeObserver(() => this.#arrange()).observe(root);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.focus(null);
    });
  }

  get list() {
    return [...this.#tiles.values()].map((tile) => tile.camera);
  }

  name(id) {
    return this.#tiles.get(id)?.camera.name ?? id;
  }

  tile(id) {
    return this.#tiles.get(id);
  }

  /** Takes the state of the cameras; adds those that are new. */
  update(cameras) {
    for (const camera of cameras) {
      const tile = this.#tiles.get(camera.id);
      if (tile) tile.update(camera);
      else this.#add(camera);
    }
    this.root.classList.toggle("few", this.#tiles.size <= 4);
    this.#arrange();
  }

  #add(camera) {
    const tile = new Tile(camera, this.actions);
    this.#tiles.set(camera.id, tile);
    this.live.add(camera.id, tile.image);
    this.root.append(tile.element);
    this.observer.observe(tile.element);
  }

  /** Takes new scores by camera, or the last minute's. */
  scores(now, scores, all = false) {
    this.#offset = now - Date.now();
    for (const [id, samples] of Object.entries(scores)) {
      const tile = this.#tiles.get(id);
      if (all) tile?.strip.clear();
      tile?.addScores(samples);
    }
  }

  /** Shows one camera large, or all. */
  focus(id) {
    this.#focused = id;
    for (const [key, tile] of this.#tiles) tile.element.classList.toggle("focused", key === id);
    this.root.classList.toggle("has-focus", id !== null);
    this.#arrange();
  }

  /** On a wall display: the number of columns with the largest images that fit without scrolling. */
  #arrange() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!document.body.classList.contains("wall") || height === 0) return;
    const count = this.#focused === null ? this.#tiles.size : 1;
    let best = { width: 0, columns: 1 };
    for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns);
      const fits = Math.min(width / columns, ((height / rows - 56) * 16) / 9);
      if (fits > best.width) best = { width: fits, columns };
    }
    this.root.style.setProperty("--columns", best.columns);
    this.root.style.setProperty("--tile-width", `${Math.floor(best.width) - 12}px`);
  }
}
