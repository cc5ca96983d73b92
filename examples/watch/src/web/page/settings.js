// The settings of a camera: the properties of its detector that may change while it runs.

import * as api from "./api.js";
import { closable, h, iconButton, setText, toast } from "./dom.js";

/** What most people change; the rest is folded away. */
const COMMON = ["threshold", "min-anomaly", "merge-gap", "absorb-after", "learn", "stabilise"];

/** Range of the slider where the property's own is too wide for one. */
const SLIDERS = { threshold: [1, 3, 0.05], "min-anomaly": [0, 10e9, 0.1e9], "merge-gap": [0, 30e9, 0.5e9], "absorb-after": [0, 600e9, 10e9] };

const SECOND = 1e9;

/** One setting: a label, an input, a note. */
class Field {
  constructor(spec, save) {
    this.spec = spec;
    const id = `setting-${spec.name}`;
    this.scale = spec.type === "time" ? SECOND : 1;
    this.input = this.#input(id);
    this.note = h("output", { className: "saved" });
    this.note.htmlFor = id;
    this.reset = iconButton("reset", `Reset to ${this.#shown(spec.default)}`, () => save(this, null));
    const unit = spec.type === "time" ? h("span", { className: "unit" }, "s") : null;
    this.slider = this.#slider();
    this.input.addEventListener("change", () => this.#changed(save));
    this.slider?.addEventListener("input", () => (this.input.value = this.slider.value));
    this.slider?.addEventListener("change", () => this.#changed(save));
    const label = h("label", {}, spec.nick);
    label.htmlFor = id;
    this.element = h(
      "div",
      { className: "setting" },
      h("div", { className: "setting-line" }, label, this.note, this.input, unit, this.reset),
      this.slider,
      h("p", { className: "blurb" }, spec.type === "time" ? spec.blurb.replace(/,? in ns\b/, "") : spec.blurb),
    );
    this.element.dataset.setting = spec.name;
    this.show(spec.value);
  }

  #input(id) {
    const { spec } = this;
    if (spec.type === "boolean") return h("input", { id, type: "checkbox" });
    if (spec.type === "flags") {
      const choice = ({ value, name }) => h("label", { className: "tool", title: name }, h("input", { type: "checkbox", value }), value);
      return h("span", { id, className: "flags" }, ...spec.choices.map(choice));
    }
    if (spec.type === "enum") {
      return h("select", { id }, ...spec.choices.map(({ value, name }) => h("option", { value, title: name }, value)));
    }
    const input = h("input", { id, type: "number", step: "any", required: true });
    input.min = spec.min / this.scale;
    // The largest number of the type is no limit that a person would want to read.
    if (spec.max < 4e9 || (spec.type === "time" && spec.max < 1e18)) input.max = spec.max / this.scale;
    return input;
  }

  #slider() {
    const range = SLIDERS[this.spec.name];
    if (!range) return null;
    const [min, max, step] = range.map((value) => value / this.scale);
    const slider = h("input", { type: "range", min, max, step });
    slider.setAttribute("aria-label", this.spec.nick);
    return slider;
  }

  #shown(value) {
    if (this.spec.type === "time") return `${value / SECOND} s`;
    if (this.spec.type === "boolean") return value ? "on" : "off";
    return String(value);
  }

  #changed(save) {
    if (this.input.checkValidity && !this.input.checkValidity()) {
      this.failed(this.input.validationMessage);
      return;
    }
    const { type } = this.spec;
    if (type === "boolean") save(this, this.input.checked);
    else if (type === "enum") save(this, this.input.value);
    else if (type === "flags") save(this, [...this.input.querySelectorAll(":checked")].map(({ value }) => value).join("+"));
    else if (type === "double") save(this, Number(this.input.value));
    else save(this, Math.round(Number(this.input.value) * this.scale));
  }

  show(value) {
    if (this.spec.type === "boolean") this.input.checked = value;
    else if (this.spec.type === "enum") this.input.value = value;
    else if (this.spec.type === "flags") {
      const set = value.split("+");
      for (const box of this.input.querySelectorAll("input")) box.checked = set.includes(box.value);
    }
    else this.input.value = String(value / this.scale);
    if (this.slider) this.slider.value = this.input.value;
    this.reset.disabled = value === this.spec.default;
    this.element.classList.remove("failed");
  }

  saved() {
    setText(this.note, "applied");
    setTimeout(() => setText(this.note, ""), 2500);
  }

  failed(message) {
    this.element.classList.add("failed");
    setText(this.note, message);
  }
}

export class SettingsDialog {
  constructor(dialog) {
    this.dialog = dialog;
    this.title = h("h2", { id: "settings-title" });
    this.form = h("form", { className: "setting-list" });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    dialog.append(h("div", { className: "dialog-head" }, this.title, closable(dialog)), this.form);
  }

  async open(camera) {
    let settings;
    try {
      ({ settings } = await api.settings(camera.id));
    } catch (error) {
      toast(`${camera.name}: ${error.message}`, "error");
      return;
    }
    setText(this.title, `Settings of ${camera.name}`);
    const save = (field, value) => this.#save(camera, field, value);
    const fields = settings.map((spec) => new Field(spec, save));
    const common = COMMON.map((name) => fields.find(({ spec }) => spec.name === name)).filter(Boolean);
    const other = fields.filter((field) => !common.includes(field));
    this.form.replaceChildren(
      h("p", { className: "hint" }, "Changes apply at once and are kept."),
      ...common.map(({ element }) => element),
      h("details", {}, h("summary", {}, "More settings"), ...other.map(({ element }) => element)),
    );
    this.dialog.showModal();
  }

  async #save(camera, field, value) {
    try {
      const { settings } = await api.setSettings(camera.id, { [field.spec.name]: value });
      const stored = settings.find(({ name }) => name === field.spec.name);
      field.show(stored.value);
      field.saved();
    } catch (error) {
      field.failed(error.message);
    }
  }
}
