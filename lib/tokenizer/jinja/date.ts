// The text of a date, as Python's datetime.strftime() writes it in the locale "C": in English, in local time.

const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
const months = "January February March April May June July August September October November December".split(" ");

/** A part of a date: a number with its width and its filling, or a text. */
type Part = readonly [value: number, width: number, fill: "0" | " "] | string;

const millisecondsInDay = 86_400_000;

/** Returns the day of the year, from 0. */
function dayOfYear(date: Date): number {
  const utc = (year: number, month: number, day: number): number => new Date(0).setUTCFullYear(year, month, day);
  return (utc(date.getFullYear(), date.getMonth(), date.getDate()) - utc(date.getFullYear(), 0, 1)) / millisecondsInDay;
}

/** Returns the year and the week of ISO 8601: a week belongs to the year of its Thursday. */
function isoWeek(date: Date): [year: number, week: number] {
  const thursday = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 4 - (date.getDay() || 7));
  thursday.setFullYear(thursday.getFullYear());
  return [thursday.getFullYear(), Math.floor(dayOfYear(thursday) / 7) + 1];
}

const parts: Readonly<Record<string, (date: Date) => Part>> = {
  a: (date) => days[date.getDay()]!.slice(0, 3),
  A: (date) => days[date.getDay()]!,
  b: (date) => months[date.getMonth()]!.slice(0, 3),
  B: (date) => months[date.getMonth()]!,
  c: (date) => strftime(date, "%a %b %e %H:%M:%S %Y"),
  C: (date) => [Math.floor(date.getFullYear() / 100), 2, "0"],
  d: (date) => [date.getDate(), 2, "0"],
  D: (date) => strftime(date, "%m/%d/%y"),
  e: (date) => [date.getDate(), 2, " "],
  f: (date) => [date.getMilliseconds() * 1000, 6, "0"],
  F: (date) => strftime(date, "%Y-%m-%d"),
  g: (date) => [isoWeek(date)[0] % 100, 2, "0"],
  G: (date) => [isoWeek(date)[0], 1, "0"],
  h: (date) => strftime(date, "%b"),
  H: (date) => [date.getHours(), 2, "0"],
  I: (date) => [date.getHours() % 12 || 12, 2, "0"],
  j: (date) => [dayOfYear(date) + 1, 3, "0"],
  k: (date) => [date.getHours(), 2, " "],
  l: (date) => [date.getHours() % 12 || 12, 2, " "],
  m: (date) => [date.getMonth() + 1, 2, "0"],
  M: (date) => [date.getMinutes(), 2, "0"],
  n: () => "\n",
  p: (date) => (date.getHours() < 12 ? "AM" : "PM"),
  P: (date) => (date.getHours() < 12 ? "am" : "pm"),
  r: (date) => strftime(date, "%I:%M:%S %p"),
  R: (date) => strftime(date, "%H:%M"),
  s: (date) => [Math.floor(date.getTime() / 1000), 1, "0"],
  S: (date) => [date.getSeconds(), 2, "0"],
  t: () => "\t",
  T: (date) => strftime(date, "%H:%M:%S"),
  u: (date) => [date.getDay() || 7, 1, "0"],
  U: (date) => [Math.floor((dayOfYear(date) + 7 - date.getDay()) / 7), 2, "0"],
  V: (date) => [isoWeek(date)[1], 2, "0"],
  w: (date) => [date.getDay(), 1, "0"],
  W: (date) => [Math.floor((dayOfYear(date) + 7 - ((date.getDay() + 6) % 7)) / 7), 2, "0"],
  x: (date) => strftime(date, "%m/%d/%y"),
  X: (date) => strftime(date, "%H:%M:%S"),
  y: (date) => [date.getFullYear() % 100, 2, "0"],
  Y: (date) => [date.getFullYear(), 1, "0"],
  // A datetime without a time zone has no name and no offset of one.
  z: () => "",
  Z: () => "",
  "%": () => "%",
};

/**
 * Returns a date in a format of strftime(). Flags of the GNU C library may stand between "%" and the letter: "-" for no
 * filling, "_" for spaces, "0" for zeros, "^" for capitals, "#" for the other case; a width may follow.
 */
export function strftime(date: Date, format: string): string {
  return format.replaceAll(
    /%([-_0^#]*)(\d{0,3})[EO]?([a-zA-Z%])/g,
    (whole, flags: string, width: string, letter: string) => {
      // prettier-ignore
      const part = parts[letter]?.(date);
      if (part === undefined) return whole;
      // Python replaces %f, %z and %Z itself, without flags.
      if (flags + width !== "" && /[fzZ]/.test(letter)) return whole;
      const fillFlag = /[-_0](?=[^-_0]*$)/.exec(flags)?.[0];
      let text: string;
      let least = Number(width);
      let fill = fillFlag === "0" || (typeof part !== "string" && part[2] === "0" && fillFlag !== "_") ? "0" : " ";
      if (typeof part === "string") {
        text = part;
        if (fillFlag !== "0") fill = " ";
      } else {
        text = String(part[0]);
        if (least === 0 && fillFlag !== "-") least = part[1];
      }
      if (flags.includes("^")) text = text.toUpperCase();
      else if (flags.includes("#")) text = letter === "p" || letter === "Z" ? text.toLowerCase() : text.toUpperCase();
      return fillFlag === "-" && width === "" ? text : text.padStart(least, fill);
    },
  );
}
