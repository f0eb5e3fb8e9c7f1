/**
 * Random small models that are changed and generate in turn. Recorded steps must give the same tokens as unrecorded
 * ones, and both the same as a naive loop. That loop runs a fresh model, which got the current parameters as numbers,
 * over the whole sequence for each token: no cache, no batch, no padding, and nothing kept from before. Some models get
 * a NaN and diverge, on all sequences or only on those that reach a certain token or position.
 */
import fc from "fast-check";
import { describe, expect } from "vitest";
import { detach, noGrad } from "../../lib/core/autograd.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { TokenOptions } from "../../lib/generate/options.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import { Llama } from "../../lib/models/llama.js";
import type { LlamaConfig } from "../../lib/models/llama-config.js";
import { sample } from "../../lib/ops/sample.js";
import { narrow } from "../../lib/ops/views.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { roundoff } from "../support/dtypes.js";
import { Random } from "../support/random.js";
import { settled } from "../support/settled.js";
import { devicesTested } from "../support/targets.js";
import { fuzz } from "./fuzz.js";

type Config = { family: "gpt"; config: GptConfig } | { family: "llama"; config: LlamaConfig };
type AnyModel = CausalDecoder;

const sizes = {
  layers: fc.integer({ min: 1, max: 2 }),
  heads: fc.constantFrom(1, 2, 4),
  headSize: fc.constantFrom(2, 4, 8),
  shared: fc.boolean(),
  contextLength: fc.integer({ min: 2, max: 16 }),
  vocabularySize: fc.integer({ min: 3, max: 40 }),
  feedForwardWidth: fc.integer({ min: 1, max: 40 }),
  window: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 6 })),
  qkNorm: fc.boolean(),
  tied: fc.boolean(),
};

const gpts: fc.Arbitrary<Config> = fc
  .record({
    ...sizes,
    bias: fc.boolean(),
    positions: fc.constantFrom("learned", "sinusoidal", "rotary", "alibi", "none"),
    softcap: fc.constantFrom(0, 3, 30),
    gated: fc.boolean(),
    activation: fc.constantFrom("gelu", "silu", "relu"),
    normalization: fc.constantFrom("layer", "rms"),
    embeddingScale: fc.constantFrom(1, 2.5),
    residualScale: fc.constantFrom(1, 0.7),
  })
  .map(({ headSize, shared, ...rest }) => {
    const { heads } = rest;
    const kvHeads = shared ? Math.ceil(heads / 2) : heads;
    return { family: "gpt", config: { ...rest, width: heads * headSize, kvHeads } };
  });

const llamas: fc.Arbitrary<Config> = fc
  .record({
    ...sizes,
    attentionBias: fc.boolean(),
    outputBias: fc.boolean(),
    feedForwardBias: fc.boolean(),
    interleaved: fc.boolean(),
    partly: fc.boolean(),
    rotaryBase: fc.constantFrom(100, 10_000),
    wide: fc.boolean(),
  })
  .map(({ shared, partly, wide, ...rest }) => {
    const { heads, headSize } = rest;
    const kvHeads = shared ? Math.ceil(heads / 2) : heads;
    // The width need not be that of all heads.
    const width = heads * headSize * (wide ? 2 : 1);
    return { family: "llama", config: { ...rest, width, kvHeads, rotarySize: partly ? 2 : headSize } };
  });

/** A change of a model; `pick` selects one of its parameters, and `seed` the numbers. */
interface Change {
  kind: "train" | "set" | "setView" | "setPart" | "spoil" | "load" | "loss" | "forward";
  pick: number;
  seed: number;
}

const changes: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom("train", "train", "set", "setView", "setPart", "spoil", "load", "loss", "forward"),
  pick: fc.nat(99),
  seed: fc.nat(2 ** 20),
});

const generations = fc.record({
  /** Ids below 40, to be taken modulo the vocabulary; some prompts are longer than the context. */
  prompts: fc.array(fc.array(fc.nat(39), { minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 4 }),
  way: fc.record({
    temperature: fc.constantFrom(0, 0, 1, 1.7),
    topK: fc.constantFrom(0, 0, 5),
    topP: fc.constantFrom(1, 1, 0.8),
    repetitionPenalty: fc.constantFrom(1, 1, 1.3),
    seed: fc.nat(2 ** 30),
    maxTokens: fc.integer({ min: 1, max: 14 }),
    overflow: fc.constant("slide" as const),
  }),
  stop: fc.option(fc.nat(39)),
  /** Numbers of tokens that come before a change, and the changes. */
  meanwhile: fc.oneof(fc.constant([]), fc.array(fc.tuple(fc.integer({ min: 1, max: 14 }), changes), { maxLength: 3 })),
});
type Generation = typeof generations extends fc.Arbitrary<infer T> ? T : never;

const programs = fc.record({
  model: fc.oneof(gpts, llamas),
  dtypes: fc.constantFrom<[FloatDType, FloatDType][]>(
    ["f32", "f32"],
    ["f32", "bf16"],
    ["f32", "f16"],
    ["bf16", "bf16"],
    ["f16", "f16"],
  ),
  seed: fc.nat(2 ** 20),
  steps: fc.array(fc.oneof(changes, generations), { minLength: 1, maxLength: 5 }),
});

/** Returns numbers that are large enough for the next token to depend on the whole context. */
function numbersFor(name: string, { shape, size }: FloatTensor, random: Random): number[] {
  const [mean, std] = shape.length === 2 ? [0, 0.5] : name.endsWith("weight") ? [1, 0.2] : [0, 0.2];
  return Array.from({ length: size }, () => mean + std * random.normal());
}

/** Describes a prompt's continuation: its tokens and its finish reason, or the error's message if the model diverged. */
interface Said {
  tokens: number[];
  finishReason: string;
}

/** A model and its optimiser, as a long program uses them. */
class Subject implements Disposable {
  readonly model: AnyModel;
  readonly #optimizer: AdamW | null;

  constructor(
    { family, config }: Config,
    readonly dtypes: readonly [FloatDType, FloatDType],
    readonly device: string,
  ) {
    const [dtype, activations] = dtypes;
    const options = { device, dtype };
    this.model = family === "gpt" ? new GPT(config, options) : new Llama(config, options);
    if (dtype === "f32") this.model.dtype = activations;
    this.#optimizer =
      dtype === "f32" ? new AdamW(this.model.namedParameters(), { lr: 0.1, maxNorm: 1, weightDecay: 0.1 }) : null;
  }

  fill(seed: number): void {
    const random = new Random(seed);
    const entries = [...this.model.namedParameters()].map(
      ([name, weight]) => [name, { shape: weight.shape, values: numbersFor(name, weight, random) }] as const,
    );
    this.model.loadStateDict(Object.fromEntries(entries));
  }

  change({ kind, pick, seed }: Change): void {
    const random = new Random(seed);
    const parameters = [...this.model.namedParameters()];
    const [name, weight] = parameters[pick % parameters.length]!;
    const { contextLength, vocabularySize } = this.model.config;
    const length = 1 + random.integer(contextLength);
    const loss = (): FloatTensor => {
      const tokens = Int32Array.from({ length: 2 * length }, () => random.integer(vocabularySize));
      const ids = tensor(tokens, [2, length], { device: this.device });
      return kind === "forward" ? this.model.forward(ids) : this.model.loss(ids, ids);
    };
    scope(() => {
      if (kind === "load") this.fill(seed);
      else if (kind === "set") weight.set(numbersFor(name, weight, random));
      else if (kind === "setView") detach(weight).set(numbersFor(name, weight, random));
      else if (kind === "setPart") {
        const part = noGrad(() => narrow(weight, 0, 0, Math.ceil(weight.shape[0]! / 2)));
        part.set(numbersFor(name, part, random));
      } else if (kind === "train" && this.#optimizer) {
        loss().backward();
        this.#optimizer.step();
        this.#optimizer.zeroGrad();
      } else if (kind === "spoil") {
        // Half of them change a row of a table, for a token or a position.
        const tables = parameters.filter(([, { shape }]) => [vocabularySize, contextLength].includes(shape[0]!));
        const target = pick % 2 ? weight : tables[pick % tables.length]![1];
        const row = noGrad(() => narrow(target, 0, random.integer(target.shape[0]!), 1));
        row.set(new Array<number>(row.size).fill(NaN));
      } else if (kind === "loss") noGrad(loss);
      // The loss is recorded and then not used.
      else loss();
    });
  }

  async generate({ prompts, way, stop, meanwhile }: Generation): Promise<Said[]> {
    const { vocabularySize } = this.model.config;
    const due = [...meanwhile];
    let step = 0;
    const heard: number[][] = prompts.map(() => []);
    const onToken = (token: number, row: number): void => {
      heard[row]!.push(token);
      step++;
      for (const [at, change] of due) if (at === step) this.change(change);
    };
    const options: TokenOptions = { ...way, onToken, stopTokens: stop === null ? [] : [stop % vocabularySize] };
    const running = generateTokens(
      this.model,
      prompts.map((prompt) => prompt.map((id) => id % vocabularySize)),
      options,
    );
    return (await settled(running)).map((result, row) =>
      result.status === "fulfilled"
        ? result.value
        : { tokens: heard[row]!, finishReason: (result.reason as Error).message },
    );
  }

  [Symbol.dispose](): void {
    this.#optimizer?.dispose();
    this.model.dispose();
  }
}

/** Returns the logits after these tokens, from a pass over all of them. */
async function logitsAfter(model: AnyModel, tokens: readonly number[]): Promise<Float32Array> {
  const { vocabularySize } = model.config;
  using logits = noGrad(() =>
    model.forward(tensor(Int32Array.from(tokens), [1, tokens.length], { device: model.device })),
  );
  return (await logits.data()).slice(-vocabularySize);
}

/**
 * Returns the random number in [0, 1) of a draw with this seed, to 16 bits: it is drawn from that many equally likely
 * tokens.
 */
async function drawOf(seed: number, offset: number, device: string): Promise<number> {
  using equal = zeros([1, 2 ** 16], { device });
  using offsets = tensor(Int32Array.of(offset), [1], { device });
  using token = sample(equal, offsets, { seed });
  return (await token.item()) / 2 ** 16;
}

/**
 * Largest difference between a full pass and a cached step, in roundings of the largest logit; the observed maximum is
 * 1.4.
 */
const roundings = 4;

/** Checks the continuation of a prompt against the naive loop, which follows its tokens as long as each is correct. */
async function expectNaive(
  fresh: Subject,
  { way, stop, prompts }: Generation,
  row: number,
  said: Said,
  spoilt: boolean,
) {
  const { model, dtypes, device } = fresh;
  const { contextLength, vocabularySize } = model.config;
  const { temperature, repetitionPenalty: penalty, maxTokens, seed } = way;
  const prompt = prompts[row]!.map((id) => id % vocabularySize);
  const stopToken = stop === null ? null : stop % vocabularySize;
  const all = prompt.slice(-contextLength);
  let context = [...all];
  for (let n = 0; ; n++) {
    if (n === maxTokens) {
      expect(said).toMatchObject({ finishReason: "length", tokens: { length: n } });
      return;
    }
    const logits = await logitsAfter(model, context);
    if (!logits.every(Number.isFinite)) {
      expect(spoilt, "finite logits").toBe(true);
      expect(said).toMatchObject({ tokens: { length: n } });
      expect(said.finishReason).toContain(`token ${n + 1} after prompts[${row}]`);
      return;
    }
    const largest = Math.max(...logits.map(Math.abs));
    const off = roundings * roundoff(dtypes[1]) * largest;
    for (const id of new Set(all.slice(-contextLength))) logits[id]! *= logits[id]! > 0 ? 1 / penalty : penalty;
    const most = Math.max(...logits);
    const token = said.tokens[n] ?? stopToken;
    if (token === null) throw new Error(`token ${n} of ${maxTokens} is missing`);
    if (temperature === 0)
      expect(most - logits[token]!, `token ${n}: ${token} beside the best`).toBeLessThanOrEqual(2 * off * penalty);
    else {
      const weights = Float64Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
      const mass = weights.reduce((a, b) => a + b);
      const below = weights.slice(0, token).reduce((a, b) => a + b, 0) / mass;
      const draw = await drawOf(seed, prompt.length + n, device);
      const slack = 2 ** -16 + (2 * off * penalty) / temperature;
      expect(draw, `token ${n}: the draw of ${token}`).toBeGreaterThan(below - slack);
      expect(draw, `token ${n}: the draw of ${token}`).toBeLessThan(below + weights[token]! / mass + slack);
    }
    if (n === said.tokens.length) {
      expect(said.finishReason).toBe("stop");
      return;
    }
    expect(token).not.toBe(stopToken);
    all.push(token);
    context.push(token);
    if (context.length > contextLength) context = context.slice(-Math.ceil(contextLength / 2));
  }
}

describe.each(devicesTested)("generation on $name", ({ device }) => {
  // The software device is slow at each operation.
  const cases = device === "cpu" ? { ci: 60, nightly: 12_000 } : { ci: 6, nightly: 1000 };
  fuzz(
    "of changing models, recorded, unrecorded and naive",
    programs,
    cases,
    async ({ model, dtypes, seed, steps }) => {
      using recorded = new Subject(model, dtypes, device);
      using direct = new Subject(model, dtypes, device);
      Object.defineProperty(direct.model, "recordable", { value: false });
      for (const subject of [recorded, direct]) subject.fill(seed);
      for (const step of steps) {
        if ("kind" in step) {
          for (const subject of [recorded, direct]) subject.change(step);
          continue;
        }
        const said = await recorded.generate(step);
        expect(said, "recorded beside unrecorded").toEqual(await direct.generate(step));
        const { temperature, topK, topP } = step.way;
        // Changes within a generation leave old keys in its cache, and the tokens that filters remove may depend on a
        // rounding.
        const plain = temperature === 0 || (topK === 0 && topP === 1);
        if (step.meanwhile.length > 0 || !plain) continue;
        using fresh = new Subject(model, dtypes, device);
        const entries = Object.entries(recorded.model.stateDict()).map(
          async ([name, weight]) => [name, { shape: weight.shape, values: await weight.data() }] as const,
        );
        const parameters = await Promise.all(entries);
        const spoilt = parameters.some(([, { values }]) => values.some(Number.isNaN));
        // Keys that a window hides may still be read within a block of queries, which a step of one token does not
        // have.
        if (spoilt && model.config.window) continue;
        fresh.model.loadStateDict(Object.fromEntries(parameters));
        const seen = new Set<string>();
        for (const [row, prompt] of step.prompts.entries()) {
          // Copies of a prompt draw other numbers.
          const key = prompt
            .map((id) => id % model.config.vocabularySize)
            .slice(-model.config.contextLength)
            .join();
          if (temperature === 0 || !seen.has(key)) await expectNaive(fresh, step, row, said[row]!, spoilt);
          seen.add(key);
        }
      }
    },
  );
});
