/** Compares sparse autoencoders with PyTorch and files in SAELens' layout: test/fixtures/sae.py. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { noGrad, parameter } from "../../lib/core/autograd.js";
import { randn, tensor } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import {
  evaluateSparseAutoencoder,
  featureDashboards,
  loadSparseAutoencoder,
  run,
  runWithCache,
  saveSparseAutoencoder,
  SparseAutoencoder,
  trainSparseAutoencoder,
} from "../../lib/inspect/index.js";
import { ActivationBuffer } from "../../lib/inspect/sae/activation-buffer.js";
import { saeLoss } from "../../lib/inspect/sae/loss.js";
import { resampleDead } from "../../lib/inspect/sae/resample.js";
import { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { log } from "../../lib/ops/unary.js";
import { scope } from "../../lib/core/scope.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { decode, decodeFloats, type FixtureArray, readFixture } from "../support/fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";
import { shaken } from "../support/shaken.js";
import { describeUnless, oneDevice } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";

interface SaeCase {
  config: Record<string, unknown>;
  /** Base64 of sae_weights.safetensors. */
  weights: string;
  x: FixtureArray;
  features: FixtureArray;
  out: FixtureArray;
  loss: number;
  gradients: Record<string, FixtureArray>;
}
const fixture = readFixture("activations/sae") as {
  bandwidth: number;
  sparsity: number;
  cases: Record<"standard" | "topk" | "jumprelu", SaeCase>;
};
const kinds = ["standard", "topk", "jumprelu"] as const;

function folderOf({ config, weights }: Pick<SaeCase, "config" | "weights">): string {
  const folder = path.join(temporaryFolder(), "sae");
  mkdirSync(folder);
  writeFileSync(path.join(folder, "cfg.json"), JSON.stringify(config));
  writeFileSync(path.join(folder, "sae_weights.safetensors"), Buffer.from(weights, "base64"));
  return folder;
}

const sizes = { vocabularySize: 17, contextLength: 9, layers: 2, width: 6, heads: 2 };
const random = new Random(4);
const corpus = Array.from({ length: 13 }, (_, i) => Array.from({ length: 2 + (i % 7) }, () => random.integer(17)));
const name = "blocks.1.hook_resid_pre";

onEachDevice((device) => {
  let gpt: GPT;
  beforeAll(() => void (gpt = shaken(new GPT(sizes, { device }))));

  describe.each(kinds)("%s", (kind) => {
    const given = fixture.cases[kind];

    test("a file in SAELens' layout computes what PyTorch computes, and so does heed's own", async () => {
      using sae = await loadSparseAutoencoder(folderOf(given), { device });
      expect(sae.config.architecture).toBe(kind);
      expect(sae.config.hookName).toBe({ standard: name, topk: "blocks.0.hook_mlp_out", jumprelu: null }[kind]);
      const copy = path.join(temporaryFolder(), "copy");
      await saveSparseAutoencoder(copy, sae);
      using again = await loadSparseAutoencoder(copy, { device });
      expect(again.config).toEqual(sae.config);
      using x = decodeFloats(given.x, device);
      for (const one of [sae, again]) {
        using features = noGrad(() => one.encode(x));
        using out = noGrad(() => one.forward(x));
        expectNear("features", await features.data(), decode(given.features), 1e-5);
        expectNear("reconstruction", await out.data(), decode(given.out), 1e-5);
      }
      const written = JSON.parse(readFileSync(path.join(copy, "cfg.json"), "utf8")) as Record<string, unknown>;
      expect(written).toMatchObject({ architecture: kind, d_in: 5, d_sae: 11, normalize_activations: "none" });
    });

    test("the gradients of the loss are PyTorch's", async () => {
      const { bandwidth, sparsity } = fixture;
      using sae = await loadSparseAutoencoder(folderOf(given), { device });
      const logThreshold = sae.threshold && parameter(noGrad(() => log(sae.threshold!)));
      using x = decodeFloats(given.x, device);
      const { read } = scope(() => {
        const { loss } = saeLoss(sae, x, { sparsity, bandwidth, logThreshold });
        loss.backward();
        return { read: loss.item() };
      });
      expect(await read).toBeCloseTo(given.loss, 4);
      const gradients = { W_enc: sae.W_enc, b_enc: sae.b_enc, W_dec: sae.W_dec, b_dec: sae.b_dec, logThreshold };
      for (const [key, expected] of Object.entries(given.gradients))
        expectNear(key, await gradients[key as keyof typeof gradients]!.grad!.data(), decode(expected), 2e-5);
    });
  });

  test("features of a decoder with long rows are folded; other kinds of files are refused", async () => {
    const { config, ...given } = fixture.cases.topk;
    using plain = await loadSparseAutoencoder(folderOf({ config, ...given }), { device });
    // Rows of twice the length and an encoder of half the size are the same autoencoder, if its file says so.
    const folder = temporaryFolder();
    await saveSparseAutoencoder(folder, plain);
    using sae = await loadSparseAutoencoder(folder, { device });
    sae.W_dec.set((await sae.W_dec.data()).map((w) => 2 * w));
    for (const part of [sae.W_enc, sae.b_enc]) part.set((await part.data()).map((w) => w / 2));
    await saveSparseAutoencoder(folder, sae);
    const file = path.join(folder, "cfg.json");
    const written = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    writeFileSync(file, JSON.stringify({ ...written, rescale_acts_by_decoder_norm: true }));
    using folded = await loadSparseAutoencoder(folder, { device });
    using x = decodeFloats(given.x, device);
    using out = noGrad(() => folded.forward(x));
    expectNear("folded", await out.data(), decode(given.out), 1e-5);
    const refused = async (change: Record<string, unknown>): Promise<void> => {
      writeFileSync(file, JSON.stringify({ ...written, ...change }));
      await expectRejection(loadSparseAutoencoder(folder), "ERR_FORMAT");
    };
    await refused({ architecture: "gated" });
    await refused({ normalize_activations: "layer_norm" });
    await refused({ d_sae: 12 });
    await refused({ d_in: "5" });
    await refused({ k: 0 });
    writeFileSync(file, "[");
    await expectRejection(loadSparseAutoencoder(folder), "ERR_FORMAT", /expected JSON/);
    await expectRejection(loadSparseAutoencoder(path.join(folder, "none")), "ERR_IO", /none/);
  });

  test("a buffer gives each row once a round, and little more memory than it holds", async () => {
    using buffer = new ActivationBuffer({ batch: 3, capacity: 8, seed: 2 });
    const seen: number[] = [];
    const read = async (batches: Iterable<{ data(): Promise<ArrayLike<number>> }>): Promise<void> => {
      for (const batch of batches) seen.push(...Array.from(await batch.data()).filter((_, i) => i % 2 === 0));
    };
    for (let i = 0; i < 5; i++) {
      using rows = tensor(
        Float32Array.from({ length: 10 }, (_, j) => 5 * i + Math.floor(j / 2)),
        [5, 2],
        { device },
      );
      await read(buffer.add(rows));
    }
    await read(buffer.end());
    expect(seen.length).toBe(24); // 25 rows, and a rest of one
    expect(new Set(seen).size).toBe(24);
    expect(seen).not.toEqual([...seen].sort((a, b) => a - b));

    // Rows that do not fill a batch are one batch, in every round.
    using large = new ActivationBuffer({ batch: 9, capacity: 20, seed: 2 });
    using few = tensor(Float32Array.of(1, 1, 2, 2), [2, 2], { device });
    for (let round = 0; round < 2; round++) {
      expect([...large.add(few)]).toEqual([]);
      const shapes: (readonly number[])[] = [];
      for (const { shape } of large.end()) shapes.push(shape);
      expect(shapes).toEqual([[2, 2]]);
    }
  });

  test("dead features are made anew from badly reconstructed inputs", async () => {
    using sae = new SparseAutoencoder({ width: 4, features: 6 }, { seed: 1, device });
    using optimizer = new AdamW(sae.namedParameters());
    using x = randn([5, 4], { seed: 2, device });
    scope(() => saeLoss(sae, x, { sparsity: 0.1, bandwidth: 1, logThreshold: null }).loss.backward());
    optimizer.step();
    const before = await sae.W_dec.data();
    const fired = Float32Array.of(1, 0, 1, 1, 0, 1);
    // All of the error is in row 3.
    const errors = tensor([0, 0, 0, 2, 0], [5], { device });
    const source = { x, errors, random: () => 0.7, thresholds: null };
    expect(await resampleDead(sae, [optimizer], fired, source)).toBe(2);
    const [decoder, encoder, bias, rows, offset] = await Promise.all(
      [sae.W_dec, sae.W_enc, sae.b_enc, x, sae.b_dec].map((part) => part.data()),
    );
    const direction = Array.from({ length: 4 }, (_, c) => rows![12 + c]! - offset![c]!);
    const length = Math.hypot(...direction);
    const columns = [0, 2, 3, 5].map((f) => Math.hypot(...[0, 1, 2, 3].map((c) => encoder![c * 6 + f]!)));
    const size = 0.2 * columns.reduce((a, b) => a + b / 4, 0);
    for (const feature of [1, 4]) {
      const own = direction.map((d) => d / length);
      expectNear("decoder", decoder!.slice(4 * feature, 4 * feature + 4), own, 1e-5);
      const column = [0, 1, 2, 3].map((c) => encoder![c * 6 + feature]!);
      expectNear(
        "encoder",
        column,
        own.map((d) => d * size),
        1e-5,
      );
      expect(bias![feature]).toBe(0);
    }
    expect(decoder!.slice(0, 4)).toEqual(before.slice(0, 4));
    const moments = await optimizer.stateDict()["m.W_dec"]!.data();
    expect([...moments.slice(4, 8), ...moments.slice(16, 20)]).toEqual(Array(8).fill(0));
    expect(moments.slice(0, 4).some((m) => m !== 0)).toBe(true);
    expect(await resampleDead(sae, [optimizer], Float32Array.of(1, 1, 1, 1, 1, 1), source)).toBe(0);
  });

  test("splicing replaces a value by its reconstruction", async () => {
    using sae = new SparseAutoencoder({ width: 6, features: 9 }, { seed: 3, device });
    using ids = tensor(Int32Array.of(1, 5, 3, 2), [1, 4], { device });
    using cache = runWithCache(gpt, ids, { names: [name, "blocks.1.attn.hook_z"] });
    using hooked = runWithCache(gpt, ids, { names: name, hooks: { [name]: sae.splice() } });
    using expected = noGrad(() => sae.forward(cache.get(name)));
    expect(await hooked.get(name).data()).toEqual(await expected.data());
    // Heads are joined.
    const z = "blocks.1.attn.hook_z";
    using heads = runWithCache(gpt, ids, { names: z, hooks: { [z]: sae.splice((features) => features) } });
    expect(heads.get(z).shape).toEqual([1, 4, 2, 3]);
    const wrong = { "blocks.0.mlp.hook_post": sae.splice() };
    expectError(() => noGrad(() => run(gpt, ids, { hooks: wrong })), "ERR_SHAPE");
  });

  // The software device is slow, and training has no kernels of its own.
  describeUnless(device !== "cpu" && oneDevice)("trained", () => {
    test.each(nightly ? kinds : kinds.slice(1))(
      "%s: reconstructs more than a new one, with directions of length 1, in flat memory",
      async (architecture) => {
        const steps: number[] = [];
        let most = 0;
        const options = {
          name,
          features: 24,
          architecture,
          k: 3,
          rows: 16,
          buffer: 40,
          lr: 0.02,
          sparsity: 0.05,
        } as const;
        const train = (count: number, onStep?: () => void): Promise<SparseAutoencoder> =>
          trainSparseAutoencoder(gpt, corpus, {
            ...{ ...options, steps: count, batch: 4, seed: 1 },
            onStep: ({ step, loss }) => {
              steps.push(step);
              expect(Number.isFinite(loss)).toBe(true);
              most = Math.max(most, deviceOf(device).memory().live);
              onStep?.();
            },
          });
        using fresh = await train(1);
        const low = most;
        using sae = await train(60);
        expect(steps.at(-1)).toBe(60);
        expect(most - low).toBeLessThan(20_000); // the autoencoders themselves
        const lengths = await sae.W_dec.data();
        for (let f = 0; f < 24; f++) expect(Math.hypot(...lengths.slice(6 * f, 6 * f + 6))).toBeCloseTo(1, 5);
        const [before, after] = [
          await evaluateSparseAutoencoder(fresh, gpt, corpus, { batch: 5 }),
          await evaluateSparseAutoencoder(sae, gpt, corpus, { batch: 5 }),
        ];
        expect(after.explainedVariance).toBeGreaterThan(Math.max(0.5, before.explainedVariance));
        if (architecture === "topk") expect(after.l0).toBeLessThanOrEqual(3);
        expect(after.lossRecovered).toBeCloseTo(
          (after.ablatedLoss - after.splicedLoss) / (after.ablatedLoss - after.loss),
          10,
        );
      },
    );

    test("figures and dashboards follow from the definitions", async () => {
      using sae = shaken(new SparseAutoencoder({ width: 6, features: 8, hookName: name }, { device }));
      const found = await evaluateSparseAutoencoder(sae, gpt, corpus, { batch: 5 });
      const boards = await featureDashboards(sae, gpt, corpus, { features: [6, 2], k: 3, context: 1, tokens: 2 });
      // Token by token, in f64
      let [l0, error, loss, count] = [0, 0, 0, 0];
      const all: number[][] = [];
      const active: { value: number; sequence: number; position: number }[] = [];
      for (const [s, sequence] of corpus.entries()) {
        using ids = tensor(Int32Array.from(sequence), [1, sequence.length], { device });
        using cache = runWithCache(gpt, ids, { names: name });
        using features = noGrad(() => sae.encode(cache.get(name)));
        using out = noGrad(() => sae.forward(cache.get(name)));
        const [x, f, y, logits] = await Promise.all(
          [cache.get(name), features, out, cache.output].map((part) => part.data()),
        );
        for (let t = 0; t < sequence.length; t++) {
          const row = [...x!.slice(6 * t, 6 * t + 6)];
          all.push(row);
          error += row.reduce((sum, value, c) => sum + (value - y![6 * t + c]!) ** 2, 0);
          l0 += f!.slice(8 * t, 8 * t + 8).filter((value) => value > 0).length;
          active.push({ value: f![8 * t + 6]!, sequence: s, position: t });
          if (t + 1 === sequence.length) continue;
          const scores = [...logits!.slice(17 * t, 17 * t + 17)];
          loss += Math.log(scores.reduce((sum, z) => sum + Math.exp(z), 0)) - scores[sequence[t + 1]!]!;
          count++;
        }
      }
      const middle = [0, 1, 2, 3, 4, 5].map((c) => all.reduce((sum, row) => sum + row[c]! / all.length, 0));
      const variance = all.flat().reduce((sum, value, i) => sum + (value - middle[i % 6]!) ** 2, 0);
      expect(found.tokens).toBe(all.length);
      expect(found.l0).toBeCloseTo(l0 / all.length, 10);
      expect(found.explainedVariance).toBeCloseTo(1 - error / variance, 4);
      expect(found.meanSquaredError).toBeCloseTo(error / all.length / 6, 5);
      expect(found.loss).toBeCloseTo(loss / count, 5);
      const [sixth] = boards;
      const best = active
        .filter(({ value }) => value > 0)
        .sort((a, b) => b.value - a.value)
        .slice(0, 3);
      expect(sixth!.feature).toBe(6);
      expect(sixth!.frequency).toBeCloseTo(active.filter(({ value }) => value > 0).length / active.length, 10);
      expect(sixth!.top.map(({ sequence, position }) => [sequence, position])).toEqual(
        best.map(({ sequence, position }) => [sequence, position]),
      );
      for (const { at, context, token, sequence, position } of sixth!.top) {
        expect(context[at]).toBe(token);
        expect([...context]).toEqual(corpus[sequence]!.slice(Math.max(0, position - 1), position + 2));
      }
      expect(sixth!.raised).toHaveLength(2);
      expect(sixth!.raised[0]!.effect).toBeGreaterThan(sixth!.lowered[0]!.effect);
    });
  });

  test("refuses bad input", async () => {
    expectError(() => new SparseAutoencoder({ width: 0, features: 1 }), "ERR_RANGE");
    expectError(() => new SparseAutoencoder({ width: 2, features: 3, architecture: "gated" as never }), "ERR_ARGUMENT");
    expectError(() => new SparseAutoencoder({ width: 2, features: 3, architecture: "topk", k: 4 }), "ERR_RANGE");
    const train = { name, features: 4, steps: 1 } as const;
    await expectRejection(trainSparseAutoencoder(gpt, [], train), "ERR_ARGUMENT", /corpus/);
    await expectRejection(trainSparseAutoencoder(gpt, corpus, { ...train, steps: 0 }), "ERR_RANGE");
    await expectRejection(trainSparseAutoencoder(gpt, corpus, { ...train, sparsity: -1 }), "ERR_RANGE");
    await expectRejection(
      trainSparseAutoencoder(gpt, corpus, { ...train, name: "blocks.0.attn.hook_pattern" }),
      "ERR_ARGUMENT",
      /pairs/,
    );
    using broken = shaken(new GPT(sizes, { device }));
    broken.wte.weight.set(new Float32Array(broken.wte.weight.size).fill(NaN));
    await expectRejection(trainSparseAutoencoder(broken, corpus, train), "ERR_DIVERGED");
    using sae = new SparseAutoencoder({ width: 5, features: 4 }, { device });
    await expectRejection(evaluateSparseAutoencoder(sae, gpt, corpus), "ERR_ARGUMENT", /name/);
    await expectRejection(evaluateSparseAutoencoder(sae, gpt, corpus, { name }), "ERR_SHAPE");
    await expectRejection(featureDashboards(sae, gpt, corpus, { name, features: [4] }), "ERR_RANGE");
  });
});
