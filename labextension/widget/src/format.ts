/** Numbers, times and sizes as a person reads them. */

const two = (value: number): string => String(value).padStart(2, "0");

/** 14:03:09, in the time of the person who looks. */
export function clock(seconds: number): string {
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime())) return "";
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** 8 s, 1 min 05 s, 2 h 07 min, 3 d 4 h. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86400)];
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${two(minutes % 60)} min`;
  if (minutes) return `${minutes} min ${two(whole % 60)} s`;
  return `${whole} s`;
}

/** About how long: a few seconds, about 3 min. */
export function roughly(seconds: number): string {
  if (seconds < 10) return "a few seconds";
  if (seconds < 100) return `about ${Math.round(seconds / 5) * 5} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  const hours = seconds / 3600;
  return hours < 48
    ? `about ${hours < 10 ? hours.toFixed(1) : Math.round(hours)} h`
    : `about ${Math.round(hours / 24)} d`;
}

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** 1.5 GiB. */
export function size(bytes: number): string {
  let place = 0;
  let value = Math.abs(bytes);
  while (value >= 1024 && place < BINARY.length - 1) {
    value /= 1024;
    place++;
  }
  const digits = value < 10 && place ? 1 : 0;
  return `${bytes < 0 ? "−" : ""}${value.toFixed(digits)} ${BINARY[place]!}`;
}

/** Four digits that count: 0.1234, 12.34, 1.2e-7. */
export function number(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "−inf";
  if (value === 0) return "0";
  const digits = Math.abs(value);
  if (digits < 1e-4 || digits >= 1e7) return value.toExponential(2).replace("-", "−").replace("e+", "e");
  const fixed = digits >= 1000 ? value.toFixed(0) : value.toPrecision(4);
  return (fixed.includes(".") ? fixed.replace(/\.?0+$/, "") : fixed).replace(/^-/, "−");
}

/** A value with its unit. */
export function quantity(value: number, unit: string): string {
  if (!Number.isFinite(value)) return "N/A";
  if (unit === "B") return size(value);
  if (unit === "%" || unit === "W" || unit === "°C") return `${value.toFixed(0)} ${unit}`;
  return unit ? `${number(value)} ${unit}` : number(value);
}

/** 12,345. */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ",");
}

/** 1 line, 2 lines. */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}
