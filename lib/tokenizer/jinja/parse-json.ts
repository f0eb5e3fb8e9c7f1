// JSON whose values stay what they are in Python: 3.0 is a float, integers are exact, and keys keep their order, whereas
// JavaScript puts those that are indices first.
import { Float } from "./values.js";

const token = /"(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** Key of an object that stands for a number. No JSON of people has it. */
const mark = "\u0000number";
/** Text before a key that is an index. */
const keyMark = "\u0000key";
const indexKey = /^"(\d+)"\s*:$/;

/**
 * Returns the value of a JSON text: numbers that JavaScript would change are a Float or a bigint, and objects whose keys
 * it would sort are a Map.
 *
 * @throws SyntaxError if the text is not JSON.
 */
export function parseJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!/[.eE]|\d{16}|"\d+"\s*:/.test(text)) return plain;
  const marked = text.replaceAll(token, (part) => {
    const index = indexKey.exec(part)?.[1];
    if (index !== undefined) return `${JSON.stringify(keyMark + index)}:`;
    return part.startsWith('"') || Number.isSafeInteger(Number(part)) === /^-?\d+$/.test(part)
      ? part
      : JSON.stringify({ [mark]: part });
  });
  return JSON.parse(marked, (_, value: unknown) => {
    if (typeof value !== "object" || value === null) return value;
    const number = (value as Record<string, unknown>)[mark];
    if (typeof number !== "string") return ordered(value);
    return /^-?\d+$/.test(number) ? BigInt(number) : new Float(Number(number));
  });
}

/** Returns an object as a Map if one of its keys is marked, and any other value unchanged. */
function ordered(value: object): object {
  const entries: [string, unknown][] = Array.isArray(value) ? [] : Object.entries(value);
  if (!entries.some(([key]) => key.startsWith(keyMark))) return value;
  return new Map(entries.map(([key, item]) => [key.startsWith(keyMark) ? key.slice(keyMark.length) : key, item]));
}
