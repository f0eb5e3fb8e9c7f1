/** The best evaluation of a run, and the end of runs that no longer improve. */
import { describe, expect, test } from "vitest";
import { Best, type BestState } from "../../lib/train/best.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { evaluate } from "../../lib/train/evaluate.js";
import type { EvaluationEvent } from "../../lib/train/events.js";
import { ignored, type SequenceSource } from "../../lib/data/sequence-source.js";
import { Trainer } from "../../lib/train/trainer.js";
import { editJson } from "../support/edit-json.js";
import { temporaryFolder } from "../support/folder.js";
import { collect, tinyModel, tokens } from "./support.js";

/** Notes the losses of steps 1, 2, …; returns which were best, and the step at which the run ends. */
function noted(losses: readonly (number | "none")[], { patience = 3, least = 0 } = {}) {
  let state: BestState | null = null;
  const best: boolean[] = [];
  let end: number | null = null;
  for (const [i, loss] of losses.entries()) {
    // As if the run were resumed before every evaluation.
    const one: Best = new Best({ patience, least }, state && (JSON.parse(JSON.stringify(state)) as BestState));
    const evaluation = loss === "none" ? { loss: NaN, tokens: 0 } : { loss, tokens: 10 };
    best.push(one.note(evaluation, i + 1));
    expect(one.note(evaluation, i + 1), "the same evaluation again").toBe(false);
    if (one.stops) end ??= i + 1;
    state = one.state;
  }
  return { best: best.flatMap((is, i) => (is ? [i + 1] : [])), end, state: state };
}

describe("Best", () => {
  test("the best has the lowest loss, whatever the least improvement is; patience counts improvements of it", () => {
    // Each is lower than the one before, but only step 4 by 0.5 than the last improvement.
    const losses = [3, 2.9, 2.7, 2.5, 2.4, 2.3, 2.2];
    expect(noted(losses, { least: 0 })).toMatchObject({ best: [1, 2, 3, 4, 5, 6, 7], end: null });
    expect(noted(losses, { least: 0.5 })).toMatchObject({ best: [1, 2, 3, 4, 5, 6, 7], end: 4 });
    expect(noted(losses, { least: 0.4 })).toMatchObject({ best: [1, 2, 3, 4, 5, 6, 7], end: 7 });
    expect(noted(losses, { least: 100 })).toMatchObject({ best: [1, 2, 3, 4, 5, 6, 7], end: 4 });
    expect(noted([1, 1, 2, 1, 0.5], { least: 0 })).toMatchObject({ best: [1, 5], end: 4 });
  });

  test("an evaluation without targets is never best and does not count", () => {
    expect(noted(["none", "none", "none", "none"])).toEqual({ best: [], end: null, state: null });
    expect(noted(["none", 2, "none", "none", "none", 3, 1])).toMatchObject({ best: [2, 7], end: null });
  });

  test("a loss that is not finite is never best, and no improvement", () => {
    expect(noted([NaN, Infinity, 2, NaN, 1])).toMatchObject({ best: [3, 5], end: null });
    expect(noted([NaN, NaN, NaN, 2])).toMatchObject({ best: [4], end: 3 });
  });
});

/** Sequences of which none has a token to predict. */
const silent: SequenceSource = {
  sequences: 3,
  contextLength: 8,
  sequence: () => ({ inputs: new Int32Array(8), targets: new Int32Array(8).fill(ignored), documents: null }),
};

test("an evaluation without targets has no loss", async () => {
  using model = tinyModel();
  expect(await evaluate(model, silent)).toEqual({ loss: NaN, perplexity: NaN, tokens: 0 });
});

test("a run whose evaluations have no targets keeps no best model, and its checkpoints can be read", async () => {
  const folder = temporaryFolder();
  using model = tinyModel();
  const options = { data: tokens(), validation: silent, batchSize: 4, evalEvery: 1, earlyStopping: { patience: 1 } };
  using trainer = new Trainer({ ...options, model, steps: 2, checkpoint: { folder, best: true } });
  const events = await collect(trainer.run());
  expect(events.filter(({ type }) => type === "evaluation")).toEqual(
    [1, 2].map((step) => ({ type: "evaluation", step, loss: NaN, perplexity: NaN, tokens: 0, best: false })),
  );
  expect(events.flatMap((event) => (event.type === "checkpoint" ? [event.best] : []))).toEqual([false]);
  const { path, state } = await loadCheckpoint(folder);
  expect(state.best).toBeNull();
  // Earlier versions took such an evaluation for the best.
  editJson(`${path}/trainer.json`, (json) => ({ ...json, best: { loss: null, step: 1, waited: 1 } }));
  const resume = await loadCheckpoint(folder);
  using other = resume.model;
  using again = new Trainer({
    ...{ ...options, validation: tokens(200, 4), model: other, resume, steps: 3, earlyStopping: { patience: 3 } },
    checkpoint: { folder, best: true },
  });
  const last = (await collect(again.run())).find((event): event is EvaluationEvent => event.type === "evaluation")!;
  expect(last.best).toBe(true);
  expect((await loadCheckpoint(`${folder}/best`)).state.best).toMatchObject({ loss: last.loss, step: 3, waited: 0 });
});
