// The live page: draws what the server tells, and follows the keyboard.

import { $, text } from "./dom.js";
import { drawPlane } from "./camera.js";
import { drawRows } from "./exposures.js";
import { clock } from "./format.js";
import { drawFailures, drawFlow, drawLights, drawReasons, drawServices } from "./health.js";
import { Link } from "./link.js";
import { drawBanners, drawCurves, drawHeader, drawTiles } from "./overview.js";
import { nextTheme } from "./theme.js";
import {
  chooseUnit, follow, night, nextInstrument, onChange, refreshDetail, selectDetector, showFailure, step, toggleColor,
  toggleScale, view, visits,
} from "./view.js";

let pending = false;
function draw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    drawAll();
  });
}

function drawAll() {
  const all = visits();
  chooseUnit(all);
  drawHeader(all);
  drawBanners(all);
  drawTiles(all);
  drawCurves(all);
  drawPlane(all);
  drawRows(all);
  drawLights();
  drawFailures();
  drawReasons();
  drawFlow();
  drawServices();
  text($("version"), night.version && `streamchar ${night.version}`);
  document.body.dataset.revision = night.order.length;
}

onChange(draw);

/* ---- keyboard and buttons ---- */

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  l: follow,
  c: () => toggleColor(),
  s: toggleScale,
  i: nextInstrument,
  f: () => night.sections.failures?.length && showFailure(night.sections.failures.find((item) => item.exposure !== null) ?? {}),
  t: nextTheme,
  "?": () => $("help").showModal(),
  Escape: () => (view.detector === null ? follow() : selectDetector(null)),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target instanceof HTMLInputElement) return;
  const action = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!action || event.defaultPrevented) return;
  event.preventDefault();
  action();
});
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("latest").addEventListener("click", follow);
$("color-fwhm").addEventListener("click", () => toggleColor("fwhm"));
$("color-grade").addEventListener("click", () => toggleColor("grade"));
$("theme").addEventListener("click", nextTheme);
$("help-button").addEventListener("click", () => $("help").showModal());

/* ---- beginning ---- */

setInterval(() => {
  text($("clock"), clock(night.now));
  drawBanners(visits());
}, 1000);

let since = "";
new Link("/api/events", (kind, data) => {
  if (kind === "night") {
    // After an upgrade of the server the page's own files are old.
    if (since && data.version !== since) return location.reload();
    since = data.version;
  }
  if (kind === "beat") {
    night.offset = data.now - Date.now() / 1000;
    return;
  }
  night.apply(kind, data);
  draw();
  refreshDetail(kind === "night");
}, (state, heard) => {
  view.link = state;
  view.linkSince = state === "lost" ? heard : Date.now();
  draw();
});
draw();
