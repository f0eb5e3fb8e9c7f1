import { HeedError } from "../errors.js";
import type { Tool } from "../tokenizer/tools.js";
import type { Expression } from "./expression.js";
import { schemaExpression } from "./schema-expression.js";

/**
 * Returns the arguments that a tool takes, as JSON.
 *
 * @throws ERR_ARGUMENT if its schema is invalid or not supported; the message names the tool.
 */
export function parametersOf({ name, parameters, strict }: Tool): Expression {
  try {
    return schemaExpression(parameters ?? { type: "object", additionalProperties: false }, { strict, object: true });
  } catch (cause) {
    if (!(cause instanceof HeedError)) throw cause;
    throw new HeedError(cause.code, `tool ${JSON.stringify(name)}: parameters: ${cause.message}`, { cause });
  }
}
