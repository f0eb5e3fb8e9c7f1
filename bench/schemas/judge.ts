// ajv as the judge of texts, with a limit to its time: some expressions take it longer than anyone can wait.
import { createContext, runInContext } from "node:vm";
import type { ValidateFunction } from "ajv";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import { ajvOf } from "../../test/structured/oracle.js";

/** Milliseconds that ajv has to read a schema, and to judge a text. */
const longestRead = 10_000;
const longestJudgement = 2000;

/** Judgement of ajv about a text; "unknown" if it fails itself, takes too long, or cannot read the schema. */
export type Judgement = "valid" | "invalid" | "unknown";

const shared: { work: () => unknown } = { work: () => null };
const context = createContext(shared);

/** Returns what `work` returns. @throws if it takes longer. */
function within<T>(timeout: number, work: () => T): T {
  shared.work = work;
  return runInContext("work()", context, { timeout }) as T;
}

/** Returns a judge of the texts of a schema. */
export function judgeOf(schema: JsonSchema): (text: string) => Judgement {
  let validate: ValidateFunction | null = null;
  try {
    validate = within(longestRead, () => ajvOf(schema));
  } catch {
    // It takes too long to read.
  }
  // Whole numbers from 2^53 on change when JavaScript reads them, so that a multiple may be none afterwards.
  const rounded = JSON.stringify(schema).includes('"multipleOf"') ? /\d{16}/ : /$^/;
  return (text) => {
    if (!validate || rounded.test(text)) return "unknown";
    const value: unknown = JSON.parse(text);
    try {
      return within(longestJudgement, () => validate(value)) ? "valid" : "invalid";
    } catch {
      // The code that it has made fails, or takes too long.
      return "unknown";
    }
  };
}
