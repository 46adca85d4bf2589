// The live page: puts the night into the page and follows the keyboard.

import { $, h, keyed, s, text, webAddress } from "./dom.js";
import { OUTCOMES, bandColor, bandStyle, gradeColor, gradeSign, marker, outcomeColor, rampGradient } from "./colors.js";
import { Chart, hideTip, showTip, tickDigits } from "./chart.js";
import { DASH, clock, count, day, number, plural, seconds, short, span } from "./format.js";
import { Link } from "./link.js";
import { Night } from "./night.js";
import { Plane, smallMap, whiskerKey } from "./plane.js";

const ROWS = 12;
const THEMES = ["dark", "light", "red"];
const LATE_EXPOSURE = 120;

const night = new Night();
const view = {
  instrument: null, // null: that of the latest exposure
  chosen: null, // key of the exposure shown; null: the latest
  detector: null,
  color: "fwhm",
  scale: "night",
  detail: null, // answer of /api/visits for the exposure shown
  link: "connecting",
  linkSince: Date.now(),
};

/* ---- what is shown ---- */

const instrument = () => view.instrument ?? night.order[night.order.length - 1]?.instrument ?? null;
const visits = () => night.of(instrument());
const latest = (all) => all.findLast((visit) => visit.done > 0) ?? all[all.length - 1] ?? null;
const shown = () => night.visits.get(view.chosen) ?? latest(visits());
const onSky = (all) => all.some((visit) => visit.seeing !== null);
const bandsOf = (all) => [...new Set(all.map((visit) => visit.band))].sort();
const measured = (all) => all.filter((visit) => visit.fwhm !== null || visit.seeing !== null);

/** Width of the PSF in arcseconds; in pixels for cameras whose exposures have no celestial coordinates. */
let sky = true;
const widthOf = (visit) => (sky ? visit.seeing : visit.fwhm);
const widthUnit = () => (sky ? "″" : " px");

function widthRange(all) {
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
function whiskerScale(all) {
  const high = all.map((visit) => visit.ellipticity_high).filter((value) => value !== null).sort((a, b) => a - b);
  const usual = high.length ? high[Math.floor(0.9 * (high.length - 1))] : 0.1;
  return [0.02, 0.05, 0.1, 0.2, 0.4].find((value) => value >= usual) ?? 0.8;
}

/* ---- charts ---- */

const describe = (visit) => [
  `Exposure ${visit.exposure}`,
  [
    ["UTC", clock(visit.at)],
    ["Band", visit.band ?? DASH],
    ["Seeing", visit.seeing === null ? `${number(visit.fwhm, 2)} px` : `${number(visit.seeing, 2)}″`],
    ["Ellipticity", number(visit.ellipticity, 3)],
    ["Latency", `${seconds(visit.latency_max)} s`],
    ["Detectors", `${visit.done} of ${visit.frames}`],
  ],
];

const charts = [
  new Chart("chart-seeing", {
    name: () => (sky ? "Seeing, arcsec" : "PSF FWHM, pixels"), empty: "Waiting for the first measured exposure", room: 0.04,
    value: (visit) => widthOf(visit), low: (visit) => (sky ? visit.seeing_low : null), high: (visit) => (sky ? visit.seeing_high : null),
    format: (value) => `${number(value, 2)}${widthUnit()}`, tick: (value, all) => value.toFixed(tickDigits(all)),
  }, choose, describe),
  new Chart("chart-ellipticity", {
    name: () => "Ellipticity", empty: "Waiting for the first measured exposure", room: 0.005, zero: true,
    value: (visit) => visit.ellipticity, low: (visit) => visit.ellipticity_low, high: (visit) => visit.ellipticity_high,
    format: (value) => number(value, 3), tick: (value, all) => value.toFixed(tickDigits(all)),
  }, choose, describe),
  new Chart("chart-latency", {
    name: () => "Longest latency, s", empty: "Waiting for the first published exposure", log: true, limit: { value: 60, name: "60 s" },
    value: (visit) => (visit.latency_max === null ? null : Math.max(0.05, visit.latency_max)),
    format: (value) => `${seconds(value)} s`, tick: (value) => String(value),
  }, choose, describe),
];

const plane = new Plane(selectDetector, (frame, event) => {
  if (!frame) return hideTip();
  showTip(event.clientX, event.clientY, `Detector ${frame.detector}`, [
    ["FWHM", width(frame)],
    ["Ellipticity", number(ellipticity(frame), 3)],
    ["PSF stars", count(frame.stars)],
    ["Outcome", frame.outcome],
    ...(frame.codes.length ? [["Reason", short(frame.codes[0])]] : []),
  ]);
});

const width = (frame) => (frame.seeing === null ? `${number(frame.fwhm, 2)} px` : `${number(frame.seeing, 2)}″`);
const ellipticity = (frame) => (frame.e1 === null || frame.e2 === null ? null : Math.hypot(frame.e1, frame.e2));

/* ---- drawing ---- */

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
  sky = !all.length || onSky(all);
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

function drawHeader(all) {
  const began = night.sections.totals?.began;
  text($("night-name"), began ? `Night of ${day(began - 12 * 3600 + 3600)}, since ${clock(began, false)}` : "");
  const names = night.instruments;
  $("instruments").hidden = names.length < 2;
  keyed($("instruments"), names, (name) => name,
    (name) => h("button", { type: "button", click: () => chooseInstrument(name) }, short(name, 24)),
    (button, name) => button.setAttribute("aria-pressed", String(name === instrument())));
  const state = view.link;
  $("link").dataset.state = state;
  text($("link").lastElementChild, { live: "live", lost: "no connection", connecting: "connecting" }[state]);
  document.title = all.length ? `${number(widthOf(measured(all).at(-1) ?? all.at(-1)), 2)}${widthUnit()} streamchar` : "streamchar: the night";
}

function drawBanners(all) {
  const list = [];
  const now = night.now;
  if (view.link === "lost") {
    list.push(["link", false, "No connection to the server", `since ${clock(view.linkSince / 1000)} UTC (${span((Date.now() - view.linkSince) / 1000)}). The page shows what it knew then, and goes on by itself.`]);
  }
  const kafka = night.sections.kafka;
  if (kafka && !kafka.connected && now - kafka.since > 3) {
    list.push(["kafka", false, "No connection to Kafka", `since ${clock(kafka.since)} UTC (${span(now - kafka.since)}). ${short(kafka.detail ?? "", 160)}`]);
  }
  if (kafka?.connected && kafka.behind > 300) {
    list.push(["behind", true, "Reading the night", `${count(kafka.behind)} records to go`]);
  }
  if (night.sections.services?.some((service) => service.figures.breaker > 0)) {
    list.push(["breaker", false, "The service has stopped its intake", "too many exposures failed in a row"]);
  }
  if (night.sections.services?.some((service) => service.figures.blocked > 0)) {
    list.push(["blocked", false, "The service cannot publish", "results wait until the brokers take them"]);
  }
  const newest = all.at(-1);
  if (view.link === "live" && newest && now - newest.at > lateAfter(all)) {
    list.push(["stale", true, "No new exposure", `for ${span(now - newest.at)}; the latest is of ${clock(newest.at)} UTC`]);
  }
  keyed($("banners"), list, ([key]) => key, () => h("p", {}, h("b"), h("span")), (line, [key, mild, title, detail]) => {
    line.className = mild ? `mild ${key}` : key;
    text(line.firstElementChild, title);
    text(line.lastElementChild, detail);
  });
  for (const tile of document.querySelectorAll(".tile")) {
    tile.classList.toggle("old", list.some(([key]) => !["behind", "breaker", "blocked"].includes(key)));
  }
}

/** Seconds after which a new exposure is overdue: several times the usual distance between two. */
function lateAfter(all) {
  const recent = all.slice(-20);
  const gaps = recent.slice(1).map((visit, i) => visit.at - recent[i].at).sort((a, b) => a - b);
  return Math.max(LATE_EXPOSURE, 5 * (gaps[Math.floor(gaps.length / 2)] ?? 0));
}

function tile(id, big, unit, sub) {
  const box = $(id);
  text(box.querySelector("b"), big);
  const small = box.querySelector("small");
  if (unit instanceof Node) small.replaceChildren(unit);
  else text(small, unit);
  const line = box.querySelector(".sub");
  if (sub instanceof Array) line.replaceChildren(...sub);
  else text(line, sub);
}

function chip(visit, bands) {
  if (!visit?.band) return "";
  const style = bandStyle(visit.band, bands);
  return h("span", { class: "chip", tone: bandColor(style) }, s("svg", { viewBox: "0 0 10 10", width: 10, height: 10, "aria-hidden": "true" }, s("path", { d: marker(style, 5, 5, 3.6), fill: bandColor(style) })), short(visit.band, 12));
}

function drawTiles(all) {
  const several = night.instruments.length > 1;
  text($("tile-latency").querySelector("h2"), several ? "Latency, all instruments" : "Latency");
  text($("tile-exposures").querySelector("h2"), several ? "Exposures, all instruments" : "Exposures");
  const known = measured(all);
  const last = known.at(-1);
  const bands = bandsOf(all);
  const waiting = all.length ? "Waiting for the first measured exposure" : "Waiting for the first exposure";
  tile("tile-seeing", last ? number(widthOf(last), 2) : DASH, last ? h("span", {}, widthUnit(), " ", chip(last, bands)) : "",
    last ? `Exposure ${last.exposure}, ${clock(last.at)}. ${trend(known, last, widthOf, 2, widthUnit())}` : waiting);
  tile("tile-ellipticity", last ? number(last.ellipticity, 3) : DASH, "",
    last ? `90 % of detectors below ${number(last.ellipticity_high, 3)}. ${trend(known, last, (visit) => visit.ellipticity, 3, "")}` : waiting);
  drawLatency();
  drawExposures();
}

/** How the latest value compares with the median of those before, in the same band. */
function trend(known, last, value, digits, unit) {
  const before = known.filter((visit) => visit.band === last.band && visit !== last && value(visit) !== null).slice(-15).map(value).sort((a, b) => a - b);
  if (before.length < 3) return "";
  return `Before: ${number(before[Math.floor(before.length / 2)], digits)}${unit}`;
}

function drawLatency() {
  const figures = night.sections.latency;
  const box = $("tile-latency");
  if (!figures?.frames) {
    tile("tile-latency", DASH, "", "Waiting for the first published exposure");
    return;
  }
  const from = { shutter: "shutter close", announcement: "announcement" }[figures.from] ?? "shutter close or announcement";
  tile("tile-latency", seconds(figures.p95), h("span", {}, "s ", h("span", { class: "chip" }, "p95")),
    `Median ${seconds(figures.p50)} s from ${from}${figures.late ? `, ${count(figures.late)} over ${figures.limit} s` : ""}`);
  box.querySelector(".meter i").style.width = `${Math.min(100, (100 * figures.p95) / figures.limit)}%`;
  box.querySelector(".meter").classList.toggle("late", figures.p95 > figures.limit);
}

function drawExposures() {
  const totals = night.sections.totals;
  const stack = $("tile-exposures").querySelector(".stack");
  if (!totals?.frames) {
    tile("tile-exposures", "0", "", "Waiting for the first announcement");
    stack.replaceChildren();
    return;
  }
  const done = totals.frames - totals.waiting;
  tile("tile-exposures", count(totals.visits), "", [
    `${count(done)} of ${plural(totals.frames, "detector image")} done`,
    ...["degraded", "failed", "expired"].filter((name) => totals[name]).flatMap((name) => [", ", h("b", { tone: outcomeColor(name) }, `${count(totals[name])} ${name}`)]),
  ]);
  for (const bold of $("tile-exposures").querySelectorAll(".sub b")) bold.style.color = "var(--tone)";
  keyed(stack, OUTCOMES.filter((name) => totals[name]), (name) => name, (name) => h("i", { tone: outcomeColor(name) }), (part, name) => {
    part.style.width = `${(100 * totals[name]) / totals.frames}%`;
  });
}

function drawCurves(all) {
  const bands = bandsOf(all);
  const key = shown()?.key ?? null;
  for (const chart of charts) chart.draw(all, key, bands, night.now);
  keyed($("bands"), bands.filter((band) => band !== null), (band) => band,
    (band) => h("li", {}, s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }), h("span")),
    (item, band) => {
      const style = bandStyle(band, bands);
      item.firstElementChild.replaceChildren(s("path", { d: marker(style, 5, 5, 4), fill: bandColor(style) }));
      text(item.lastElementChild, short(band, 16));
    });
}

function drawPlane(all) {
  const visit = shown();
  const follows = view.chosen === null;
  $("latest").setAttribute("aria-pressed", String(follows));
  for (const name of ["fwhm", "grade"]) $(`color-${name}`).setAttribute("aria-pressed", String(view.color === name));
  if (!visit) {
    text($("shown"), "");
    plane.draw({ outlines: {}, frames: [], empty: "Waiting for the first exposure", label: "Focal plane: nothing yet" });
    $("scale").replaceChildren();
    $("detector").replaceChildren();
    return;
  }
  text($("shown"), `${short(visit.instrument, 24)} ${visit.exposure}${visit.band ? ` · ${short(visit.band, 12)}` : ""} · ${clock(visit.at)}`);
  const at = all.findIndex((each) => each.key === visit.key);
  $("previous").disabled = at <= 0;
  $("next").disabled = at < 0 || at >= all.length - 1;
  const detail = view.detail?.key === visit.key ? view.detail : null;
  const outlines = night.sections.planes?.[visit.instrument]?.detectors ?? detail?.detectors ?? {};
  const range = widthRange(all);
  const whisker = whiskerScale(all);
  // Until the exposure has come, its predecessor stays, dimmed, rather than an empty camera.
  const coming = !detail && view.detail?.visit[0] === visit.instrument;
  $("map").classList.toggle("coming", coming);
  if (coming) return;
  plane.draw({
    outlines, range, whisker, color: view.color, chosen: view.detector,
    frames: detail?.frames ?? [], empty: "Waiting for detectors",
    label: `Focal plane of exposure ${visit.exposure}: ${visit.done} of ${visit.frames} detectors done, ${visit.failed + visit.expired} without products, median FWHM ${number(widthOf(visit), 2)}${widthUnit()}. Arrow keys move between detectors.`,
  });
  drawScale(range, whisker);
  drawDetector(visit, detail);
}

function drawScale(range, whisker) {
  const box = $("scale");
  const signature = [view.color, view.scale, ...range, whisker, plane.cell, widthUnit()].join();
  if (box.dataset.signature === signature) return;
  const hadFocus = box.contains(document.activeElement);
  box.dataset.signature = signature;
  if (view.color === "grade") {
    box.replaceChildren(...["green", "yellow", "orange", "red", "unknown"].map((grade) => h("span", { class: "key" }, h("i", { class: "swatch", tone: gradeColor(grade) }), grade)));
    return;
  }
  const bar = h("span", { class: "ramp" });
  bar.style.background = rampGradient();
  const button = h("button", { type: "button", click: toggleScale, title: "Scale of the night or of this exposure (S)" }, `scale: ${view.scale}`);
  box.replaceChildren(h("span", {}, `${number(range[0], 2)}${widthUnit()}`), bar, h("span", {}, `${number(range[1], 2)}${widthUnit()}`), button, whiskerKey(whisker, plane.cell || 20));
  if (hadFocus) button.focus();
}

function drawDetector(visit, detail) {
  const box = $("detector");
  const frame = detail?.frames.find((each) => each.detector === view.detector);
  const signature = frame ? JSON.stringify([visit.key, frame]) : JSON.stringify([visit.key, visit]);
  if (box.dataset.signature === signature) return;
  box.dataset.signature = signature;
  if (!frame) {
    box.replaceChildren(facts([
      ["FWHM", visit.seeing === null ? `${number(visit.fwhm, 2)} px` : `${number(visit.seeing, 2)}″ (${number(visit.fwhm, 2)} px)`],
      ["Ellipticity", number(visit.ellipticity, 3)], ["PSF stars", count(visit.stars)], ["Sources", count(visit.sources)],
      ["Sky", number(visit.sky, 1)], ["Detectors", `${visit.done} of ${visit.frames}`],
    ]));
    return;
  }
  box.replaceChildren(
    h("h3", {}, `Detector ${frame.detector}`, outcomeChip(frame.outcome), frame.grade === "unknown" ? null : h("span", { class: "grade" }, gradeSign(frame.grade), frame.grade)),
    facts([
      ["FWHM", frame.seeing === null ? `${number(frame.fwhm, 2)} px` : `${number(frame.seeing, 2)}″ (${number(frame.fwhm, 2)} px)`],
      ["Ellipticity", number(ellipticity(frame), 3)], ["e1, e2", `${number(frame.e1, 3)}, ${number(frame.e2, 3)}`],
      ["PSF stars", count(frame.stars)], ["Sources", count(frame.sources)], ["Sky", number(frame.sky, 1)],
      ["Cosmic rays", frame.cosmic_rays === null ? DASH : `${number(100 * frame.cosmic_rays, 3)} %`],
      ["Latency", `${seconds(frame.latency)} s`], ["Work", `${seconds(frame.work)} s`],
      ...(frame.attempts > 1 ? [["Attempts", String(frame.attempts)]] : []),
    ]),
    ...explain(frame),
    links(frame),
    thumbnail(visit, frame) ?? "",
  );
}

const facts = (list) => h("dl", { class: "facts" }, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
const outcomeChip = (outcome) => h("span", { class: "chip", tone: outcomeColor(outcome) }, outcome);

function explain(frame) {
  const lines = frame.reasons.length ? frame.reasons.map((reason) => [reason.code, reason.text]) : frame.codes.map((code) => [code, ""]);
  const limits = frame.grade_reasons.map((reason) => {
    const { value, limit } = reason.values;
    return [`${reason.code} ${typeof value === "number" ? Number(value.toPrecision(3)) : ""}`, typeof limit === "number" ? `limit ${limit}` : ""];
  });
  return [...lines, ...limits].map(([code, detail]) => h("p", { class: "why" }, h("b", {}, code), detail ? ` ${detail}` : ""));
}

/** Links to the report and to stored products; what cannot be opened by a browser is only named. */
function links(frame) {
  const parts = [];
  const report = webAddress(frame.report);
  if (report) parts.push(h("a", { href: report, rel: "noreferrer noopener", target: "_blank" }, "Report"));
  for (const product of frame.products) {
    if (!product.uri) continue;
    const address = webAddress(product.uri);
    parts.push(address ? h("a", { href: address, rel: "noreferrer noopener", target: "_blank" }, product.name) : h("span", { class: "dim" }, `${product.name}: ${product.uri}`));
  }
  return h("p", { class: "links" }, parts);
}

function thumbnail(visit, frame) {
  if (!frame.thumbnail) return null;
  const address = `/api/thumbnails/${encodeURIComponent(visit.instrument)}/${visit.exposure}/${frame.detector}`;
  return h("img", { src: address, alt: `Exposure ${visit.exposure}, detector ${frame.detector}`, loading: "lazy", error: (event) => event.target.remove() });
}

function drawRows(all) {
  text($("rows-empty"), all.length ? "" : "Waiting for the first announced exposure: nothing was published in the last hours.");
  text($("seeing-head"), sky ? "Seeing" : "FWHM");
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
    const signature = JSON.stringify([item, range, Object.keys(outlines).length, sky]);
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

function drawLights() {
  const list = night.sections.lights ?? [];
  const box = $("lights");
  const signature = JSON.stringify(list);
  if (box.dataset.signature === signature) return;
  box.dataset.signature = signature;
  if (!list.length) {
    box.replaceChildren(h("p", { class: "empty" }, "Waiting for the first graded exposure"));
    return;
  }
  box.replaceChildren(...list.map((light) => {
    const bad = light.counts[3] + light.counts[4];
    const total = light.counts.reduce((sum, each) => sum + each, 0);
    const word = light.grade === "unknown" ? "no limits set" : light.grade;
    return h("div", { class: "light" }, gradeSign(light.grade),
      h("div", {}, h("b", {}, `${short(light.instrument, 20)}${light.band ? ` ${short(light.band, 12)}` : ""}`), h("span", {}, word), h("br"),
        h("small", {}, light.grade === "unknown" ? plural(total, "exposure") : `${count(total - bad)} of ${count(total)} good`)));
  }));
}

function drawFailures() {
  const list = night.sections.failures ?? [];
  const totals = night.sections.totals;
  const number_ = totals ? totals.failed + totals.expired : 0;
  text($("failures-empty"), list.length ? "" : "None this night.");
  text($("trouble-note"), number_ > list.length ? `latest ${list.length} of ${count(number_)}` : "");
  keyed($("failures"), list, (item) => `${item.event_id} ${item.at}`, (item) => {
    const known = item.instrument !== null && item.exposure !== null;
    const what = known ? `${short(item.instrument, 24)} ${item.exposure}, detector ${item.detector}` : short(item.event_id, 60);
    return h("li", { class: item.outcome }, h("button", { type: "button", disabled: !known, click: () => showFailure(item) },
      h("span", { class: "head" }, h("span", { class: "code" }, item.code || item.outcome), h("span", { class: "what" }, what), h("time", {}, clock(item.at))),
      item.text ? h("span", { class: "text" }, short(item.text, 240)) : null));
  }, () => {});
}

function drawReasons() {
  const list = night.sections.reasons ?? [];
  text($("reasons-empty"), list.length ? "" : "Nothing was degraded or failed.");
  const most = Math.max(1, ...list.map((item) => item[2]));
  keyed($("reasons"), list.slice(0, 12), ([outcome, code]) => `${outcome} ${code}`,
    ([outcome, code]) => h("li", {}, h("span", { class: "code" }, code, h("small", {}, outcome)), h("b"), h("span", { class: "bar-line" }, h("i", { tone: outcomeColor(outcome) }))),
    (item, [, , times]) => {
      text(item.children[1], count(times));
      item.querySelector("i").style.width = `${(100 * times) / most}%`;
    });
}

function drawFlow() {
  const { totals, kafka, latency, services } = night.sections;
  if (!totals) return;
  const lag = (services ?? []).map((service) => service.figures.lag).filter((value) => value !== undefined);
  const sum = (name) => (services ?? []).reduce((all, service) => all + (service.figures[name] ?? 0), 0);
  const list = [
    ["Announced, not done", count(totals.waiting)],
    ...(lag.length ? [["Lag of the service", count(lag.reduce((all, each) => all + each, 0))], ["In work", count(sum("in_flight"))], ["Waiting", count(sum("backlog") + sum("delayed"))]] : []),
    ["Latency, median", latency?.frames ? `${seconds(latency.p50)} s` : DASH],
    ["Latency, 95 %", latency?.frames ? `${seconds(latency.p95)} s` : DASH],
    ["Longest", latency?.frames ? `${seconds(latency.max)} s` : DASH],
    [`Over ${latency?.limit ?? 60} s`, latency?.frames ? count(latency.late) : DASH],
    ["Kafka", kafka?.connected ? "connected" : "no connection"],
    ...(kafka?.missing.length ? [["Topics awaited", kafka.missing.map((name) => short(name)).join(", ")]] : []),
    ...(kafka?.unreadable ? [["Unreadable records", count(kafka.unreadable)]] : []),
  ];
  keyed($("flow-list"), list, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd")), (item, [, value]) => text(item.lastElementChild, value));
}

function drawServices() {
  const list = night.sections.services ?? [];
  if (!list.length) {
    $("services").replaceChildren(h("p", { class: "empty" }, "Not known: no address of a service's metrics is set (dashboard.metrics, --metrics)."));
    return;
  }
  if ($("services").firstElementChild?.className === "empty") $("services").replaceChildren();
  keyed($("services"), list, (service) => service.address, () => h("div", { class: "service" }), (box, service) => {
    const { figures, ends } = service;
    const { at, ...rest } = service;
    const old = service.problem && at ? Math.floor((night.now - at) / 10) : 0;
    const signature = JSON.stringify([rest, old]);
    if (box.dataset.signature === signature) return;
    box.dataset.signature = signature;
    const busy = figures.busy ?? 0;
    const idle = Math.max(0, (figures.ready ?? 0) - busy);
    const spare = figures.spare ?? 0;
    const lost = Object.entries(ends).filter(([cause]) => !["closed", "recycled"].includes(cause));
    const squares = [...Array(Math.min(128, busy)).fill("busy"), ...Array(Math.min(128, idle)).fill("idle"), ...Array(Math.min(32, spare)).fill("spare")];
    box.replaceChildren(
      service.problem ? h("p", { class: "problem" }, at ? `No answer since ${clock(at)}: ${service.problem}` : `No answer: ${service.problem}`) : "",
      h("div", { class: "squares", "aria-hidden": "true" }, squares.map((name) => h("i", { class: name }))),
      facts([
        ["Busy", count(busy)], ["Idle", count(idle)], ["Spare", count(spare)],
        ["Replaced by plan", count(ends.recycled ?? 0)],
        ...(lost.length ? lost.map(([cause, times]) => [`Lost: ${short(cause, 24)}`, count(times)]) : [["Lost", "0"]]),
      ]),
    );
    for (const dt of box.querySelectorAll("dt")) if (dt.textContent.startsWith("Lost:")) dt.nextElementSibling.className = "warn";
  });
}

/* ---- the exposure shown ---- */

let wanted = "";
let fetching = false;

/** Fetch the exposure shown whenever it, or what is known of it, has changed; once at a time. */
async function refreshDetail() {
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
      draw();
    }
  } catch {
    // The server is away; the stream of events says so, and the next one asks again.
  } finally {
    fetching = false;
  }
  if (JSON.stringify(shown()) !== wanted) setTimeout(refreshDetail, 400);
}

function choose(visit) {
  view.chosen = visit?.key ?? null;
  if (visit && view.instrument !== null && visit.instrument !== view.instrument) view.instrument = visit.instrument;
  view.detector = view.detail?.key === view.chosen ? view.detector : null;
  draw();
  refreshDetail();
}

function selectDetector(detector) {
  view.detector = detector;
  if (detector !== null && view.chosen === null) view.chosen = shown()?.key ?? null;
  draw();
}

function step(by) {
  const all = visits();
  const at = all.findIndex((visit) => visit.key === shown()?.key);
  const next = all[Math.min(all.length - 1, Math.max(0, at + by))];
  if (next) choose(next);
}

function follow() {
  view.chosen = null;
  view.detector = null;
  draw();
  refreshDetail();
}

function chooseInstrument(name) {
  view.instrument = name;
  follow();
}

function showFailure(item) {
  const visit = night.visits.get(`${item.instrument}/${item.exposure}`);
  if (!visit) return;
  if (visit.instrument !== instrument()) view.instrument = visit.instrument;
  choose(visit);
  view.detector = item.detector;
  draw();
  $("plane").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function toggleColor(name) {
  view.color = name ?? (view.color === "fwhm" ? "grade" : "fwhm");
  draw();
}

function toggleScale() {
  view.scale = view.scale === "night" ? "exposure" : "night";
  draw();
}

function nextInstrument() {
  const names = night.instruments;
  if (names.length > 1) chooseInstrument(names[(names.indexOf(instrument()) + 1) % names.length]);
}

function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "dark";
  try {
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  } catch {
    // Private windows may forbid it; the theme then lasts as long as the page.
  }
}

function storedTheme() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

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

setTheme(storedTheme() ?? new URLSearchParams(location.search).get("theme"));
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
    wanted = "";
  }
  if (kind === "beat") {
    night.offset = data.now - Date.now() / 1000;
    return;
  }
  night.apply(kind, data);
  draw();
  refreshDetail();
}, (state, heard) => {
  view.link = state;
  view.linkSince = state === "lost" ? heard : Date.now();
  draw();
});
draw();
