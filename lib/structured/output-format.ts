import type { JsonSchema } from "../json-schema.js";

/**
 * Form that a generated text has to have.
 *
 * - `json`: any JSON object or array.
 * - `json-schema`: JSON that matches a schema, with the properties of an object in the schema's order.
 * - `regex`: a text that matches the expression as a whole, in JavaScript's syntax.
 * - `choice`: one of these texts.
 * - `grammar`: a text of a grammar whose first rule is `root`, in EBNF as llama.cpp writes it (GBNF).
 */
export type OutputFormat =
  | { type: "json" }
  | { type: "json-schema"; schema: JsonSchema }
  | { type: "regex"; pattern: string }
  | { type: "choice"; choices: readonly string[] }
  | { type: "grammar"; grammar: string };
