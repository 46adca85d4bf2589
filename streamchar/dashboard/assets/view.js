// What of the night is shown: the instrument, the exposure, the detector; and what follows from the choice.

import { byWavelength } from "./colors.js";
import { Night } from "./night.js";

export const night = new Night();

export const view = {
  instrument: null, // null: that of the latest exposure
  chosen: null, // key of the exposure shown; null: the latest
  detector: null,
  color: "fwhm",
  scale: "night",
  detail: null, // answer of /api/visits for the exposure shown
  link: "connecting",
  linkSince: Date.now(),
};

let redraw = () => {};

/** Have a function called whenever something else is to be shown. */
export function onChange(listener) {
  redraw = listener;
}

export const instrument = () => view.instrument ?? night.order[night.order.length - 1]?.instrument ?? null;

export const visits = () => night.of(instrument());

/** The exposure to follow: the newest of which half is done, so that the page does not jump with every detector. */
export const settled = (visit) => visit.done > 0 && 2 * visit.done >= visit.frames;
const latest = (all) => all.findLast(settled) ?? all.findLast((visit) => visit.done > 0) ?? all.at(-1) ?? null;
export const shown = () => night.visits.get(view.chosen) ?? latest(visits());
export const bandsOf = (all) => [...new Set(all.map((visit) => visit.band))].sort(byWavelength);
export const measured = (all) => all.filter((visit) => visit.fwhm !== null || visit.seeing !== null);

/** Width of the PSF in arcseconds; in pixels for cameras whose exposures have no celestial coordinates. */
let sky = true;
export const onSky = () => sky;
export const widthOf = (visit) => (sky ? visit.seeing : visit.fwhm);
export const widthUnit = () => (sky ? "″" : " px");

/** Decide on the unit of widths for the exposures that will be drawn. */
export function chooseUnit(all) {
  sky = !all.length || all.some((visit) => visit.seeing !== null);
}

export function widthRange(all) {
  if (view.scale === "exposure" && view.detail) {
    const values = view.detail.frames
      .flatMap((frame) => (frame.grid?.length ? frame.grid.map((point) => point[2]) : [frame.seeing ?? frame.fwhm]))
      .filter((value) => value !== null);
    if (values.length) return widen(Math.min(...values), Math.max(...values));
  }
  const known = measured(all);
  if (!known.length) return [0, 1];
  const low = known.map((visit) => (sky ? visit.seeing_low : visit.fwhm)).sort((a, b) => a - b);
  const high = known.map((visit) => (sky ? visit.seeing_high : visit.fwhm)).sort((a, b) => a - b);
  return widen(low[Math.floor(0.02 * low.length)], high[Math.ceil(0.98 * high.length) - 1]);
}

function widen(low, high) {
  const room = Math.max(0.02 * high, 0.1 * high - (high - low)) / 2;
  return [low - room, high + room];
}

/** Ellipticity that a whisker of a cell's length stands for: round, and seldom exceeded this night. */
export function whiskerScale(all) {
  const high = all.map((visit) => visit.ellipticity_high).filter((value) => value !== null).sort((a, b) => a - b);
  const usual = high.length ? high[Math.floor(0.9 * (high.length - 1))] : 0.1;
  return [0.02, 0.05, 0.1, 0.2, 0.4].find((value) => value >= usual) ?? 0.8;
}

/* ---- choosing ---- */

let wanted = "";
let fetching = false;

/** Fetch the exposure shown whenever it, or what is known of it, has changed; once at a time. */
export async function refreshDetail(anew = false) {
  if (anew) wanted = "";
  const visit = shown();
  if (!visit || fetching) return;
  const signature = JSON.stringify(visit);
  if (signature === wanted) return;
  fetching = true;
  try {
    const answer = await fetch(`/api/visits/${encodeURIComponent(visit.instrument)}/${visit.exposure}`);
    if (answer.ok) {
      view.detail = { ...(await answer.json()), key: visit.key };
      wanted = signature;
      redraw();
    }
  } catch {
    // The server is away; the stream of events says so, and the next one asks again.
  } finally {
    fetching = false;
  }
  if (JSON.stringify(shown()) !== wanted) setTimeout(refreshDetail, 400);
}

export function choose(visit) {
  view.chosen = visit?.key ?? null;
  if (visit && view.instrument !== null && visit.instrument !== view.instrument) view.instrument = visit.instrument;
  view.detector = view.detail?.key === view.chosen ? view.detector : null;
  redraw();
  refreshDetail();
}

export function selectDetector(detector) {
  view.detector = detector;
  if (detector !== null && view.chosen === null) view.chosen = shown()?.key ?? null;
  redraw();
}

export function step(by) {
  const all = visits();
  const at = all.findIndex((visit) => visit.key === shown()?.key);
  const next = all[Math.min(all.length - 1, Math.max(0, at + by))];
  if (next) choose(next);
}

export function follow() {
  view.chosen = null;
  view.detector = null;
  redraw();
  refreshDetail();
}

export function chooseInstrument(name) {
  view.instrument = name;
  follow();
}

export function showFailure(item) {
  const visit = night.visits.get(`${item.instrument}/${item.exposure}`);
  if (!visit) return;
  if (visit.instrument !== instrument()) view.instrument = visit.instrument;
  choose(visit);
  view.detector = item.detector;
  redraw();
  document.getElementById("plane").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

export function toggleColor(name) {
  view.color = name ?? (view.color === "fwhm" ? "grade" : "fwhm");
  redraw();
}

export function toggleScale() {
  view.scale = view.scale === "night" ? "exposure" : "night";
  redraw();
}

export function nextInstrument() {
  const names = night.instruments;
  if (names.length > 1) chooseInstrument(names[(names.indexOf(instrument()) + 1) % names.length]);
}
