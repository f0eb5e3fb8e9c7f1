import { Bounds } from "../tokenizer/jinja/bounds.js";
import { fromJavaScript } from "../tokenizer/jinja/convert.js";
import { textOf } from "../tokenizer/jinja/repr.js";

/** Returns what Python's str() returns for a value of a template: a text as it is, True, None, or a list's repr(). */
export function pythonText(value: unknown): string {
  return textOf(fromJavaScript(value), new Bounds(value));
}
