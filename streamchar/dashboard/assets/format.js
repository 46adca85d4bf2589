// Numbers and times for people. Times are UTC, unknown is a dash.

export const DASH = "–";

export function number(value, digits = 0) {
  return value === null || value === undefined || !Number.isFinite(value) ? DASH : value.toFixed(digits);
}

/** 1234567 as 1 234 567, with narrow spaces. */
export function count(value) {
  if (value === null || value === undefined) return DASH;
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function seconds(value) {
  if (value === null || value === undefined) return DASH;
  if (value < 9.95) return value.toFixed(1);
  if (value < 1000) return value.toFixed(0);
  return count(value);
}

const two = (value) => String(value).padStart(2, "0");

export function clock(at, withSeconds = true) {
  if (!at) return DASH;
  const date = new Date(at * 1000);
  const minutes = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
  return withSeconds ? `${minutes}:${two(date.getUTCSeconds())}` : minutes;
}

export function day(at) {
  return new Date(at * 1000).toISOString().slice(0, 10);
}

/** How long, in one or two units. */
export function span(value) {
  if (!Number.isFinite(value)) return DASH;
  const whole = Math.max(0, Math.round(value));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  const hours = Math.floor(whole / 3600);
  return hours < 48 ? `${hours} h ${Math.floor((whole % 3600) / 60)} min` : `${Math.floor(hours / 24)} d`;
}

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** Texts of foreign origin are shortened where they would push everything else off the page. */
export const short = (value, length = 40) => (value.length > length ? `${value.slice(0, length - 1)}…` : value);
