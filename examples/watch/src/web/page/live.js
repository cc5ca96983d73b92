// Live images of several cameras over one connection: browsers open only six to a server, and eight cameras would need
// eight. A frame is a header of 8 bytes, the camera's index and the length as big-endian u32, and a JPEG image.

const HEADER = 8;
const RETRY_MS = 1500;

/** Splits a stream of bytes into frames. */
export class FrameSplitter {
  #bytes = new Uint8Array(1 << 18);
  #used = 0;

  /** Takes bytes, returns the `{ camera, jpeg }` that are complete. */
  push(chunk) {
    if (this.#used + chunk.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#used + chunk.length));
      larger.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = larger;
    }
    this.#bytes.set(chunk, this.#used);
    this.#used += chunk.length;
    const view = new DataView(this.#bytes.buffer);
    const frames = [];
    let start = 0;
    while (this.#used - start >= HEADER) {
      const end = start + HEADER + view.getUint32(start + 4);
      if (end > this.#used) break;
      frames.push({ camera: view.getUint32(start), jpeg: this.#bytes.slice(start + HEADER, end) });
      start = end;
    }
    this.#bytes.copyWithin(0, start, this.#used);
    this.#used -= start;
    return frames;
  }
}

/** Draws the newest image of each camera on its canvas. An image that arrives while one is decoded replaces the waiting one. */
class Painter {
  #waiting = null;
  #busy = false;

  constructor(canvas) {
    this.canvas = canvas;
  }

  async show(jpeg) {
    this.#waiting = jpeg;
    if (this.#busy) return;
    this.#busy = true;
    while (this.#waiting) {
      const blob = new Blob([this.#waiting], { type: "image/jpeg" });
      this.#waiting = null;
      try {
        const image = await createImageBitmap(blob);
        const { canvas } = this;
        if (canvas.width !== image.width || canvas.height !== image.height) {
          canvas.width = image.width;
          canvas.height = image.height;
        }
        canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0);
        image.close();
        canvas.dispatchEvent(new Event("image"));
      } catch {
        // A damaged image: the next one replaces it.
      }
    }
    this.#busy = false;
  }
}

/** The live stream of the cameras in view. */
export class Live {
  /** Ids, by index. */
  #cameras = [];
  #painters = [];
  #wanted = new Set();
  #running = null;
  #timer = 0;

  /** Adds a camera, in the server's order; its canvas is fed while it is in view. */
  add(id, canvas) {
    this.#cameras.push(id);
    this.#painters.push(new Painter(canvas));
  }

  /** Whether the camera is in view. */
  want(id, wanted) {
    if (this.#wanted.has(id) === wanted) return;
    if (wanted) this.#wanted.add(id);
    else this.#wanted.delete(id);
    this.#schedule(100);
  }

  /** Connects anew, for another set of cameras or after the page was hidden. */
  restart() {
    this.#schedule(0);
  }

  #schedule(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  async #connect() {
    this.#running?.abort();
    const controller = new AbortController();
    this.#running = controller;
    if (document.hidden || this.#wanted.size === 0) return;
    const cameras = this.#cameras.filter((id) => this.#wanted.has(id)).join(",");
    try {
      const response = await fetch(`/api/live?cameras=${cameras}`, { signal: controller.signal });
      if (!response.ok) throw new Error(response.statusText);
      const splitter = new FrameSplitter();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const { camera, jpeg } of splitter.push(value)) this.#painters[camera]?.show(jpeg);
      }
    } catch {
      // Aborted, refused or interrupted.
    }
    if (this.#running === controller) this.#schedule(RETRY_MS);
  }
}
