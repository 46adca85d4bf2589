// Whether all is well: grade lights, failures, reason codes, flow and workers.

import { $, h, keyed, text } from "./dom.js";
import { gradeSign, outcomeColor } from "./colors.js";
import { DASH, clock, count, plural, seconds, short } from "./format.js";
import { facts } from "./parts.js";
import { night, showFailure } from "./view.js";

export function drawLights() {
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

export function drawFailures() {
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

export function drawReasons() {
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

export function drawFlow() {
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

export function drawServices() {
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
