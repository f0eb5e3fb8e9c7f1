/** A server's engine: many requests at once, of which some are left, aborted, late or refused. */
import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { BusyError, Engine, type EngineRequest } from "heed";
import { answerTo, pick, type Place, questions, type Work } from "./world.js";
import type { Random } from "../support/random.js";

/** Makes a random request, and checks what it gets. */
async function ask(engine: Engine, { answers }: Place, random: Random): Promise<void> {
  const which = random.integer(questions.length);
  const control = new AbortController();
  const request: EngineRequest = { ...answerTo(which), signal: control.signal };
  const end = pick(random, ["whole", "whole", "whole", "left", "aborted", "late"]);
  if (end === "late") request.deadline = Date.now() + random.integer(20);
  const generation = engine.generate(request);
  let count = 0;
  const after = random.integer(10);
  const reason = new Error("enough");
  try {
    for await (const { tokens } of generation) {
      count += tokens.length;
      if (count < after) continue;
      if (end === "left") break;
      if (end === "aborted") control.abort(reason);
    }
  } catch (error) {
    // A full queue refuses requests, and an aborted one rejects with the reason.
    if (error === reason || error instanceof BusyError) return;
    throw error;
  }
  const { tokens, finishReason } = await generation;
  const expected = answers[which]!;
  if (finishReason === "length") deepStrictEqual(tokens, expected, "an engine's text has changed");
  else deepStrictEqual(tokens, expected.slice(0, tokens.length), "an engine's text is another's");
}

export const serve: Work = async ({ place, random }) => {
  await using engine = new Engine(place.speaker, {
    ...{ pageSize: 1 + random.integer(8), maxSequences: 1 + random.integer(8), maxQueue: 4 + random.integer(8) },
    maxBatchTokens: 1 + random.integer(40),
  });
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, async () => {
      await new Promise((resolve) => setTimeout(resolve, random.integer(20)));
      await ask(engine, place, random);
    }),
  );
  const { running, waiting, pagesUsed } = engine.metrics;
  deepStrictEqual({ running, waiting, pagesUsed }, { running: 0, waiting: 0, pagesUsed: 0 }, "an engine lost pages");
  const failed = results.filter((result) => result.status === "rejected");
  strictEqual(results.length, 20);
  // A mistake must not hide behind an error that a fault has caused.
  const mistake = failed.find(({ reason }) => (reason as Error).name === "AssertionError");
  const [first] = mistake ? [mistake] : failed;
  if (first) throw first.reason;
};
