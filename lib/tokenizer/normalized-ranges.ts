// Where the untrusted parts of a text lie in its normalized form. Normalizers are functions of texts that do not say where
// a character has gone, but most treat the parts of a text one by one.
import type { Steps } from "../util/turns.js";
import type { Ranges } from "./jinja/ranges.js";
import type { Normalizer } from "./normalizer.js";

/**
 * Returns the untrusted parts of the normalized form of a text. If the parts cannot be normalized one by one, all of the
 * text counts as untrusted.
 */
export function* normalizedRanges(
  text: string,
  untrusted: Ranges,
  normalize: Normalizer,
  normalized: string,
): Steps<Ranges> {
  // What the normalizer puts before each text, such as the mark of a word's beginning.
  const letter = yield* normalize("a");
  const prefix = letter.endsWith("a") ? letter.slice(0, -1) : "";
  const ranges: [number, number][] = [];
  let result = "";
  const add = function* (part: string): Steps<void> {
    const own = yield* normalize(part);
    result += result !== "" && own.startsWith(prefix) ? own.slice(prefix.length) : own;
  };
  let end = 0;
  for (const [from, to] of untrusted) {
    yield* add(text.slice(end, from));
    const begin = result.length;
    yield* add(text.slice(from, to));
    ranges.push([begin, result.length]);
    end = to;
  }
  yield* add(text.slice(end));
  return result === normalized ? ranges : [[0, normalized.length]];
}
