import type { JsonSchema } from "../util/json-schema.js";

/**
 * Form that a generated text has to have.
 *
 * - `json`: any JSON object or array.
 * - `json-schema`: JSON that matches a schema, with the properties of an object in the schema's order. With `strict`, a
 *   keyword or a format that no draft of JSON Schema knows is refused; otherwise it is ignored.
 * - `regex`: a text that matches the expression as a whole, in JavaScript's syntax.
 * - `choice`: one of these texts.
 * - `grammar`: a text of a grammar whose first rule is `root`, in EBNF as llama.cpp writes it (GBNF).
 */
export type OutputFormat =
  | { type: "json" }
  | { type: "json-schema"; schema: JsonSchema; strict?: boolean | undefined }
  | { type: "regex"; pattern: string }
  | { type: "choice"; choices: readonly string[] }
  | { type: "grammar"; grammar: string };
