import { afterAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { beamSearch } from "../../lib/generate/beam-search.js";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { LstmLanguageModel, type LstmLanguageModelConfig } from "../../lib/models/lstm-language-model.js";
import { native } from "../../lib/core/native.js";
import { argmax } from "../../lib/ops/choose.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { tensor } from "../../lib/core/creation.js";
import { expectClose, expectNear } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { decode, decodeInts, type FixtureArray, readFixture } from "../support/fixtures.js";
import { shaken } from "../support/shaken.js";
import { bestIsa, onEachDevice, targets } from "../support/targets.js";
import { fixtureTraining, trainedLosses } from "../support/training.js";

interface Fixture {
  config: LstmLanguageModelConfig;
  weights: Record<string, FixtureArray>;
  ids: FixtureArray;
  targets: FixtureArray;
  logits: FixtureArray;
  grads: Record<string, FixtureArray>;
  losses: FixtureArray;
}

const { tied, untied } = readFixture("models/lstm") as Record<"tied" | "untied", Fixture>;

/** Expects an error of at most some thirty roundings of f32. */
const expectLike = (label: string, actual: ArrayLike<number>, array: FixtureArray): void =>
  expectNear(label, actual, decode(array), 2e-6);

afterAll(() => native.selectIsa(bestIsa));

describe.each([
  ["tied", tied],
  ["untied", untied],
])("an LSTM language model, %s, beside PyTorch", (_, fixture) => {
  function load(device: string): LstmLanguageModel {
    const model = new LstmLanguageModel(fixture.config, { device });
    model.loadStateDict(
      Object.fromEntries(
        Object.entries(fixture.weights).map(([name, array]) => [name, { shape: array.shape, values: decode(array) }]),
      ),
    );
    return model;
  }

  test.for(targets)("logits and every gradient on $name", async ({ select, device }) => {
    select();
    using model = load(device);
    using ids = decodeInts(fixture.ids, device);
    using targets = decodeInts(fixture.targets, device);
    using logits = noGrad(() => model.forward(ids));
    expect(logits.shape).toEqual(fixture.logits.shape);
    expectLike("logits", await logits.data(), fixture.logits);
    using loss = model.loss(ids, targets);
    loss.backward();
    const names = [...model.namedParameters()].map(([name]) => name);
    expect(names.sort()).toEqual(Object.keys(fixture.grads).sort());
    for (const [name, parameter] of model.namedParameters())
      expectLike(`gradient of ${name}`, await parameter.grad!.data(), fixture.grads[name]!);
  });

  test.for(targets)("ten steps of training on $name", async ({ select, device }) => {
    select();
    using model = load(device);
    using ids = decodeInts(fixture.ids, device);
    using targets = decodeInts(fixture.targets, device);
    using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
    const losses = await trainedLosses(optimizer, 10, () => model.loss(ids, targets));
    expectLike("losses", losses, fixture.losses);
  });
});

onEachDevice((device) => {
  /** Returns a model with weights so large that the next token depends on the whole past. */
  function wild(config: Partial<LstmLanguageModelConfig> = {}): LstmLanguageModel {
    const size = { vocabularySize: 31, contextLength: 20, layers: 2, width: 9, size: 13, dropout: 0.3 };
    const std = (name: string): number => (name === "head.bias" ? 0.1 : name.startsWith("rnn.") ? 0.8 : 3);
    return shaken(new LstmLanguageModel({ ...size, ...config }, { device }), { std }).train();
  }

  /** Returns the likeliest tokens by full passes without a cache. */
  async function slowly(model: LstmLanguageModel, prompt: number[], tokens: number): Promise<number[]> {
    const all = [...prompt];
    while (all.length < prompt.length + tokens) {
      using next = infer(model, () =>
        argmax(model.forward(tensor(Int32Array.from(all), [1, all.length], { device }), { lastOnly: true })),
      );
      all.push(await next.item());
    }
    return all.slice(prompt.length);
  }

  test("generates from its state, each prompt of a batch from its own", async () => {
    using model = wild();
    const prompts = [[1], [2, 3, 4, 5, 6], [7, 8, 9]];
    const expected = await Promise.all(prompts.map((prompt) => slowly(model, prompt, 12)));
    expect(new Set(expected.flat()).size).toBeGreaterThan(5);
    const options = { maxTokens: 12, temperature: 0 };
    expect((await generateTokens(model, prompts, options)).map(({ tokens }) => tokens)).toEqual(expected);
    // Some sequences end, and their rows are removed.
    const stopTokens = [expected[0]![3]!, expected[1]![6]!];
    const cut = expected.map((tokens) => {
      const end = tokens.findIndex((token) => stopTokens.includes(token));
      return end === -1 ? tokens : tokens.slice(0, end);
    });
    const stopped = await generateTokens(model, prompts, { ...options, stopTokens });
    expect(stopped.map(({ tokens }) => tokens)).toEqual(cut);
    const beams = await beamSearch(model, prompts, { beams: 1, maxTokens: 12 });
    expect(beams.map(([best]) => best!.tokens)).toEqual(expected);
  });

  test("a sequence that has not begun is not affected by another's state", async () => {
    using model = wild({ dropout: 0 });
    using cache = model.createCache(2);
    using prompt = tensor(Int32Array.of(4, 5, 6, 7), [2, 2], { device });
    infer(model, () => model.forward(prompt, { cache, lastOnly: true })).dispose();
    cache.lengths[0] = 0;
    using next = tensor(Int32Array.of(9, 9), [2, 1], { device });
    using logits = infer(model, () => model.forward(next, { cache, lastOnly: true }));
    using alone = tensor(Int32Array.of(9), [1, 1], { device });
    using expected = infer(model, () => model.forward(alone, { lastOnly: true }));
    expectClose("logits", (await logits.data()).slice(0, 31), await expected.data(), { relative: 4, absolute: 4 });
  });

  test("is deterministic, and dropout follows its seed", async () => {
    const lossOf = async (seed: number, dropout: number): Promise<number> => {
      using model = new LstmLanguageModel(
        { vocabularySize: 11, contextLength: 6, layers: 2, width: 8, dropout, tied: true },
        { device, seed },
      );
      using ids = tensor(Int32Array.of(1, 2, 3, 4), [1, 4], { device });
      using loss = model.loss(ids, ids);
      return await loss.item();
    };
    expect(await lossOf(1, 0.5)).toBe(await lossOf(1, 0.5));
    expect(await lossOf(1, 0.5)).not.toBe(await lossOf(1, 0));
    expect(await lossOf(1, 0)).not.toBe(await lossOf(2, 0));
  });

  test.for(["bf16", "f16"] as const)("trains in %s beside parameters of f32", async (dtype) => {
    const config = { vocabularySize: 11, contextLength: 8, layers: 2, width: 8 };
    using ids = tensor(
      Int32Array.from({ length: 16 }, (_, i) => (i * i) % 11),
      [2, 8],
      { device },
    );
    const losses: number[][] = [];
    for (const activations of ["f32", dtype] as const) {
      using model = new LstmLanguageModel(config, { device, seed: 2 });
      model.dtype = activations;
      using optimizer = new AdamW(model.namedParameters(), { lr: 3e-2 });
      losses.push(await trainedLosses(optimizer, 8, () => model.loss(ids, ids)));
      expect(model.parameters().every((weight) => weight.grad!.dtype === "f32")).toBe(true);
    }
    const [exact, rounded] = losses as [number[], number[]];
    expect(exact.at(-1)).toBeLessThan(0.8 * exact[0]!);
    // A rounding of 2⁻⁹ in the logits, which are a few units, changes the loss by as much.
    for (const [i, loss] of rounded.entries()) expect(Math.abs(loss - exact[i]!), `step ${i}`).toBeLessThan(0.02);
    expect(rounded).not.toEqual(exact);
    using model = new LstmLanguageModel(config, { device, dtype });
    expectError(() => (model.dtype = "f32"), "ERR_DTYPE");
  });

  test("the forget gate's bias begins at 1, the others at 0", async () => {
    using model = new LstmLanguageModel({ vocabularySize: 5, contextLength: 3, layers: 1, width: 2 }, { device });
    const { "rnn.bias_ih_l0": first, "rnn.bias_hh_l0": second } = model.stateDict();
    expect([...(await first!.data())]).toEqual([0, 0, 1, 1, 0, 0, 0, 0]);
    expect([...(await second!.data())]).toEqual(Array(8).fill(0));
  });

  test("refuses input that does not fit", () => {
    const config = { vocabularySize: 5, contextLength: 3, layers: 1, width: 2 };
    const make = (options: object): void => new LstmLanguageModel({ ...config, ...options }, { device }).dispose();
    for (const name of ["vocabularySize", "contextLength", "layers", "width", "size"])
      for (const value of [0, 1.5, "2"]) expectError(() => make({ [name]: value }), "ERR_RANGE");
    expectError(() => make({ dropout: 2 }), "ERR_RANGE");
    expectError(() => make({ tied: 1 }), "ERR_ARGUMENT");
    expectError(() => make({ tied: true, size: 3 }), "ERR_SHAPE");
    expectError(() => new LstmLanguageModel(null as never), "ERR_ARGUMENT");
    using model = new LstmLanguageModel(config, { device });
    using long = tensor(Int32Array.of(1, 2, 3, 4), [1, 4], { device });
    expectError(() => model.forward(long), "ERR_SHAPE");
    expectError(() => model.createCache(1, 4), "ERR_RANGE");
    const documents = [[2]] as never;
    expectError(() => model.loss(long, long, { documents }), "ERR_ARGUMENT", /no documents/);
  });
});
