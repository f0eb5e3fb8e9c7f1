// JSON as Python reads it: a number with a point or an exponent is a float, also if it is whole.
import { PythonFloat } from "../tokenizer/jinja/convert.js";

/** Name of the entry that stands for a float in JSON on its way to a `PythonFloat`. */
const mark = "\u0000float";
const tokens = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\bNaN\b|-?\bInfinity\b/g;

/**
 * Parses JSON as Python's json.loads does: numbers with a point or an exponent are floats, and NaN and Infinity are numbers.
 *
 * @throws SyntaxError if it is not JSON.
 */
export function parsePythonJson(text: string): unknown {
  if (!/\d\.\d*0(?!\d)|\d[eE]|NaN|Infinity/.test(text)) return JSON.parse(text) as unknown;
  const marked = text.replaceAll(tokens, (token) => {
    if (token.startsWith('"') || !/[.eEN]|Inf/.test(token)) return token;
    const value = Number(token);
    return Number.isInteger(value) || !/\d/.test(token) ? `{${JSON.stringify(mark)}:"${token}"}` : token;
  });
  try {
    return JSON.parse(marked, (_, value: unknown) => {
      if (typeof value !== "object" || value === null || !Object.hasOwn(value, mark)) return value;
      const number = Number((value as Record<string, unknown>)[mark]);
      return Number.isInteger(number) ? new PythonFloat(number) : number;
    }) as unknown;
  } catch (cause) {
    // The message should be about the text as it is.
    JSON.parse(text);
    throw cause;
  }
}
