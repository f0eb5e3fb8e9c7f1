import { describe, HeedError, oneOf } from "../util/errors.js";
import type { JsonSchema } from "../util/json-schema.js";
import type { Steps } from "../util/turns.js";
import { checkedExpression } from "./analysis.js";
import { oneOfCharacters } from "./characters.js";
import { ebnfExpression } from "./ebnf.js";
import { choice, type Expression, oneOfTexts } from "./expression.js";
import { anyArray, anyObject } from "./json-expressions.js";
import type { OutputFormat } from "./output-format.js";
import { regularExpression } from "./regular-expression.js";
import { schemaExpression } from "./schema-expression.js";
import { withinLimit } from "./work.js";

const kinds = ["json", "json-schema", "regex", "choice", "grammar"];

/**
 * Returns the texts of a format.
 *
 * @throws ERR_ARGUMENT if the format is invalid or not supported; the message names the place.
 */
export function* formatExpression(format: OutputFormat): Steps<Expression> {
  return (yield* withinLimit(checked(format))).result;
}

function* checked(format: OutputFormat): Steps<Expression> {
  return yield* checkedExpression(yield* read(format), `format "${format.type}"`);
}

/**
 * Checks that a format is one, before its parts are read.
 *
 * @throws ERR_ARGUMENT if it is none.
 */
export function checkFormat(format: OutputFormat): void {
  if (typeof format !== "object" || format === null)
    throw new HeedError("ERR_ARGUMENT", `format: expected an object, got ${describe(format)}`);
  const { type } = format as { type?: unknown };
  if (!kinds.includes(type as string))
    throw new HeedError("ERR_ARGUMENT", `format.type: expected ${oneOf(kinds)}, got ${describe(type)}`);
}

function* read(format: OutputFormat): Steps<Expression> {
  checkFormat(format);
  switch (format.type) {
    case "json":
      return choice(anyObject, anyArray);
    case "json-schema":
      return yield* schemaExpression(objectOf(format.schema, "schema"), { strict: format.strict === true });
    case "regex": {
      const pattern = textOf(format.pattern, "pattern");
      return yield* regularExpression(pattern, { character: oneOfCharacters, what: "format.pattern" });
    }
    case "choice": {
      const { choices } = format;
      if (!Array.isArray(choices) || choices.length === 0)
        throw new HeedError("ERR_ARGUMENT", `format.choices: expected an array of texts, got ${describe(choices)}`);
      return yield* oneOfTexts((choices as unknown[]).map((one, i) => textOf(one, `choices[${i}]`)));
    }
    case "grammar":
      return yield* ebnfExpression(textOf(format.grammar, "grammar"));
  }
}

function textOf(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  throw new HeedError("ERR_ARGUMENT", `format.${name}: expected a string, got ${describe(value)}`);
}

function objectOf(value: unknown, name: string): JsonSchema {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonSchema;
  throw new HeedError("ERR_ARGUMENT", `format.${name}: expected an object, got ${describe(value)}`);
}
