// A curve of the night: medians of each exposure by band, with the spread over the detectors, against time.

import { $, h, s } from "./dom.js";
import { bandColor, bandStyle, marker } from "./colors.js";
import { clock } from "./format.js";

const LEFT = 50;
const RIGHT = 10;
const TOP = 30;
const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200];

export class Chart {
  /**
   * @param options name, value(visit), low(visit), high(visit), format(value), log, from zero, limit {value, name}
   * @param choose called with the visit that is clicked
   * @param describe returns [title, [[name, value], ...]] of a visit for the tip
   */
  constructor(id, options, choose, describe) {
    this.box = $(id);
    this.options = options;
    this.describe = describe;
    this.svg = s("svg", { role: "img" });
    this.box.append(this.svg);
    this.places = [];
    this.state = null;
    new ResizeObserver(() => this.state && this.draw(...this.state)).observe(this.box);
    this.box.addEventListener("pointermove", (event) => this.hover(event));
    this.box.addEventListener("pointerleave", () => this.leave());
    this.box.addEventListener("click", (event) => {
      const found = this.nearest(event);
      if (found) choose(found.visit);
    });
  }

  draw(visits, chosen, bands, now) {
    this.state = [visits, chosen, bands, now];
    const width = this.box.clientWidth;
    const height = this.box.clientHeight;
    if (!width) return;
    const { options, svg } = this;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const known = visits.filter((visit) => options.value(visit) !== null);
    svg.dataset.points = known.length;
    svg.dataset.last = known.length ? options.value(known[known.length - 1]) : "";
    svg.setAttribute("aria-label", this.summary(known));
    const bottom = height - 22;
    const parts = [s("text", { class: "name", x: 0, y: 13 }, options.name())];
    this.places = [];
    if (!known.length) {
      parts.push(
        s("text", { class: "nothing", x: width / 2, y: height / 2 }, options.empty),
        s("path", { class: "grid", d: `M0 ${bottom}H${width}` }),
      );
      svg.replaceChildren(...parts);
      return;
    }
    const first = known[0].at;
    const latest = known[known.length - 1].at;
    // The present is at the right edge while exposures come; after a long pause the curves keep their room.
    const last = Math.max(latest, Math.min(now, latest + Math.max(20, 0.06 * (latest - first))));
    const pad = Math.max(5, (last - first) * 0.02);
    const x = scale([first - pad, last + pad], [LEFT, width - RIGHT]);
    const [low, high] = this.range(known);
    const transform = options.log ? Math.log : (value) => value;
    const y0 = scale([transform(low), transform(high)], [bottom, TOP]);
    const y = (value) => Math.min(bottom, Math.max(TOP - 4, y0(transform(Math.max(value, options.log ? low : -Infinity)))));
    parts.push(...this.axes(x, y, low, high, first - pad, last + pad, width, bottom));
    for (const band of bands) {
      const of = known.filter((visit) => visit.band === band);
      if (!of.length) continue;
      const style = bandStyle(band, bands);
      let spread = "";
      let points = "";
      let line = "";
      let before = null;
      for (const visit of of) {
        const px = x(visit.at);
        const py = y(options.value(visit));
        this.places.push({ x: px, y: py, visit });
        points += marker(style, px, py, of.length > 400 ? 2.4 : of.length > 100 ? 3 : 3.8);
        const from = options.low?.(visit);
        const to = options.high?.(visit);
        if (from !== null && to !== null && from !== undefined) {
          spread += `M${px.toFixed(1)} ${y(from).toFixed(1)}V${y(to).toFixed(1)}`;
        }
        const near = before && visit.at - before.at < 1800 && this.neighbours(known, before, visit);
        line += `${near ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`;
        before = visit;
      }
      const color = bandColor(style);
      parts.push(
        s("path", { class: "spread", d: spread, stroke: color }),
        s("path", { class: "line", d: line, stroke: color }),
        s("path", { class: of.length > 100 ? "points many" : "points", d: points, fill: color, "data-band": band ?? "" }),
      );
    }
    const selected = chosen && this.places.find((place) => place.visit.key === chosen);
    if (selected) {
      parts.push(
        s("path", { class: "cursor", d: `M${selected.x} ${TOP - 4}V${bottom}` }),
        s("circle", { class: "ring", cx: selected.x, cy: selected.y, r: 7 }),
      );
    }
    svg.replaceChildren(...parts);
  }

  /** A line joins exposures of a band only where no other band was in between. */
  neighbours(known, before, visit) {
    if (this.rank?.of !== known) {
      this.rank = { of: known, map: new Map(known.map((item, i) => [item.key, i])) };
    }
    return this.rank.map.get(visit.key) - this.rank.map.get(before.key) === 1;
  }

  range(known) {
    const { options } = this;
    const lows = known.map((visit) => options.low?.(visit) ?? options.value(visit)).sort((a, b) => a - b);
    const highs = known.map((visit) => options.high?.(visit) ?? options.value(visit)).sort((a, b) => a - b);
    let low = lows[Math.floor(0.005 * lows.length)];
    let high = highs[Math.ceil(0.995 * highs.length) - 1];
    if (options.log) return [Math.min(1, Math.max(0.05, low)) * 0.8, Math.max(high, options.limit.value) * 1.6];
    const room = Math.max(0.08 * (high - low), 0.06 * high, options.room);
    low = options.zero ? 0 : Math.max(0, low - room);
    return [low, high + room];
  }

  axes(x, y, low, high, from, to, width, bottom) {
    const { options } = this;
    const parts = [];
    const values = options.log ? [0.1, 1, 10, 100, 1000].filter((value) => value > low && value < high) : ticks(low, high, bottom < 140 ? 3 : 5);
    for (const value of values) {
      parts.push(
        s("path", { class: "grid", d: `M${LEFT} ${y(value).toFixed(1)}H${width - RIGHT}` }),
        s("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, options.tick(value, values)),
      );
    }
    const wanted = Math.max(2, Math.floor((width - LEFT) / 110));
    const step = STEPS.find((each) => (to - from) / each <= wanted) ?? 86400;
    for (let at = Math.ceil(from / step) * step; at < to; at += step) {
      if (x(at) < LEFT + 14 || x(at) > width - 24) continue;
      parts.push(s("text", { x: x(at), y: bottom + 17, "text-anchor": "middle" }, clock(at, step < 60)));
    }
    parts.push(s("path", { class: "grid", d: `M${LEFT} ${bottom}H${width - RIGHT}` }));
    if (options.limit && options.limit.value < high) {
      const at = y(options.limit.value);
      parts.push(
        s("path", { class: "limit", d: `M${LEFT} ${at}H${width - RIGHT}` }),
        s("text", { class: "limit-name", x: width - RIGHT, y: at - 4, "text-anchor": "end" }, options.limit.name),
      );
    }
    return parts;
  }

  summary(known) {
    if (!known.length) return `${this.options.name()}: ${this.options.empty}`;
    const latest = known[known.length - 1];
    return `${this.options.name()}: ${known.length} exposures, latest ${this.options.format(this.options.value(latest))}, band ${latest.band ?? "unknown"}`;
  }

  nearest(event) {
    const box = this.box.getBoundingClientRect();
    const x = event.clientX - box.left;
    let best = null;
    for (const place of this.places) {
      if (!best || Math.abs(place.x - x) < Math.abs(best.x - x)) best = place;
    }
    return best;
  }

  hover(event) {
    const found = this.nearest(event);
    if (!found) return;
    const [title, rows] = this.describe(found.visit);
    showTip(event.clientX, event.clientY, title, rows);
  }

  leave() {
    hideTip();
  }
}

export function showTip(x, y, title, rows) {
  const tip = $("tip");
  tip.replaceChildren(h("b", {}, title), ...rows.map(([name, value]) => h("p", {}, h("span", {}, name), h("span", {}, value))));
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  tip.style.left = `${Math.max(4, x + 18 + width > innerWidth ? x - width - 14 : x + 18)}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - height - 4, y + 14))}px`;
}

export function hideTip() {
  $("tip").hidden = true;
}

export function scale([a, b], [from, to]) {
  const slope = b > a ? (to - from) / (b - a) : 0;
  return (value) => from + (value - a) * slope;
}

/** Round numbers that divide a range into about so many parts. */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i += 1) found.push(i * step);
  return found;
}

/** Fewest digits that tell the ticks apart. */
export function tickDigits(values) {
  if (values.length < 2) return 2;
  const step = values[1] - values[0];
  return Math.min(4, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (Math.abs(step / 10 ** Math.floor(Math.log10(step)) - 2.5) < 1e-6 ? 1 : 0)));
}
