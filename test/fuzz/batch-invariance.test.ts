/**
 * A sequence's logits do not depend on what is computed beside it, bit for bit: random models read a text at once, in
 * chunks, a token at a time, and beside other texts of other lengths, on one thread and on two. The software CUDA device
 * is too slow for this except at night.
 */
import fc from "fast-check";
import { afterAll, describe, expect } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { setThreads, threads } from "../../lib/core/device.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { native } from "../../lib/core/native.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { nightly } from "../support/nightly.js";
import { shaken } from "../support/shaken.js";
import { bestIsa, productTargets } from "../support/targets.js";
import { fuzz } from "./fuzz.js";

type Model = CausalDecoder;
const draw = fc.record({
  family: fc.constantFrom("gpt", "llama"),
  layers: fc.integer({ min: 1, max: 2 }),
  kvHeads: fc.constantFrom(1, 2),
  group: fc.constantFrom(1, 3),
  headSize: fc.constantFrom(6, 8, 16, 34),
  feedForwardWidth: fc.integer({ min: 3, max: 150 }),
  vocabularySize: fc.integer({ min: 5, max: 100 }),
  positions: fc.constantFrom("learned", "rotary", "alibi"),
  window: fc.constantFrom(0, 0, 5, 70),
  softcap: fc.constantFrom(0, 3),
  qkNorm: fc.boolean(),
  bits: fc.constantFrom(null, null, 8, 4),
  /** Lengths of the texts, of which the first one is read alone. */
  lengths: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 2, maxLength: 10 }),
  /** Lengths of chunks, over and over. */
  chunks: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 120 })), { minLength: 1, maxLength: 4 }),
  seed: fc.integer({ min: 1, max: 1000 }),
});
type Case = typeof draw extends fc.Arbitrary<infer T> ? T : never;

function modelOf(one: Case, device: string, dtype: FloatDType, most: number): Model {
  const { kvHeads, group, headSize, layers, feedForwardWidth, vocabularySize, window, softcap, qkNorm, seed } = one;
  const heads = kvHeads * group;
  const sizes = {
    layers,
    heads,
    kvHeads,
    width: heads * headSize,
    feedForwardWidth,
    vocabularySize,
    contextLength: most,
    window,
  };
  const model =
    one.family === "gpt"
      ? new GPT({ ...sizes, positions: one.positions, softcap, qkNorm }, { device, dtype })
      : new Llama({ ...sizes, qkNorm }, { device, dtype });
  shaken(model, { seed }).eval();
  return one.bits ? model.quantize({ bits: one.bits }) : model;
}

/** Logits [T · V] of the first of the texts, which the model reads together, a chunk of each at a time. */
async function logitsOf(model: Model, texts: number[][], chunks: readonly number[] | null): Promise<Buffer> {
  const [text] = texts as [number[]];
  const longest = Math.max(...texts.map((ids) => ids.length));
  const forward = (from: number, count: number, options: object): FloatTensor => {
    const padded = texts.flatMap((ids) => Array.from({ length: count }, (_, i) => ids[from + i] ?? 0));
    return model.forward(tensor(padded, [texts.length, count], { device: model.device, dtype: "i32" }), options);
  };
  const parts: Buffer[] = [];
  const read = async (count: number, body: () => FloatTensor): Promise<void> => {
    using out = noGrad(() => scope(() => narrow(narrow(body(), 0, 0, 1), 1, 0, count).to("f32")));
    parts.push(Buffer.from((await out.data()).buffer));
  };
  if (!chunks) {
    await read(text.length, () => forward(0, longest, {}));
    return Buffer.concat(parts);
  }
  using cache = model.createCache(texts.length, longest);
  for (let from = 0, i = 0; from < text.length; i++) {
    const count = Math.min(chunks[i % chunks.length]!, longest - from);
    await read(Math.min(count, text.length - from), () => forward(from, count, { cache }));
    from += count;
  }
  return Buffer.concat(parts);
}

const used = threads();
afterAll(() => {
  native.selectIsa(bestIsa);
  setThreads(used);
});

const tested = productTargets.filter(({ device }) => device === "cpu" || nightly);
describe.each(tested)("on $name", ({ device, select }) => {
  const cases = { ci: 3, nightly: device === "cpu" ? 2000 : 30 };
  for (const dtype of ["f32", "bf16", "f16"] as const)
    fuzz(`${dtype}: a text alone, in chunks and beside others`, draw, cases, async (one) => {
      select();
      using model = modelOf(one, device, dtype, Math.max(...one.lengths));
      const texts = one.lengths.map((length, b) =>
        Array.from({ length }, (_, i) => ((b + 1) * (i + one.seed) * 7919) % one.vocabularySize),
      );
      const alone = texts.slice(0, 1);
      setThreads(1);
      const whole = await logitsOf(model, alone, null);
      setThreads(2);
      const ways: [string, number[][], number[] | null][] = [
        ["on two threads", alone, null],
        ["a token at a time", alone, [1]],
        ["in chunks", alone, one.chunks],
        ["beside others", texts, null],
        ["beside others in chunks", texts, one.chunks],
      ];
      for (const [way, which, chunks] of ways)
        expect(whole.equals(await logitsOf(model, which, chunks)), `as the whole: ${way}`).toBe(true);
    });
});
