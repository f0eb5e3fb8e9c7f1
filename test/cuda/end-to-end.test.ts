/** A GPT trains and generates on CUDA as on the CPU, in every dtype, in whatever order blocks and warps run. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, test } from "vitest";
import type { FloatDType } from "../../lib/core/dtype.js";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { GPT } from "../../lib/models/gpt.js";
import { argmax } from "../../lib/ops/choose.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { smallGpt, someTokens } from "../generate/models.js";
import { expectChild } from "../support/child.js";
import { expectClose } from "../support/close.js";
import { noCuda, simulated } from "../support/cuda.js";
import { roundoff } from "../support/dtypes.js";
import { temporaryFolder } from "../support/folder.js";
import { orders } from "../support/nightly.js";
import { Random } from "../support/random.js";
import { describeUnless, testUnless } from "../support/skip.js";

const dtypes = ["f32", "bf16", "f16"] as const;
const [B, T, V] = [4, 20, 37];

/** Batches with something to learn: a token follows from the one before, with noise. */
function batches(count: number): { ids: Int32Array; targets: Int32Array }[] {
  const random = new Random(7);
  const next = (id: number): number => (random.uniform() < 0.8 ? (3 * id + 1) % V : random.integer(V));
  return Array.from({ length: count }, () => {
    const rows = Array.from({ length: B }, () => {
      const row = [random.integer(V)];
      while (row.length <= T) row.push(next(row.at(-1)!));
      return row;
    });
    return {
      ids: Int32Array.from(rows.flatMap((row) => row.slice(0, T))),
      targets: Int32Array.from(rows.flatMap((row) => row.slice(1))),
    };
  });
}

interface Run {
  losses: number[];
  /** Norms of the gradients before clipping. */
  norms: number[];
  parameters: Map<string, { before: Float32Array; after: Float32Array }>;
}

const maxNorm = 0.5;

/** Trains for 20 steps of AdamW with clipping and dropout. */
async function train(device: string, dtype: FloatDType): Promise<Run> {
  const config = { vocabularySize: V, contextLength: T, layers: 2, heads: 2, width: 32, dropout: 0.1 };
  using model = new GPT(config, { seed: 3, device });
  model.dtype = dtype;
  // The scale is a power of two, so that it changes only numbers that f16 would flush to zero: gradients of the
  // activations are means over 80 tokens and more (Micikevicius et al. 2018, §3.2). AdamW's step does not depend on
  // their scale.
  const scale = dtype === "f16" ? 1024 : 1;
  using optimizer = new AdamW(model.namedParameters(), { lr: 1e-2, maxNorm: scale * maxNorm, eps: scale * 1e-8 });
  const run: Run = { losses: [], norms: [], parameters: new Map() };
  const read = () =>
    Promise.all([...model.namedParameters()].map(async ([name, p]) => [name, await p.data()] as const));
  const before = new Map(await read());
  for (const [step, batch] of batches(20).entries()) {
    using ids = tensor(batch.ids, [B, T], { device });
    using targets = tensor(batch.targets, [B, T], { device });
    model.dropoutSeeds.step = step;
    using loss = scope(() => {
      const loss = model.train().loss(ids, targets);
      optimizer.zeroGrad();
      loss.backward(scale);
      optimizer.step();
      return loss;
    });
    run.losses.push(await loss.item());
    run.norms.push((await optimizer.gradientNorm!.item()) / scale);
  }
  for (const [name, after] of await read()) run.parameters.set(name, { before: before.get(name)!, after });
  return run;
}

describeUnless(noCuda)("training on cuda", () => {
  let cpu: Run;
  beforeAll(async () => void (cpu = await train("cpu", "f32")));

  test("learns on the CPU, clipping most steps", () => {
    const last = cpu.losses.slice(-5).reduce((a, b) => a + b) / 5;
    expect(last).toBeLessThan(0.7 * cpu.losses[0]!);
    expect(cpu.norms.filter((norm) => norm > maxNorm).length).toBeGreaterThan(10);
  });

  test("f32 has the CPU's losses and gradient norms, and moves every parameter", async () => {
    const cuda = await train("cuda", "f32");
    for (const kind of ["losses", "norms"] as const)
      for (const [step, got] of cuda[kind].entries()) {
        const want = cpu[kind][step]!;
        expect(Math.abs(got - want), `${kind} of step ${step}: ${got} for ${want}`).toBeLessThan(1e-4 * want);
      }
    for (const [name, { before, after }] of cuda.parameters) {
      const moved = after.reduce((count, x, i) => count + Number(x !== before[i]), 0);
      expect(moved / after.length, `moved part of ${name}`).toBeGreaterThan(0.9);
    }
  });

  // At equal parameters a loss, the mean over 80 tokens of log-sums of rounded logits, has a smaller error than one
  // rounding of it. But the parameters drift apart: some 40 activations and their gradients are rounded on the way
  // through the model and back, and a step lowers the loss by that much more or less. The observed averages were 0.4
  // roundings (bf16) and 0.8 (f16), and the maximum was 2.7; an omitted gradient causes 10 and more from the first
  // steps on.
  test.for(["bf16", "f16"] as const)("losses in %s follow those of f32", async (dtype) => {
    const cuda = await train("cuda", dtype);
    const off = cuda.losses.map((got, step) => Math.abs(got / cpu.losses[step]! - 1) / roundoff(dtype));
    expect(off[0], "roundings, before any step").toBeLessThan(1);
    expect(off.reduce((a, b) => a + b) / off.length, "roundings, on the average").toBeLessThan(2);
    expect(Math.max(...off), "roundings").toBeLessThan(6);
    expect(cuda.losses).not.toEqual(cpu.losses);
  });
});

describeUnless(noCuda)("inference on cuda", () => {
  test("greedy tokens are the same on CPU and CUDA, with the KV cache and without", async () => {
    const prompt = someTokens(5, 1);
    const count = 19; // up to the context's end
    const said = await Promise.all(
      ["cpu", "cuda"].map(async (device) => {
        using model = smallGpt(device);
        const [cached] = await generateTokens(model, [prompt], { maxTokens: count, temperature: 0 });
        const tokens = [...prompt];
        while (tokens.length < prompt.length + count) {
          using next = infer(model, () => {
            const ids = tensor(Int32Array.from(tokens), [1, tokens.length], { device });
            return argmax(model.forward(ids, { lastOnly: true }));
          });
          tokens.push(await next.item());
        }
        return [cached!.tokens, tokens.slice(prompt.length)];
      }),
    );
    const [first, ...rest] = said.flat();
    for (const tokens of rest) expect(tokens).toEqual(first);
    expect(new Set(first).size).toBeGreaterThan(5);
  });

  // Beyond 128 keys decoding splits them. The two methods sum in different orders, all in f32, and these weights
  // magnify the difference (see test/generate/cache.test.ts). Both round to 16 bits at the same places, so only sums
  // that fall to the other side of a rounding differ. The observed maximum was two roundings of the largest logit.
  test.for(dtypes)("the KV cache gives the full pass's logits in %s", async (dtype) => {
    const [length, cut] = [300, 280];
    using model = smallGpt("cuda", { contextLength: length, layers: 1, heads: 2, width: 16 });
    if (dtype !== "f32") model.to(dtype);
    const tokens = Int32Array.from(someTokens(length, 2));
    const rows = async (ids: Int32Array, options: Parameters<GPT["forward"]>[1] = {}): Promise<Float32Array[]> => {
      using input = tensor(ids, [1, ids.length], { device: "cuda" });
      using logits = infer(model, () => model.forward(input, options));
      const data = await logits.data();
      return Array.from({ length: ids.length }, (_, i) => data.subarray(i * 61, (i + 1) * 61));
    };
    const full = await rows(tokens);
    using cache = model.createCache(1);
    const cached = await rows(tokens.subarray(0, cut), { cache });
    for (let i = cut; i < length; i++) cached.push(...(await rows(tokens.subarray(i, i + 1), { cache })));
    const absolute = dtype === "f32" ? 64 : (8 * roundoff(dtype)) / roundoff("f32");
    for (const [i, row] of cached.entries()) expectClose(`position ${i}`, row, full[i]!, { relative: 0, absolute });
  });
});

/** Trains and generates with 512 tokens per batch and 256 keys, so that sums over K and over keys are split. */
const program = `
  import { createHash } from "node:crypto";
  const [B, T, V] = [2, 256, 29];
  const result = {};
  for (const dtype of ["f32", "bf16"]) {
    const config = { vocabularySize: V, contextLength: T, layers: 1, heads: 1, width: 16, dropout: 0.1 };
    const model = new heed.GPT(config, { seed: 1, device: "cuda" });
    model.dtype = dtype;
    const optimizer = new heed.AdamW(model.namedParameters(), { lr: 1e-2, maxNorm: 0.5 });
    const ids = Int32Array.from({ length: B * (T + 1) }, (_, i) => (i * i * 7) % V);
    const input = heed.tensor(ids.subarray(0, B * T), [B, T], { device: "cuda" });
    const targets = heed.tensor(ids.subarray(1, 1 + B * T), [B, T], { device: "cuda" });
    const losses = [];
    for (let step = 0; step < 2; step++) {
      const loss = heed.scope(() => {
        const loss = model.loss(input, targets);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss;
      });
      losses.push(await loss.item());
    }
    const hash = createHash("sha256");
    for (const parameter of model.parameters()) hash.update(await parameter.data());
    for (const moment of Object.values(optimizer.stateDict())) hash.update(await moment.data());
    const prompt = ids.subarray(0, 200);
    const [{ tokens }] = await heed.generateTokens(model, [prompt], { maxTokens: 4, seed: 2, topP: 0.9 });
    // There are enough keys and few enough heads for blocks to share a query's keys.
    const qkv = heed.randn([1, 512, 768], { seed: 3, dtype, device: "cuda" });
    const attended = heed.packedAttention(qkv, { heads: 4, causal: true });
    hash.update(await attended.data());
    result[dtype] = { losses, hash: hash.digest("hex"), tokens };
  }
  console.log(JSON.stringify(result));
`;

testUnless(noCuda)(
  `${orders.length} orders of blocks and warps on cuda give the same bits, and the sanitizer reports nothing`,
  async () => {
    const counters = path.join(temporaryFolder(), "counters.json");
    const outputs: string[] = [];
    for (const seed of orders) {
      // The sanitizer reports on stderr, and expectChild accepts no output there.
      const env = { HEED_SIMULATOR_SEED: seed, HEED_SIMULATOR_SANITIZE: "1", HEED_SIMULATOR_COUNTERS: counters };
      outputs.push(await expectChild(program, 0, env));
    }
    expect(new Set(outputs).size, outputs.join("\n")).toBe(1);
    const { f32, bf16 } = JSON.parse(outputs[0]!) as Record<FloatDType, { losses: number[]; hash: string }>;
    for (const loss of [...f32.losses, ...bf16.losses]) expect(loss).toBeGreaterThan(1);
    expect(bf16.hash).not.toBe(f32.hash);
    if (!simulated) return;
    // Blocks of a product or of attention that share a result count themselves with an atomic.
    const kernels = JSON.parse(readFileSync(counters, "utf8")) as Record<string, { atomics: number }>;
    for (const kernel of [/^gemm_f32_/, /^gemm_bf16_/, /^attention_forward_.*f32/, /^attention_forward_.*bf16/]) {
      const atomics = Object.entries(kernels).map(([name, counted]) => (kernel.test(name) ? counted.atomics : 0));
      expect(Math.max(...atomics), `blocks of ${kernel} that meet`).toBeGreaterThan(0);
    }
  },
  120_000,
);
