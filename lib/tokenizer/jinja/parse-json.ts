// JSON whose numbers stay what they are in Python: 3.0 is a float, and integers are exact.
import { Float } from "./values.js";

const token = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** Key of an object that stands for a number. No JSON of people has it. */
const mark = "\u0000number";

/**
 * Returns the value of a JSON text: numbers that JavaScript would change are a Float or a bigint.
 *
 * @throws SyntaxError if the text is not JSON.
 */
export function parseJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!/[.eE]|\d{16}/.test(text)) return plain;
  const marked = text.replaceAll(token, (part) =>
    part.startsWith('"') || Number.isSafeInteger(Number(part)) === /^-?\d+$/.test(part)
      ? part
      : JSON.stringify({ [mark]: part }),
  );
  return JSON.parse(marked, (_, value: unknown) => {
    const number = (value as Record<string, unknown> | null)?.[mark];
    if (typeof number !== "string") return value;
    return /^-?\d+$/.test(number) ? BigInt(number) : new Float(Number(number));
  });
}
