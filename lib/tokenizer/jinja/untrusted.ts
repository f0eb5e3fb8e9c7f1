// Follows the untrusted parts of texts through a template. An operation that joins or cuts texts keeps them exactly; where
// that is not known of an operation, all text that it makes of an untrusted text is untrusted, so that none gets lost.
import type { Bounds } from "./bounds.js";
import { appendRanges, type Ranges, noRanges } from "./ranges.js";
import { textOf } from "./repr.js";
import {
  Dict,
  DictView,
  isList,
  type Keywords,
  Markup,
  Namespace,
  stringOf,
  Text,
  Tuple,
  type Value,
} from "./values.js";

/** A text that is put together from others. */
export class TextBuilder {
  #text = "";
  readonly #untrusted: [number, number][] = [];

  add(part: string | Text): void {
    if (part instanceof Text) appendRanges(this.#untrusted, part.untrusted, this.#text.length);
    this.#text += part instanceof Text ? part.text : part;
  }

  get length(): number {
    return this.#text.length;
  }

  /** Number of untrusted parts. */
  get parts(): number {
    return this.#untrusted.length;
  }

  get value(): string | Text {
    return this.#untrusted.length === 0 ? this.#text : new Text(this.#text, this.#untrusted);
  }
}

/** Returns texts, one after the other, as one. */
export function joinTexts(parts: Iterable<string | Text>): string | Text {
  const builder = new TextBuilder();
  for (const part of parts) builder.add(part);
  return builder.value;
}

/** Returns the untrusted parts of a value that is a text. */
export function untrustedOf(value: Value | undefined): Ranges {
  return value instanceof Text ? value.untrusted : noRanges;
}

/** Returns true if a value is a text with untrusted parts, or contains one. */
export function hasUntrusted(value: Value | undefined): boolean {
  const pending: (Value | undefined)[] = [value];
  while (pending.length > 0) {
    const one = pending.pop();
    if (one instanceof Text && one.untrusted.length > 0) return true;
    const parts =
      one instanceof Dict
        ? [...one.keys(), ...one.values()]
        : one instanceof Namespace
          ? [...one.values.values()]
          : one instanceof Tuple || one instanceof DictView
            ? one.items
            : one !== undefined && isList(one)
              ? one
              : [];
    for (const part of parts) pending.push(part);
  }
  return false;
}

/** Returns a text all of which is untrusted. */
export function distrusted(text: string): string | Text {
  return text === "" ? "" : new Text(text, [[0, text.length]]);
}

/** Returns the result of an operation, in which all texts are untrusted if anything that it was given is. */
export function guarded(result: Value, inputs: readonly (Value | undefined)[], named?: Keywords): Value {
  if (stringOf(result) === undefined && !isList(result) && !(result instanceof Tuple)) return result;
  return inputs.some(hasUntrusted) || [...(named?.values() ?? [])].some(hasUntrusted) ? marked(result) : result;
}

function marked(result: Value): Value {
  if (result instanceof Markup) return new Markup(result.text, result.text === "" ? [] : [[0, result.text.length]]);
  const text = stringOf(result);
  if (text !== undefined) return distrusted(text);
  if (isList(result)) return result.map(marked);
  return result instanceof Tuple ? new Tuple(result.items.map(marked)) : result;
}

/** Returns what Python's str() returns for a value. */
export function shownText(value: Value, bounds: Bounds): string | Text {
  if (typeof value === "string" || value instanceof Text) return value;
  const text = textOf(value, bounds);
  return hasUntrusted(value) ? distrusted(text) : text;
}

/**
 * Returns the parts into which a text was cut, in their order. `gap` is the number of units between two parts; null if
 * no part begins with a character that may lie between them.
 */
export function cutParts(text: string | Text, parts: readonly string[], gap: number | null): (string | Text)[] {
  if (!(text instanceof Text)) return [...parts];
  let end = 0;
  return parts.map((part, i) => {
    const from = gap === null ? text.text.indexOf(part, end) : end + (i === 0 ? 0 : gap);
    if (!text.text.startsWith(part, Math.max(0, from)) || from < 0) return distrusted(part);
    end = from + part.length;
    return plainText(text.slice(from, end));
  });
}

/** Returns a text that is not marked as HTML. */
export const plainText = (text: string | Text): string | Text =>
  text instanceof Markup ? (text.untrusted.length === 0 ? text.text : new Text(text.text, text.untrusted)) : text;

/** Returns a text that is changed character by character, such as to upper case. */
export function changedText(text: string | Text, change: (text: string) => string): string | Text {
  if (!(text instanceof Text)) return change(text);
  const whole = change(text.text);
  if (text.untrusted.length === 0) return whole;
  const builder = new TextBuilder();
  let end = 0;
  for (const [from, to] of [...text.untrusted, [text.text.length, text.text.length]] as const) {
    builder.add(change(text.text.slice(end, from)));
    builder.add(distrusted(change(text.text.slice(from, to))));
    end = to;
  }
  // The change of a character may depend on others, such as that of a sigma at the end of a word.
  return stringOf(builder.value) === whole ? builder.value : distrusted(whole);
}
