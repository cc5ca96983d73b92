// The page in headless Chromium. Environment: PAGE (address), OUT (folder for screenshots), MODULES (folder with
// node_modules), CHROMIUM (the browser's path), CAMERAS (their names, comma-separated), IMAGES (set: also writes
// desktop.jpg and phone.jpg for the documentation, during an anomaly).
//
// Expected: the cameras `gate` and `yard` with anomalies, and `cellar`, whose source is missing. Without IMAGES the clips of
// `yard` cannot be written, and events of `gate` share a clip.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { PAGE, OUT, MODULES, CHROMIUM, CAMERAS, IMAGES } = process.env;
const { chromium } = createRequire(join(MODULES, "modules.js"))("playwright-core");

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // /dev/shm is small in containers.
    "--disable-dev-shm-usage",
  ],
});

const problems = [];

/** A window that reports console errors and requests to other servers. */
async function open(options) {
  const context = await browser.newContext({ locale: "en-GB", colorScheme: "dark", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => problems.push(`exception: ${error.stack}`));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && protocol !== "blob:" && origin !== new URL(PAGE).origin) problems.push(`request to ${request.url()}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400 && !expected.has(response.status())) problems.push(`${response.status()} of ${response.url()}`);
  });
  await page.goto(PAGE);
  return page;
}

/** Status codes that a step provokes. */
const expected = new Set();

const api = async (page, path) => (await page.request.get(new URL(path, PAGE).href)).json();

async function step(name, body) {
  const start = Date.now();
  try {
    await body();
  } catch (error) {
    await Promise.all(
      browser.contexts().flatMap((context, at) => context.pages().map((page) => page.screenshot({ path: join(OUT, `failed-${at}.png`) }))),
    ).catch(() => {});
    console.error(`FAILED: ${name}\n${error.stack}\n${problems.join("\n")}`);
    process.exit(1);
  }
  console.log(`ok: ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
}

const screenshot = (page, name) => page.screenshot({ path: join(OUT, `${name}.png`) });

/** What a canvas shows. */
const pixels = (locator) => locator.evaluate((canvas) => canvas.toDataURL());

/** Waits until a canvas shows something else. */
async function changes(page, locator) {
  const handle = await locator.elementHandle();
  const before = await pixels(locator);
  await page.waitForFunction(([canvas, before]) => canvas.toDataURL() !== before, [handle, before]);
}

/** Nothing is wider than the window. */
async function fits(page, what) {
  const { wide, width } = await page.evaluate(() => {
    const scroller = document.scrollingElement;
    const dialog = document.querySelector("dialog[open]");
    return { wide: Math.max(scroller.scrollWidth, dialog?.scrollWidth ?? 0), width: innerWidth };
  });
  assert.ok(wide <= width, `${what}: ${wide} px wide in a window of ${width} px`);
}

const desktop = await open({ viewport: { width: 1440, height: 900 } });
const tile = (page, id) => page.locator(`.tile[data-camera="${id}"]`);
const gate = tile(desktop, "gate");
let event;
// An event begins at any time.
const recording = desktop.waitForSelector('.tile[data-camera="gate"] .recording:text-is("rec")', { timeout: 240_000 });
recording.catch(() => {});

await step("the page paints all cameras", async () => {
  await desktop.waitForSelector(".tile");
  await desktop.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
  // "● Anomaly – Watch" while an event is open.
  assert.match(await desktop.title(), /Watch$/);
  assert.deepEqual(await desktop.locator(".tile .caption strong").allTextContents(), CAMERAS.split(","));
});

await step("the live images move", async () => {
  await Promise.all(["gate", "yard"].map((id) => desktop.waitForSelector(`.tile[data-camera="${id}"][data-image="shown"]`)));
  await changes(desktop, gate.locator(".image"));
  await changes(desktop, tile(desktop, "yard").locator(".image"));
});

await step("the score strips move", async () => {
  await desktop.waitForFunction(() => /^\d\.\d\d$/.test(document.querySelector('[data-camera="gate"] .score').textContent));
  await changes(desktop, gate.locator(".strip"));
});

await step("states are shown, also of a source that is lost", async () => {
  await desktop.waitForSelector('.tile[data-camera="cellar"][data-state="lost"]');
  const placeholder = tile(desktop, "cellar").locator(".placeholder");
  assert.notEqual(await placeholder.locator("span").first().textContent(), "");
  const retry = placeholder.locator(".retry", { hasText: /^Retrying in \d+ s$/ });
  await retry.waitFor();
  const seconds = await retry.textContent();
  await desktop.waitForFunction((before) => {
    const now = document.querySelector('[data-camera="cellar"] .retry').textContent;
    return now !== before && /^Retrying/.test(now);
  }, seconds);
  await gate.locator('.state:text-is("detecting")').waitFor();
});

await step("an event appears by itself, with a thumbnail", async () => {
  await desktop.waitForSelector(".event", { timeout: 120_000 });
  const image = await desktop.waitForSelector(".event .thumb img:not([hidden])");
  await desktop.waitForFunction((image) => image.complete && image.naturalWidth > 0, image);
});

await step("its clip plays", async () => {
  const playable = await desktop.waitForSelector(".event:has(.play:not([hidden]))", { timeout: 120_000 });
  event = Number(await playable.getAttribute("data-event"));
  await screenshot(desktop, "desktop");
  await desktop.locator(`.event[data-event="${event}"] .event-open`).click();
  const video = await desktop.waitForSelector("#player video:not([hidden])");
  await desktop.waitForFunction((video) => video.currentTime > 0.3 && video.videoWidth > 0, video);
  const other = await video.evaluate((video) => {
    video.currentTime = video.duration / 2;
    return video.duration;
  });
  // With the seconds before the event.
  assert.ok(other > 4, `a clip of ${other} s`);
  await desktop.waitForFunction((video) => !video.seeking && video.currentTime > video.duration / 2, video);
  await screenshot(desktop, "player");
});

await step("recordings are shown, also one that fails", async () => {
  await recording;
  if (IMAGES) return;
  const yard = tile(desktop, "yard");
  await yard.locator('.recording:text-is("not recorded")').waitFor({ timeout: 240_000 });
  assert.match(await yard.locator(".trouble").textContent(), /^Not recorded: ./);
});

await step("an event that is not the first of its clip is played from its own begin", async () => {
  if (IMAGES) return;
  let later;
  for (const end = Date.now() + 240_000; !later; ) {
    assert.ok(Date.now() < end, "no event shares a clip");
    const { events } = await api(desktop, "/api/events?camera=gate");
    later = events.find(({ clip, begin, clip_begin }) => clip && begin - clip_begin > 9000);
    await desktop.waitForTimeout(200);
  }
  await desktop.keyboard.press("Escape");
  await desktop.locator(`.event[data-event="${later.id}"] .event-open`).click();
  const video = await desktop.waitForSelector("#player video:not([hidden])");
  await desktop.waitForFunction((video) => video.currentTime > 0.3 && video.played.length > 0, video);
  const start = await video.evaluate((video) => video.played.start(0));
  const expected = (later.begin - later.clip_begin) / 1000 - 5;
  assert.ok(Math.abs(start - expected) < 0.5, `played from ${start} s, expected ${expected} s`);
  await desktop.keyboard.press("Escape");
  await desktop.locator(`.event[data-event="${event}"] .event-open`).click();
});

await step("the event is accepted as normal", async () => {
  await desktop.locator("#player .accept").click();
  await desktop.locator("#player .chip:text-is('accepted as normal')").waitFor();
  await desktop.keyboard.press("Escape");
  await desktop.locator(`.event[data-event="${event}"].accepted`).waitFor();
  assert.equal((await api(desktop, `/api/events/${event}`)).accepted, true);
});

await step("events are filtered by camera and by time", async () => {
  const { camera } = await api(desktop, `/api/events/${event}`);
  const listed = desktop.locator(`.event[data-event="${event}"]`);
  await desktop.selectOption("#filter [name=camera]", "cellar");
  await desktop.getByText("No events match the filter.").waitFor();
  await desktop.selectOption("#filter [name=camera]", camera);
  await listed.waitFor();
  await desktop.selectOption("#filter [name=time]", "custom");
  await desktop.fill("#filter [name=to]", "2020-01-01T00:00");
  await desktop.getByText("No events match the filter.").waitFor();
  await desktop.selectOption("#filter [name=time]", "3600");
  await listed.waitFor();
  await desktop.selectOption("#filter [name=camera]", "");
});

/** Writes an image for the documentation while a camera in view is anomalous. */
async function image(page, name, { width, height }) {
  if (!IMAGES) return;
  const size = page.viewportSize();
  await page.setViewportSize({ width, height });
  await page.mouse.move(0, 0);
  await page.waitForFunction(
    () => [...document.querySelectorAll(".tile.anomalous")].some((tile) => tile.getBoundingClientRect().bottom < innerHeight),
    undefined,
    { timeout: 240_000 },
  );
  await page.screenshot({ path: join(OUT, `${name}.jpg`), type: "jpeg", quality: 75, scale: "css" });
  await page.setViewportSize(size);
}

await step("image of the desktop", () => image(desktop, "desktop", { width: 1200, height: 720 }));

/** Draws on the masks dialog, positions as fractions of the image. */
async function at(page, x, y) {
  const box = await page.locator("#masks .drawing").boundingBox();
  return [box.x + x * box.width, box.y + y * box.height];
}

await step("masks are drawn with the mouse and saved", async () => {
  await gate.getByRole("button", { name: "Masks of Gate" }).click();
  await desktop.waitForSelector("#masks[open]");
  await desktop.mouse.move(...(await at(desktop, 0.05, 0.05)));
  await desktop.mouse.down();
  await desktop.mouse.move(...(await at(desktop, 0.2, 0.2)));
  await desktop.mouse.move(...(await at(desktop, 0.3, 0.25)));
  await desktop.mouse.up();
  await desktop.locator("#masks").getByLabel("Polygon").check();
  for (const corner of [[0.6, 0.1], [0.9, 0.1], [0.8, 0.3], [0.6, 0.1]]) {
    await desktop.mouse.click(...(await at(desktop, ...corner)));
  }
  await screenshot(desktop, "masks");
  await desktop.locator("#masks").getByRole("button", { name: "Save" }).click();
  await desktop.waitForSelector("#masks:not([open])", { state: "attached" });
  const { polygons } = await api(desktop, "/api/cameras/gate/masks");
  assert.deepEqual(polygons.map((corners) => corners.length), [4, 3]);
  const near = (value, expected) => assert.ok(Math.abs(value - expected) < 0.01, `${value} is not ${expected}`);
  near(polygons[0][0][0], 0.05);
  near(polygons[0][2][1], 0.25);
  near(polygons[1][1][0], 0.9);
});

await step("a setting applies at once, a wrong one is refused", async () => {
  await gate.getByRole("button", { name: "Settings of Gate" }).click();
  const threshold = desktop.locator('[data-setting="threshold"]');
  await threshold.locator("input[type=number]").fill("2.2");
  await threshold.locator("input[type=number]").press("Tab");
  await threshold.locator(".saved:text-is('applied')").waitFor();
  await screenshot(desktop, "settings");
  await threshold.locator("input[type=number]").fill("1000");
  await threshold.locator("input[type=number]").press("Tab");
  await desktop.waitForSelector('[data-setting="threshold"].failed');
  const { settings } = await api(desktop, "/api/cameras/gate/settings");
  assert.equal(settings.find(({ name }) => name === "threshold").value, 2.2);
  await desktop.keyboard.press("Escape");
});

await step("the theme changes", async () => {
  const background = () => desktop.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await desktop.locator("#theme").click();
  assert.notEqual(await background(), dark);
  await screenshot(desktop, "light");
});

await step("a reload keeps everything", async () => {
  await desktop.reload();
  await desktop.locator(`.event[data-event="${event}"].accepted`).waitFor();
  assert.equal(await desktop.inputValue("#filter [name=time]"), "3600");
  assert.equal(await desktop.evaluate(() => document.documentElement.dataset.theme), "light");
  await changes(desktop, gate.locator(".image"));
  await gate.getByRole("button", { name: "Masks of Gate" }).click();
  await desktop.waitForSelector("#masks[open]");
  // Two masks: without a change there is nothing to save, and something to clear.
  assert.equal(await desktop.locator("#masks").getByRole("button", { name: "Save" }).isDisabled(), true);
  assert.equal(await desktop.locator("#masks").getByRole("button", { name: "Clear" }).isDisabled(), false);
  await desktop.keyboard.press("Escape");
  await gate.getByRole("button", { name: "Settings of Gate" }).click();
  assert.equal(await desktop.inputValue("#setting-threshold"), "2.2");
  await desktop.keyboard.press("Escape");
  await desktop.locator("#theme").click();
});

await step("a camera is shown large, and all on a wall display", async () => {
  const before = (await gate.boundingBox()).width;
  await gate.locator(".view").click();
  assert.ok((await gate.boundingBox()).width > before);
  await desktop.keyboard.press("Escape");
  await desktop.setViewportSize({ width: 1920, height: 1080 });
  await desktop.locator("#wall").click();
  await desktop.waitForFunction(() =>
    [...document.querySelectorAll(".tile")].every((tile) => {
      const { left, top, right, bottom } = tile.getBoundingClientRect();
      return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
    }),
  );
  await changes(desktop, gate.locator(".image"));
  await screenshot(desktop, "wall");
  await desktop.locator("#wall").click();
});

const phone = await open({ viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });

await step("it works on a phone", async () => {
  const gate = tile(phone, "gate");
  await changes(phone, gate.locator(".image"));
  await fits(phone, "cameras");
  await screenshot(phone, "phone");
  await image(phone, "phone", { width: 360, height: 740 });
  await phone.locator(".tabs button[data-view=events]").tap();
  await phone.locator(`.event[data-event="${event}"]`).waitFor();
  await fits(phone, "events");
  await screenshot(phone, "phone-events");
  await phone.locator(`.event[data-event="${event}"] .event-open`).tap();
  const video = await phone.waitForSelector("#player video:not([hidden])");
  await phone.waitForFunction((video) => video.currentTime > 0, video);
  await fits(phone, "player");
  await screenshot(phone, "phone-player");
  await phone.locator("#player").getByRole("button", { name: "Close" }).tap();
  await phone.locator(".tabs button[data-view=cameras]").tap();
  await gate.getByRole("button", { name: "Settings of Gate" }).tap();
  await phone.waitForSelector("#settings[open]");
  await fits(phone, "settings");
  await screenshot(phone, "phone-settings");
  await phone.locator("#settings").getByRole("button", { name: "Close" }).tap();
});

await step("masks are drawn with a finger", async () => {
  await tile(phone, "yard").getByRole("button", { name: "Masks of Yard" }).tap();
  await phone.waitForSelector("#masks[open]");
  await fits(phone, "masks");
  await phone.locator("#masks").getByText("Polygon").tap();
  for (const corner of [[0.1, 0.2], [0.8, 0.2], [0.5, 0.8], [0.1, 0.2]]) {
    await phone.touchscreen.tap(...(await at(phone, ...corner)));
  }
  await screenshot(phone, "phone-masks");
  await phone.locator("#masks").getByRole("button", { name: "Save" }).tap();
  await phone.waitForSelector("#masks:not([open])", { state: "attached" });
  const { polygons } = await api(phone, "/api/cameras/yard/masks");
  assert.deepEqual(polygons.map((corners) => corners.length), [3]);
});

await step("nothing was reported on the console, nothing was loaded from elsewhere", async () => {
  assert.deepEqual(problems, []);
});

await browser.close();
