// Pieces that several parts of the page show in the same way.

import { h, s, webAddress } from "./dom.js";
import { bandColor, bandStyle, marker, outcomeColor } from "./colors.js";
import { number, short } from "./format.js";

export const width = (frame) => (frame.seeing === null ? `${number(frame.fwhm, 2)} px` : `${number(frame.seeing, 2)}″`);
export const ellipticity = (frame) => (frame.e1 === null || frame.e2 === null ? null : Math.hypot(frame.e1, frame.e2));

export function chip(visit, bands) {
  if (!visit?.band) return "";
  const style = bandStyle(visit.band, bands);
  return h("span", { class: "chip", tone: bandColor(style) }, s("svg", { viewBox: "0 0 10 10", width: 10, height: 10, "aria-hidden": "true" }, s("path", { d: marker(style, 5, 5, 3.6), fill: bandColor(style) })), short(visit.band, 12));
}

export const facts = (list) => h("dl", { class: "facts" }, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
export const outcomeChip = (outcome) => h("span", { class: "chip", tone: outcomeColor(outcome) }, outcome);

export function explain(frame) {
  const lines = frame.reasons.length ? frame.reasons.map((reason) => [reason.code, reason.text]) : frame.codes.map((code) => [code, ""]);
  const limits = frame.grade_reasons.map((reason) => {
    const { value, limit } = reason.values;
    return [`${reason.code} ${typeof value === "number" ? Number(value.toPrecision(3)) : ""}`, typeof limit === "number" ? `limit ${limit}` : ""];
  });
  return [...lines, ...limits].map(([code, detail]) => h("p", { class: "why" }, h("b", {}, code), detail ? ` ${detail}` : ""));
}

/** Links to the report and to stored products; what cannot be opened by a browser is only named. */
export function links(frame) {
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

export function thumbnail(visit, frame) {
  if (!frame.thumbnail) return null;
  const address = `/api/thumbnails/${encodeURIComponent(visit.instrument)}/${visit.exposure}/${frame.detector}`;
  return h("img", { src: address, alt: `Exposure ${visit.exposure}, detector ${frame.detector}`, loading: "lazy", error: (event) => event.target.remove() });
}
