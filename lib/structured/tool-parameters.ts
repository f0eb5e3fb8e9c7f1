import { HeedError } from "../errors.js";
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../turns.js";
import type { Expression } from "./expression.js";
import { schemaExpression } from "./schema-expression.js";

/**
 * Returns the arguments that a tool takes, as JSON.
 *
 * @throws ERR_ARGUMENT if its schema is invalid or not supported; the message names the tool.
 */
export function* parametersOf({ name, parameters, strict }: Tool): Steps<Expression> {
  try {
    const schema = parameters ?? { type: "object", additionalProperties: false };
    return yield* schemaExpression(schema, { strict, object: true });
  } catch (cause) {
    if (!(cause instanceof HeedError)) throw cause;
    throw new HeedError(cause.code, `tool ${JSON.stringify(name)}: parameters: ${cause.message}`, { cause });
  }
}
