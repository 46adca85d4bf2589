// The table of the latest exposures; under the chosen one its detectors with reports and thumbnails.

import { $, h, keyed, text } from "./dom.js";
import { gradeSign, outcomeColor } from "./colors.js";
import { DASH, clock, count, number, seconds } from "./format.js";
import { chip, ellipticity, links, thumbnail, width } from "./parts.js";
import { smallMap } from "./plane.js";
import { bandsOf, choose, instrument, night, onSky, selectDetector, shown, view, widthRange } from "./view.js";

const ROWS = 12;

export function drawRows(all) {
  text($("rows-empty"), all.length ? "" : "Waiting for the first announced exposure: nothing was published in the last hours.");
  text($("seeing-head"), onSky() ? "Seeing" : "FWHM");
  text($("exposures-note"), all.length > ROWS ? `${count(all.length)} in all` : "");
  const bands = bandsOf(all);
  const chosen = shown();
  const range = widthRange(all);
  const outlines = night.sections.planes?.[instrument()]?.detectors ?? {};
  const list = all.slice(-ROWS).reverse();
  const detail = view.chosen !== null && view.detail?.key === chosen?.key ? view.detail : null;
  const rows = list.flatMap((visit) => (detail && visit.key === chosen.key ? [visit, { key: "more", detail, visit }] : [visit]));
  keyed($("rows"), rows, (item) => item.key, makeRow, (row, item) => {
    if (item.key === "more") return fillMore(row, item);
    row.classList.toggle("chosen", item.key === chosen?.key);
    const signature = JSON.stringify([item, range, Object.keys(outlines).length, onSky()]);
    if (row.dataset.signature === signature) return;
    row.dataset.signature = signature;
    fillRow(row, item, bands, range, outlines);
  });
}

function makeRow(item) {
  if (item.key === "more") return h("tr", { class: "more" }, h("td", { colspan: 11 }));
  const button = h("button", { type: "button" }, String(item.exposure));
  const row = h("tr", { class: "row", click: () => choose(item) }, ["", "", "", "picture", "number", "number medium", "number wide", "number wide", "number medium", "medium", "outcomes"].map((name) => h("td", { class: name || null })));
  row.children[1].append(button);
  return row;
}

function fillRow(row, visit, bands, range, outlines) {
  const cells = row.children;
  text(cells[0], clock(visit.at));
  text(cells[1].firstElementChild, String(visit.exposure));
  if (visit.tense !== "current" && cells[1].childElementCount < 2) cells[1].append(h("span", { class: "tense" }, visit.tense));
  cells[2].replaceChildren(chip(visit, bands));
  cells[3].replaceChildren(visit.cells ? smallMap(outlines, visit.cells, range) : "");
  text(cells[4], visit.seeing === null && visit.fwhm === null ? DASH : visit.seeing === null ? `${number(visit.fwhm, 2)} px` : `${number(visit.seeing, 2)}″`);
  text(cells[5], number(visit.ellipticity, 3));
  text(cells[6], count(visit.stars));
  text(cells[7], count(visit.sources));
  text(cells[8], visit.latency_max === null ? DASH : `${seconds(visit.latency_max)} s`);
  cells[10].replaceChildren(h("span", { class: "counts" }, h("span", { class: "of" }, `${visit.done}/${visit.frames}`),
    ["degraded", "failed", "expired"].filter((name) => visit[name]).map((name) => h("span", { tone: outcomeColor(name), title: name }, `${visit[name]} ${name}`))));
  cells[9].replaceChildren(visit.grade === "unknown" ? DASH : h("span", { class: "grade" }, gradeSign(visit.grade), h("span", {}, visit.grade)));
}

/** The detectors of the chosen exposure under its row, with their reports and thumbnails. */
function fillMore(row, { detail, visit }) {
  const signature = JSON.stringify([visit.key, detail.frames.map((frame) => [frame.detector, frame.outcome, frame.seeing, frame.fwhm])]);
  if (row.dataset.signature === signature) return;
  row.dataset.signature = signature;
  const some = detail.frames.slice(0, 24);
  row.firstElementChild.replaceChildren(
    h("ul", { class: "frames" }, some.map((frame) => h("li", { tone: outcomeColor(frame.outcome) },
      h("button", { type: "button", click: () => selectDetector(frame.detector) }, `Detector ${frame.detector}`),
      thumbnail(visit, frame),
      h("div", { class: "dim" }, frame.fwhm === null && frame.seeing === null ? frame.outcome : `${width(frame)}, e ${number(ellipticity(frame), 3)}`),
      frame.codes.map((code) => h("div", {}, code)),
      links(frame)))),
    detail.frames.length > some.length ? h("p", { class: "dim" }, `and ${detail.frames.length - some.length} more in the focal plane`) : "",
  );
}
