// The text that Python makes of a value, which a template of a task writes into a prompt.
import { floatText, PythonFloat } from "./python-float.js";

/** Returns what Python's str() returns for a value of a template: a text as it is, True, None, or a list's repr(). */
export function pythonText(value: unknown): string {
  return typeof value === "string" ? value : pythonRepr(value);
}

function pythonRepr(value: unknown): string {
  if (typeof value === "string") return quoted(value);
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (Array.isArray(value)) return `[${value.map(pythonRepr).join(", ")}]`;
  if (value instanceof PythonFloat) return floatText(value);
  if (typeof value === "number") return Number.isInteger(value) ? String(BigInt(value)) : floatText(value);
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([key, item]) => `${quoted(key)}: ${pythonRepr(item)}`)
      .join(", ")}}`;
  // Templates have no other values.
  return `${value as bigint}`;
}

/** Returns a text in the quotes that Python's repr() chooses: single ones, unless only they are in the text. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return `${quote}${text.replaceAll(/[\\\n\r\t]/g, (c) => escapes[c]!).replaceAll(quote, `\\${quote}`)}${quote}`;
}
