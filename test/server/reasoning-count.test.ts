/** The number of tokens of reasoning in the usage of an answer. */
import { expect, test } from "vitest";
import { ReasoningCount } from "../../lib/server/answers.js";
import { usageOf } from "../../lib/server/shared-parameters.js";

test("tokens count as reasoning when their text turns out to be", () => {
  const event = (tokens: number, text: string, reasoning?: string) => ({
    ...{ text, tokens: Array<number>(tokens).fill(1) },
    ...(reasoning !== undefined && { reasoning }),
  });
  const count = new ReasoningCount();
  const added = [
    event(1, ""), // the mark of the beginning
    event(2, "", "Let me "),
    event(1, ""), // a part of a character
    event(1, "", "é"),
    event(1, ""), // the mark of the end
    event(3, "So"),
    event(1, ""),
    event(1, " it is"),
  ].map((one) => count.add(one));
  expect(added).toEqual([0, 3, 0, 2, 0, 0, 0, 0]);
  const usage = { promptTokens: 2, cachedTokens: 0, completionTokens: 11, reasoningTokens: 5 };
  expect(usageOf(usage)).toMatchObject({ total_tokens: 13, completion_tokens_details: { reasoning_tokens: 5 } });
  expect(usageOf({ ...usage, reasoningTokens: 0 })).not.toHaveProperty("completion_tokens_details");
});
