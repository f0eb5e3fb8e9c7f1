// Floats of Python whose values are whole. JavaScript has no such numbers beside integers, and Python writes 3.0 for one.

/** Whole number that is a float in Python. */
export class PythonFloat extends Number {}

/** Returns the text that Python writes for a float, such as 3.0, 1e-05 or inf. */
export function floatText(given: number | PythonFloat): string {
  const value = Number(given);
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  // The shortest digits that give the same number, with one before the point.
  const [digits, exponent] = Math.abs(value).toExponential().replace(".", "").split("e") as [string, string];
  const power = Number(exponent);
  if (power < -4 || power >= 16) {
    const rest = digits.length > 1 ? `.${digits.slice(1)}` : "";
    const size = String(Math.abs(power)).padStart(2, "0");
    return `${sign}${digits[0]!}${rest}e${power < 0 ? "-" : "+"}${size}`;
  }
  if (power < 0) return `${sign}0.${"0".repeat(-power - 1)}${digits}`;
  const whole = digits.slice(0, power + 1).padEnd(power + 1, "0");
  return `${sign}${whole}.${digits.slice(power + 1) || "0"}`;
}

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

/** Returns true if a value has a `PythonFloat` in it. */
export function hasFloats(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return value instanceof PythonFloat || Object.values(value).some(hasFloats);
}

/** Returns a value in which floats are plain numbers. */
export function withoutFloats(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof PythonFloat) return Number(value);
  if (Array.isArray(value)) return value.map(withoutFloats);
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, withoutFloats(part)]));
}
