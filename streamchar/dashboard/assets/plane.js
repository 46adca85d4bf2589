// The focal plane of one exposure: every detector coloured by FWHM or grade, whiskers for the ellipticity.

import { $, h, s } from "./dom.js";
import { gradeColor, ramp } from "./colors.js";

const MARGIN = 8;
const BAD = ["failed", "expired"];

export class Plane {
  /**
   * @param select called with a detector number, or null when it is left
   * @param hover called with a frame and the pointer's event, or null
   */
  constructor(select, hover) {
    this.box = $("map");
    this.select = select;
    this.svg = s("svg", { tabindex: 0, role: "group", "aria-roledescription": "focal plane" });
    this.box.append(this.svg);
    this.state = null;
    this.centers = new Map();
    this.cell = 0;
    new ResizeObserver(() => this.state && this.draw(this.state)).observe(this.box);
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("click", (event) => this.at(event, (frame) => select(frame.detector)));
    this.svg.addEventListener("pointermove", (event) => {
      if (!this.at(event, (frame) => hover(frame, event))) hover(null);
    });
    this.svg.addEventListener("pointerleave", () => hover(null));
  }

  at(event, use) {
    const number = event.target.dataset?.detector;
    const frame = number && this.state?.frames.find((each) => String(each.detector) === number);
    if (frame) use(frame);
    return Boolean(frame);
  }

  /** Draw {outlines, frames, range, whisker, color, chosen, label, empty}. */
  draw(state) {
    this.state = state;
    const width = this.box.clientWidth;
    const height = this.box.clientHeight;
    const { svg } = this;
    if (!width) return;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", state.label);
    const project = fit(state.outlines, width, height);
    this.centers.clear();
    if (!project) {
      svg.dataset.detectors = 0;
      svg.replaceChildren(s("text", { class: "nothing", x: width / 2, y: height / 2 }, state.empty));
      return;
    }
    const byNumber = new Map(state.frames.map((frame) => [String(frame.detector), frame]));
    const fills = [];
    const over = [];
    let whiskers = "";
    let measured = 0;
    for (const [number, flat] of Object.entries(state.outlines)) {
      const corners = project(flat);
      const size = Math.min(distance(corners[0], corners[1]), distance(corners[1], corners[2]));
      const frame = byNumber.get(number);
      const points = corners.map((corner) => corner.map((value) => value.toFixed(1)).join(",")).join(" ");
      if (!frame) {
        fills.push(s("polygon", { class: "outline", points }));
        continue;
      }
      this.centers.set(frame.detector, middle(corners));
      const width_ = frame.seeing ?? frame.fwhm;
      const bad = BAD.includes(frame.outcome);
      if (bad) {
        fills.push(s("polygon", { class: "bad", points }));
        over.push(cross(corners));
      } else if (width_ === null) {
        fills.push(s("polygon", { class: frame.outcome === "waiting" ? "waiting" : "nopsf", points }));
      } else {
        measured += 1;
        this.cell = frame.grid?.length ? size / Math.sqrt(frame.grid.length) : size;
        const cells = state.color === "fwhm" && frame.grid?.length ? gridCells(frame.grid, corners, state.range) : null;
        if (cells) fills.push(...cells);
        else fills.push(s("polygon", { points, fill: state.color === "grade" ? gradeColor(frame.grade) : ramp(width_, state.range) }));
        whiskers += whiskerPath(frame, corners, size, state.whisker);
      }
      fills.push(s("polygon", { class: "hit", points, "data-detector": frame.detector }));
      if (size > 46) {
        const [x, y] = corners[3];
        over.push(s("text", { class: "number", x: x + 6, y: y + 16 }, String(frame.detector)));
      }
      if (frame.detector === state.chosen) over.push(s("polygon", { class: "chosen", points }));
    }
    svg.dataset.detectors = state.frames.length;
    svg.dataset.measured = measured;
    svg.replaceChildren(
      ...fills,
      s("path", { class: "whiskers-under", d: whiskers }),
      s("path", { class: "whiskers", d: whiskers }),
      ...over,
    );
  }

  /** Arrows move to the nearest detector in their direction. */
  key(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") return this.select(null);
    if (!direction || !this.centers.size) return;
    event.preventDefault();
    event.stopPropagation();
    const from = this.centers.get(this.state.chosen);
    if (!from) return this.choose(Math.min(...this.centers.keys()));
    let best = null;
    for (const [number, [x, y]] of this.centers) {
      const along = (x - from[0]) * direction[0] + (y - from[1]) * direction[1];
      const across = Math.abs((x - from[0]) * direction[1]) + Math.abs((y - from[1]) * direction[0]);
      if (along < 1 || across > along * 1.5) continue;
      const cost = along + 2 * across;
      if (!best || cost < best.cost) best = { number, cost };
    }
    if (best) this.choose(best.number);
  }

  /** Select a detector; the next key may come before the next drawing. */
  choose(number) {
    this.state.chosen = number;
    this.select(number);
  }
}

/** A small map for the table, from the detectors and their values. */
export function smallMap(outlines, [numbers, values], range) {
  const width = 46;
  const height = 38;
  const project = fit(outlines, width, height, 1);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (!project) return svg;
  const value = new Map(numbers.map((number, i) => [String(number), values[i]]));
  for (const [number, flat] of Object.entries(outlines)) {
    const known = value.get(number);
    if (known === undefined) continue;
    const points = project(flat).map((corner) => corner.map((each) => each.toFixed(1)).join(",")).join(" ");
    const fill = known > 0 ? ramp(known / 1000, range) : { "-3": "var(--failed)", "-4": "var(--expired)" }[known] ?? "var(--edge)";
    svg.append(s("polygon", { points, fill }));
  }
  return svg;
}

/** Function from a flat outline to its corners on the screen; null without any outline. */
function fit(outlines, width, height, margin = MARGIN) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const flat of Object.values(outlines)) {
    for (let i = 0; i < 8; i += 2) {
      x0 = Math.min(x0, flat[i]);
      x1 = Math.max(x1, flat[i]);
      y0 = Math.min(y0, flat[i + 1]);
      y1 = Math.max(y1, flat[i + 1]);
    }
  }
  if (!(x1 > x0)) return null;
  const zoom = Math.min((width - 2 * margin) / (x1 - x0), (height - 2 * margin) / (y1 - y0 || 1));
  const left = (width - zoom * (x1 - x0)) / 2;
  const top = (height - zoom * (y1 - y0)) / 2;
  return (flat) => [0, 2, 4, 6].map((i) => [left + zoom * (flat[i] - x0), top + zoom * (y1 - flat[i + 1])]);
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const middle = (corners) => [0, 1].map((i) => corners.reduce((sum, corner) => sum + corner[i], 0) / 4);

/** The point (u, v) of a detector, 0 to 1 from its first pixel, on the screen. */
function inside([a, b, c, d], u, v) {
  return [0, 1].map((i) => (1 - v) * ((1 - u) * a[i] + u * b[i]) + v * ((1 - u) * d[i] + u * c[i]));
}

function gridCells(grid, corners, range) {
  const half = [0, 1].map((axis) => 0.5 / Math.max(1, new Set(grid.map((point) => point[axis])).size));
  return grid.map(([u, v, width]) => {
    const box = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([du, dv]) => inside(corners, u + du * half[0], v + dv * half[1]));
    const color = ramp(width, range);
    return s("polygon", { points: box.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" "), fill: color, stroke: color });
  });
}

/** Whiskers along the longer axis of the PSF; `whisker` is the ellipticity that is as long as its cell. */
function whiskerPath(frame, corners, size, whisker) {
  const grid = frame.grid?.length ? frame.grid : frame.e1 === null ? [] : [[0.5, 0.5, 0, frame.e1, frame.e2]];
  const cell = frame.grid?.length ? size / Math.max(1, Math.sqrt(frame.grid.length)) : size;
  let path = "";
  for (const [u, v, , e1, e2] of grid) {
    const ellipticity = Math.hypot(e1, e2);
    const length = Math.min(1.6, ellipticity / whisker) * cell;
    const angle = 0.5 * Math.atan2(e2, e1);
    const center = inside(corners, u, v);
    const x = inside(corners, u + 0.01, v).map((value, i) => value - center[i]);
    const y = inside(corners, u, v + 0.01).map((value, i) => value - center[i]);
    const along = [0, 1].map((i) => Math.cos(angle) * x[i] + Math.sin(angle) * y[i]);
    const norm = Math.hypot(...along) || 1;
    const [dx, dy] = along.map((value) => (0.5 * length * value) / norm);
    path += `M${(center[0] - dx).toFixed(1)} ${(center[1] - dy).toFixed(1)}L${(center[0] + dx).toFixed(1)} ${(center[1] + dy).toFixed(1)}`;
  }
  return path;
}

function cross(corners) {
  const p = (u, v) => inside(corners, u, v).map((value) => value.toFixed(1)).join(" ");
  return s("path", { class: "bad-cross", d: `M${p(0.35, 0.35)}L${p(0.65, 0.65)}M${p(0.35, 0.65)}L${p(0.65, 0.35)}` });
}

/** The key beside the colours: a whisker of a round ellipticity, as long as it is in the map. */
export function whiskerKey(whisker, cell) {
  let [shown, length] = [whisker, cell];
  while (length > 60) [shown, length] = [shown / 2, length / 2];
  return h(
    "span",
    { class: "key" },
    s(
      "svg",
      { viewBox: `0 0 ${length + 4} 14`, width: length + 4, "aria-hidden": "true" },
      s("path", { d: `M2 7h${length}`, stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round" }),
    ),
    `e ${Number(shown.toPrecision(2))}`,
  );
}
