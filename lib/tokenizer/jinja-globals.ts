// The global variables and functions that Hugging Face's transformers gives to chat templates.
import { describe } from "../errors.js";
import type { Environment } from "./jinja.js";
import type { RenderBounds } from "./jinja-bounds.js";

const months = "January February March April May June July August September October November December".split(" ");

/** The parts of a date that strftime_now() supports, in local time and in English. */
const dateParts: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => String(date.getFullYear()),
  m: (date) => twoDigits(date.getMonth() + 1),
  d: (date) => twoDigits(date.getDate()),
  b: (date) => months[date.getMonth()]!.slice(0, 3),
  B: (date) => months[date.getMonth()]!,
  H: (date) => twoDigits(date.getHours()),
  M: (date) => twoDigits(date.getMinutes()),
  "%": () => "%",
};

export function setGlobals(environment: Environment, bounds: RenderBounds): void {
  const globals = { true: true, false: false, none: null, True: true, False: false, None: null };
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  environment.set("raise_exception", (message: unknown) => {
    throw new Error(typeof message === "string" ? message : describe(message));
  });
  environment.set("range", (start: number, stop?: number, step?: number) => bounds.range(start, stop, step));
  environment.set("strftime_now", (format: unknown) => {
    const text = typeof format === "string" ? format : "";
    bounds.spend(20 + text.length / 4);
    const now = new Date();
    return text.replace(/%([YmdbBHM%])/g, (_, part: string) => dateParts[part]!(now));
  });
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}
