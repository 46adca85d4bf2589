// The focal plane of the exposure shown, its scale, and the detector chosen in it.

import { $, h, text } from "./dom.js";
import { gradeColor, gradeSign, rampGradient } from "./colors.js";
import { hideTip, showTip } from "./chart.js";
import { DASH, clock, count, number, seconds, short } from "./format.js";
import { ellipticity, explain, facts, links, outcomeChip, thumbnail, width } from "./parts.js";
import { Plane, whiskerKey } from "./plane.js";
import { night, selectDetector, shown, toggleScale, view, whiskerScale, widthOf, widthRange, widthUnit } from "./view.js";

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

export function drawPlane(all) {
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
  // A chosen detector is read out; the summary of each new exposure would be too much.
  box.setAttribute("aria-live", frame ? "polite" : "off");
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
