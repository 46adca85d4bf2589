// The night at a glance: head of the page, banners, large numbers, curves.

import { $, h, keyed, s, text } from "./dom.js";
import { OUTCOMES, bandColor, bandStyle, marker, outcomeColor } from "./colors.js";
import { Chart, tickDigits } from "./chart.js";
import { DASH, clock, count, day, number, plural, seconds, short, span } from "./format.js";
import { chip } from "./parts.js";
import { bandsOf, choose, chooseInstrument, instrument, measured, night, onSky, settled, shown, view, widthOf, widthUnit } from "./view.js";

const LATE_EXPOSURE = 120;

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
    name: () => (onSky() ? "Seeing, arcsec" : "PSF FWHM, pixels"), empty: "Waiting for the first measured exposure", room: 0.04,
    value: (visit) => widthOf(visit), low: (visit) => (onSky() ? visit.seeing_low : null), high: (visit) => (onSky() ? visit.seeing_high : null),
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

export function drawHeader(all) {
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

export function drawBanners(all) {
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
  keyed($("banners"), list, ([key]) => key, () => h("p", {}, h("b", { role: "alert" }), h("span")), (line, [key, mild, title, detail]) => {
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

export function drawTiles(all) {
  const several = night.instruments.length > 1;
  text($("tile-latency").querySelector("h2"), several ? "Latency, all instruments" : "Latency");
  text($("tile-exposures").querySelector("h2"), several ? "Exposures, all instruments" : "Exposures");
  const known = measured(all);
  const last = known.findLast(settled) ?? known.at(-1);
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

export function drawCurves(all) {
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
