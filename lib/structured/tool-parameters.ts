import { HeedError } from "../util/errors.js";
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import { type Expression, literal, sequence } from "./expression.js";
import { colon, objectOf, quoted } from "./json-expressions.js";
import { schemaExpression } from "./schema-expression.js";
import { inJsonString, inputName, inputOf } from "./tool-input.js";

/**
 * Returns the arguments that a tool takes, as JSON.
 *
 * @throws ERR_ARGUMENT if its schema is invalid or not supported; the message names the tool.
 */
export function* parametersOf(tool: Tool): Steps<Expression> {
  const { name, parameters, strict } = tool;
  try {
    const text = yield* inputOf(tool);
    if (text) return objectOf(sequence(literal(`"${inputName}"`), colon, quoted(inJsonString(text))));
    const schema = parameters ?? { type: "object", additionalProperties: false };
    return yield* schemaExpression(schema, { strict, object: true });
  } catch (cause) {
    if (!(cause instanceof HeedError)) throw cause;
    throw new HeedError(cause.code, `tool ${JSON.stringify(name)}: parameters: ${cause.message}`, { cause });
  }
}
