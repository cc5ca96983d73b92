// The strip of a camera's last scores.

/** Seconds that a strip shows. */
export const STRIP_SECONDS = 60;

const colours = (element) => {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    normal: colour("--score"),
    unknown: colour("--score-unknown"),
    anomaly: colour("--score-anomaly"),
    line: colour("--strip-line"),
  };
};

/** The scores of one camera, from 0 to 1 with the threshold at 0.5. */
export class Strip {
  #samples = [];

  constructor(canvas) {
    this.canvas = canvas;
  }

  /** Takes a score at a time in ms; `label` is `normal`, `anomaly` or `unknown`. */
  push(at, score, label) {
    this.#samples.push({ at, score, label });
    const oldest = at - (STRIP_SECONDS + 2) * 1000;
    while (this.#samples.length > 0 && this.#samples[0].at < oldest) this.#samples.shift();
  }

  clear() {
    this.#samples = [];
  }

  /** Draws the last minute before `now`. */
  draw(now) {
    const { canvas } = this;
    const ratio = Math.min(devicePixelRatio, 2);
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (width === 0 || height === 0) return;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const colour = colours(canvas);
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const x = (at) => width - ((now - at) / (STRIP_SECONDS * 1000)) * width;
    const y = (score) => (height - ratio) * (1 - score) + ratio / 2;
    const samples = this.#samples;
    for (let i = 0; i < samples.length; i++) {
      const { at, score, label } = samples[i];
      const left = x(at);
      const next = samples[i + 1];
      // A pause longer than two seconds is a gap.
      const right = next && next.at - at < 2000 ? x(next.at) : left + 2 * ratio;
      if (right < 0) continue;
      context.fillStyle = colour[label] ?? colour.unknown;
      context.fillRect(left, y(score), Math.max(right - left, 1) + 0.5, height - y(score));
    }
    context.fillStyle = colour.line;
    context.fillRect(0, Math.round(y(0.5)), width, Math.max(1, Math.round(ratio / 2)));
  }
}
