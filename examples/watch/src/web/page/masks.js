// Masks of a camera: regions to ignore, drawn over its live image.

import * as api from "./api.js";
import { closable, h, setText, toast } from "./dom.js";

/** Distance in CSS pixels at which a corner is hit by a mouse, and by a finger. */
const REACH = { mouse: 9, touch: 18, pen: 12 };

const clamp = (value) => Math.min(1, Math.max(0, value));
const rounded = (value) => Math.round(clamp(value) * 10000) / 10000;

const inside = (polygon, [x, y]) => {
  let is = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i];
    const [bx, by] = polygon[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) is = !is;
  }
  return is;
};

/** Whether corners enclose an area that is worth ignoring. */
const hasArea = (polygon) => {
  let twice = 0;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    twice += polygon[j][0] * polygon[i][1] - polygon[i][0] * polygon[j][1];
  }
  return Math.abs(twice) > 0.0002;
};

export class MasksDialog {
  #camera = null;
  #source = null;
  #closed = new AbortController();
  /** Polygons; corners are fractions of width and height. */
  #polygons = [];
  #saved = "";
  #undo = [];
  /** Corners of the polygon that is being drawn. */
  #drawing = null;
  #selected = null;
  /** What the pointer moves: a corner, a polygon, or the second corner of a rectangle. */
  #drag = null;
  #pointer = null;

  constructor(dialog) {
    this.dialog = dialog;
    this.title = h("h2", { id: "masks-title" });
    this.image = h("canvas", { className: "image" });
    this.canvas = h("canvas", { className: "drawing", tabIndex: 0 });
    this.canvas.setAttribute("aria-label", "Drawing area for masks");
    this.hint = h("p", { className: "hint" });
    const tool = (value, label) =>
      h("label", { className: "tool" }, h("input", { type: "radio", name: "tool", value, checked: value === "rectangle", onchange: () => this.#cancel() }), label);
    const button = (label, onclick, className = "") => h("button", { type: "button", className, onclick }, label);
    this.remove = button("Delete", () => this.#delete());
    this.back = button("Undo", () => this.#back());
    this.clear = button("Clear", () => this.#change([]));
    this.save = button("Save", () => this.#save(), "primary");
    this.tools = h("fieldset", { className: "tools" }, tool("rectangle", "Rectangle"), tool("polygon", "Polygon"));
    dialog.append(
      h("div", { className: "dialog-head" }, this.title, closable(dialog)),
      h("div", { className: "stage" }, h("div", { className: "fit" }, this.image, this.canvas)),
      h("div", { className: "dialog-foot" }, this.tools, this.hint, this.remove, this.back, this.clear, this.save),
    );
    this.canvas.addEventListener("pointerdown", (event) => this.#down(event));
    this.canvas.addEventListener("pointermove", (event) => this.#move(event));
    this.canvas.addEventListener("pointerup", () => this.#up());
    this.canvas.addEventListener("pointercancel", () => this.#up());
    this.canvas.addEventListener("dblclick", () => this.#close());
    dialog.addEventListener("keydown", (event) => this.#key(event));
    dialog.addEventListener("cancel", (event) => {
      if (this.#drawing) {
        event.preventDefault();
        this.#cancel();
      }
    });
    dialog.addEventListener("close", () => this.#closed.abort());
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
  }

  get tool() {
    return this.tools.querySelector("input:checked").value;
  }

  async open(camera, tile) {
    let masks;
    try {
      masks = await api.masks(camera.id);
    } catch (error) {
      toast(`${camera.name}: ${error.message}`, "error");
      return;
    }
    this.#camera = camera;
    this.#polygons = masks.polygons;
    this.#saved = JSON.stringify(masks.polygons);
    this.#undo = [];
    this.#cancel();
    setText(this.title, `Masks of ${camera.name}`);
    this.dialog.showModal();
    this.#source = tile.image;
    this.#copy();
    this.#closed = new AbortController();
    tile.image.addEventListener("image", () => this.#copy(), { signal: this.#closed.signal });
    this.#draw();
  }

  /** Copies the live image. */
  #copy() {
    const source = this.#source;
    if (this.image.width !== source.width || this.image.height !== source.height) {
      this.image.width = source.width;
      this.image.height = source.height;
    }
    this.image.getContext("2d").drawImage(source, 0, 0);
  }

  #change(polygons) {
    this.#undo.push(this.#polygons);
    this.#polygons = polygons;
    this.#cancel();
  }

  #back() {
    if (this.#drawing) {
      this.#drawing.pop();
      if (this.#drawing.length === 0) this.#drawing = null;
    } else if (this.#undo.length) {
      this.#polygons = this.#undo.pop();
      this.#selected = null;
    }
    this.#draw();
  }

  #delete() {
    if (this.#selected !== null) this.#change(this.#polygons.filter((_, at) => at !== this.#selected));
  }

  #cancel() {
    this.#drawing = null;
    this.#selected = null;
    this.#drag = null;
    this.#draw();
  }

  /** Completes the polygon that is being drawn. */
  #close() {
    const drawn = this.#drawing;
    if (!drawn) return;
    if (drawn.length >= 3 && hasArea(drawn)) {
      this.#change([...this.#polygons, drawn]);
      this.#selected = this.#polygons.length - 1;
    }
    this.#drawing = null;
    this.#draw();
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [rounded((event.clientX - box.left) / box.width), rounded((event.clientY - box.top) / box.height)];
  }

  #near(event, [x, y]) {
    const box = this.canvas.getBoundingClientRect();
    const reach = REACH[event.pointerType] ?? REACH.mouse;
    return Math.hypot(x * box.width + box.left - event.clientX, y * box.height + box.top - event.clientY) <= reach;
  }

  #down(event) {
    if (event.button !== 0) return;
    // A pointer that has been released meanwhile cannot be captured.
    if (this.canvas.hasPointerCapture && event.isTrusted) this.canvas.setPointerCapture(event.pointerId);
    const at = this.#at(event);
    if (this.#drawing) {
      const [first] = this.#drawing;
      if (this.#drawing.length >= 3 && this.#near(event, first)) this.#close();
      else if (!this.#near(event, this.#drawing.at(-1))) this.#drawing.push(at);
      this.#draw();
      return;
    }
    for (const [polygon, corners] of this.#polygons.entries()) {
      const corner = corners.findIndex((corner) => this.#near(event, corner));
      if (corner >= 0) {
        this.#begin({ polygon, corner });
        return;
      }
    }
    const hit = this.#polygons.findLastIndex((corners) => inside(corners, at));
    if (hit >= 0) {
      this.#begin({ polygon: hit, corner: null, from: at });
      return;
    }
    this.#selected = null;
    if (this.tool === "polygon") this.#drawing = [at];
    else this.#drag = { rectangle: [at, at] };
    this.#draw();
  }

  #begin(drag) {
    this.#selected = drag.polygon;
    this.#drag = { ...drag, before: this.#polygons };
    this.#draw();
  }

  #move(event) {
    const at = this.#at(event);
    this.#pointer = at;
    const drag = this.#drag;
    if (drag?.rectangle) {
      drag.rectangle[1] = at;
    } else if (drag) {
      const polygons = drag.before.map((corners) => corners.map((corner) => [...corner]));
      const corners = polygons[drag.polygon];
      if (drag.corner !== null) {
        corners[drag.corner] = at;
      } else {
        // The whole polygon stays inside the image.
        const by = [0, 1].map((axis) => {
          const values = corners.map((corner) => corner[axis]);
          return Math.min(1 - Math.max(...values), Math.max(-Math.min(...values), at[axis] - drag.from[axis]));
        });
        polygons[drag.polygon] = corners.map(([x, y]) => [rounded(x + by[0]), rounded(y + by[1])]);
      }
      this.#polygons = polygons;
    } else if (!this.#drawing) {
      return;
    }
    this.#draw();
  }

  #up() {
    const drag = this.#drag;
    this.#drag = null;
    if (drag?.rectangle) {
      const [[ax, ay], [bx, by]] = drag.rectangle;
      const drawn = [[ax, ay], [bx, ay], [bx, by], [ax, by]];
      if (hasArea(drawn)) {
        this.#change([...this.#polygons, drawn]);
        this.#selected = this.#polygons.length - 1;
      }
    } else if (drag && JSON.stringify(drag.before) !== JSON.stringify(this.#polygons)) {
      this.#undo.push(drag.before);
    }
    this.#draw();
  }

  #key(event) {
    if (event.key === "Enter" && event.target === this.canvas) this.#close();
    if (event.key === "Delete" || event.key === "Backspace") this.#delete();
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.#back();
  }

  async #save() {
    this.#close();
    this.save.disabled = true;
    try {
      const { polygons } = await api.setMasks(this.#camera.id, { polygons: this.#polygons });
      this.#saved = JSON.stringify(polygons);
      this.dialog.close();
      toast(polygons.length ? "Masks saved: these regions are ignored." : "Masks saved: nothing is ignored.");
    } catch (error) {
      toast(`Not saved: ${error.message}`, "error");
    }
    this.#draw();
  }

  #buttons() {
    this.remove.disabled = this.#selected === null;
    this.back.disabled = !this.#undo.length && !this.#drawing;
    this.clear.disabled = !this.#polygons.length;
    this.save.disabled = JSON.stringify(this.#polygons) === this.#saved && !this.#drawing;
    const drawing = "Click corner after corner; end at the first one, by a double click or with Enter.";
    const polygon = "Click the first corner of a region to ignore.";
    const rectangle = "Drag over a region to ignore. Drag its corners to change it.";
    setText(this.hint, this.#drawing ? drawing : this.tool === "polygon" ? polygon : rectangle);
  }

  #draw() {
    this.#buttons();
    const { canvas } = this;
    const ratio = devicePixelRatio;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    const [width, height] = [canvas.width, canvas.height];
    const path = (corners, closed) => {
      context.beginPath();
      for (const [x, y] of corners) context.lineTo(x * width, y * height);
      if (closed) context.closePath();
    };
    const dots = (corners) => {
      for (const [x, y] of corners) {
        context.beginPath();
        context.arc(x * width, y * height, 4.5 * ratio, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      }
    };
    context.lineWidth = 2 * ratio;
    context.lineJoin = "round";
    for (const [at, corners] of this.#polygons.entries()) {
      const selected = at === this.#selected;
      path(corners, true);
      context.fillStyle = selected ? "rgb(47 129 247 / 45%)" : "rgb(10 14 20 / 60%)";
      context.strokeStyle = selected ? "#58a6ff" : "#e6edf3";
      context.fill();
      context.stroke();
      context.fillStyle = selected ? "#58a6ff" : "#e6edf3";
      context.strokeStyle = "#0d1117";
      dots(corners);
    }
    context.strokeStyle = "#58a6ff";
    context.fillStyle = "rgb(47 129 247 / 25%)";
    if (this.#drag?.rectangle) {
      const [[ax, ay], [bx, by]] = this.#drag.rectangle;
      path([[ax, ay], [bx, ay], [bx, by], [ax, by]], true);
      context.fill();
      context.stroke();
    }
    if (this.#drawing) {
      path(this.#pointer ? [...this.#drawing, this.#pointer] : this.#drawing, false);
      context.fill();
      context.stroke();
      context.fillStyle = "#58a6ff";
      context.strokeStyle = "#0d1117";
      dots(this.#drawing);
    }
  }
}
