// Colours and shapes: every colour that carries a meaning has a shape or a word beside it.

import { s } from "./dom.js";

/** Viridis without its darkest end: uniform to the eye, also to colour-blind ones. */
const RAMP = ["#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"].map((hex) =>
  [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);

/** Colour of a value between low and high. */
export function ramp(value, [low, high]) {
  const part = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0.5;
  const place = part * (RAMP.length - 1);
  const below = Math.min(RAMP.length - 2, Math.floor(place));
  const mixed = RAMP[below].map((from, i) => Math.round(from + (place - below) * (RAMP[below + 1][i] - from)));
  return `rgb(${mixed.join(" ")})`;
}

export function rampGradient() {
  return `linear-gradient(to right, ${RAMP.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
}

const KNOWN_BANDS = { g: 0, r: 1, i: 2, z: 3, y: 4, u: 5 };

/** Order of bands: the usual ones from blue to red, then the others by name. */
export function byWavelength(a, b) {
  const place = (band) => "ugrizy".indexOf(band ?? "?");
  const [left, right] = [place(a), place(b)];
  if (left >= 0 && right >= 0) return left - right;
  return left >= 0 ? -1 : right >= 0 ? 1 : String(a).localeCompare(String(b));
}

/** Style number of a band: the usual ones have theirs, others the free ones in the order of their appearance. */
export function bandStyle(band, all) {
  if (band in KNOWN_BANDS) return KNOWN_BANDS[band];
  const others = all.filter((name) => !(name in KNOWN_BANDS));
  return (all.length - others.length + others.indexOf(band)) % 6;
}

export const bandColor = (style) => `var(--band-${style})`;

/** Outline of a marker about (x, y) as SVG path data. */
export function marker(style, x, y, r = 3.6) {
  const p = (dx, dy) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`;
  switch (style) {
    case 0: {
      const d = (2 * r).toFixed(1);
      return `M${p(-1, 0)}a${r} ${r} 0 1 0 ${d} 0a${r} ${r} 0 1 0 -${d} 0z`;
    }
    case 1: return `M${p(-0.9, -0.9)}L${p(0.9, -0.9)}L${p(0.9, 0.9)}L${p(-0.9, 0.9)}z`;
    case 2: return `M${p(0, -1.25)}L${p(1.15, 0.85)}L${p(-1.15, 0.85)}z`;
    case 3: return `M${p(0, -1.35)}L${p(1.35, 0)}L${p(0, 1.35)}L${p(-1.35, 0)}z`;
    case 4: return `M${p(0, 1.25)}L${p(1.15, -0.85)}L${p(-1.15, -0.85)}z`;
    default: return `M${p(-0.4, -1.2)}L${p(0.4, -1.2)}L${p(0.4, -0.4)}L${p(1.2, -0.4)}L${p(1.2, 0.4)}L${p(0.4, 0.4)}L${p(0.4, 1.2)}L${p(-0.4, 1.2)}L${p(-0.4, 0.4)}L${p(-1.2, 0.4)}L${p(-1.2, -0.4)}L${p(-0.4, -0.4)}z`;
  }
}

export const OUTCOMES = ["succeeded", "degraded", "failed", "expired", "waiting"];
export const outcomeColor = (outcome) => `var(--${OUTCOMES.includes(outcome) ? outcome : "waiting"})`;

const GRADES = ["green", "yellow", "orange", "red"];
export const gradeColor = (grade) => `var(--${GRADES.includes(grade) ? grade : "unknown"})`;

/** A light for a grade, different in shape and not only in colour. */
export function gradeSign(grade) {
  const color = gradeColor(grade);
  const shape = {
    green: () => s("circle", { cx: 8, cy: 8, r: 7, fill: color }),
    yellow: () => s("path", { d: "M8 1L15 15H1z", fill: color }),
    orange: () => s("path", { d: "M8 0L16 8L8 16L0 8z", fill: color }),
    red: () => s("path", { d: "M5 1H11L15 5V11L11 15H5L1 11V5z", fill: color }),
  }[grade];
  return s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, shape ? shape() : s("circle", { cx: 8, cy: 8, r: 6, fill: "none", stroke: color, "stroke-width": 2 }));
}
