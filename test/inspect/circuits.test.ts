/** Compares patching by gradient and by path, direct attribution and circuits with PyTorch: test/fixtures/circuits.py. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import {
  activationPatching,
  attributionPatching,
  causalTrace,
  circuitSvd,
  compositionScores,
  copyingScores,
  decomposeResidual,
  headCircuit,
  logitAttribution,
  logitDifference,
  neuronAttribution,
  pathPatching,
  run,
  runWithCache,
  sourceAttribution,
} from "../../lib/inspect/index.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { matmul } from "../../lib/ops/matmul.js";
import { add, mul, sub } from "../../lib/ops/binary.js";
import { mean, sum } from "../../lib/ops/reduce.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { decode, decodeInts, type FixtureArray, readFixture } from "../support/fixtures.js";
import { sharedFolder } from "../support/folder.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";
import { families, loadSubject } from "./models.js";

const { tools } = readFixture("activations/gpt2") as { tools: { corrupted: FixtureArray } };
type Plain = "attributionByPosition" | "attributionByHead" | "base" | "pathsToQueries" | "pathsToLogits" | "neurons";
const expected = readFixture("activations/gpt2-circuits") as Record<
  Plain | "sources" | "ov" | "qk" | "copying" | "copyingPlain",
  FixtureArray
> &
  Record<"singular" | "composition", Record<string, FixtureArray>>;
const tolerance = 2e-5;

/** Returns ids of which the first of each sequence is another one. */
const shifted = (ids: IntTensor): IntTensor => {
  const [batch, tokens] = ids.shape as [number, number];
  const first = Int32Array.from({ length: batch * tokens }, (_, i) => Number(i % tokens === 0));
  const change = tensor(first, [batch, tokens], { device: ids.device, dtype: "f32" });
  return add(ids.to("f32"), change).to("i32"); // the fixtures' ids are below the largest one
};

onEachDevice((device) => {
  const folder = sharedFolder();
  let gpt: GPT;
  let ids: IntTensor;
  let corrupted: IntTensor;
  const metric = (logits: FloatTensor): FloatTensor => logitDifference(logits, [3, 11], [5, 5]);
  beforeAll(async () => {
    const subject = await loadSubject("gpt2", device, folder);
    gpt = subject.model as GPT;
    ids = subject.input as IntTensor;
    corrupted = decodeInts(tools.corrupted, device);
  });
  afterAll(() => gpt.dispose());

  const llamaOf = (): Llama =>
    shaken(
      new Llama(
        { vocabularySize: 19, contextLength: 9, layers: 2, width: 8, heads: 4, kvHeads: 2, feedForwardWidth: 12 },
        { device },
      ),
    );

  test("attribution patching is (clean − corrupted) · gradient", async () => {
    const positions = await attributionPatching(gpt, corrupted, { clean: ids, metric, names: /hook_resid_pre$/ });
    expect(positions.names).toEqual(["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"]);
    expectNear("positions", positions.attributions.flat(), decode(expected.attributionByPosition), tolerance);
    const heads = await attributionPatching(gpt, corrupted, { clean: ids, metric, names: /attn.hook_z$/, by: "head" });
    expectNear("heads", heads.attributions.flat(), decode(expected.attributionByHead), tolerance);
    // For a metric that is linear in the value, the estimate is what patching finds.
    const last = "blocks.1.hook_resid_post";
    const linear = (logits: FloatTensor): FloatTensor => sum(mul(logits, 0.1));
    const options = { names: [last], stopAtLayer: 2 } as const;
    const exact = await attributionPatching(gpt, corrupted, { ...options, clean: ids, metric: linear });
    const [row] = exact.attributions;
    expect(exact.corrupted + row!.reduce((a, b) => a + b)).toBeCloseTo(exact.clean, 4);
  });

  test("path patching from each head to queries and keys, and straight to the logits", async () => {
    const receivers = [
      { name: "blocks.1.attn.hook_q", heads: [0, 2] },
      { name: "blocks.1.attn.hook_k", heads: [1] },
    ] as const;
    const queries = await pathPatching(gpt, ids, { source: corrupted, metric, receivers });
    expect(queries.base).toBeCloseTo(decode(expected.base)[0]!, 4);
    expectNear("to queries", queries.patched.flat(), decode(expected.pathsToQueries), tolerance);
    const direct = await pathPatching(gpt, ids, {
      ...{ source: corrupted, metric, freezeMlps: true },
      receivers: [{ name: "blocks.1.hook_resid_post" }],
    });
    expectNear("to the logits", direct.patched.flat(), decode(expected.pathsToLogits), tolerance);
    if (device !== "cpu") return;
    // What a feed-forward sends straight to the end is the difference of its outputs.
    const mlps = await pathPatching(gpt, ids, {
      ...{ source: corrupted, metric, freezeMlps: true, senders: "mlps", positions: [-1] },
      receivers: [{ name: "blocks.1.hook_resid_post" }],
    });
    const name = "blocks.0.hook_mlp_out";
    using own = runWithCache(gpt, ids, { names: name });
    using other = runWithCache(gpt, corrupted, { names: name });
    const end = (x: FloatTensor): FloatTensor => {
      const difference = sub(other.get(name), own.get(name));
      const [, tokens] = x.shape as [number, number];
      const last = tensor(
        Float32Array.from({ length: tokens }, (_, t) => Number(t === tokens - 1)),
        [tokens, 1],
        {
          device,
        },
      );
      return add(x, mul(difference, last));
    };
    using logits = noGrad(() =>
      scope(() => metric(run(gpt, ids, { hooks: { "blocks.1.hook_resid_post": (x) => end(x) } }))),
    );
    expect(mlps.patched[0]![0]).toBeCloseTo(await logits.item(), 4);
  });

  test("direct attribution by neuron and by source position", async () => {
    const options = { tokens: [3, 11] };
    const neurons = neuronAttribution(gpt, ids, options);
    const found = await Promise.all(neurons.map((x) => x.data()));
    expectNear("neurons", found.map((x) => [...x]).flat(), decode(expected.neurons), tolerance);
    const sources = sourceAttribution(gpt, ids, options);
    const carried = await Promise.all(sources.map((x) => x.data()));
    expectNear("sources", carried.map((x) => [...x]).flat(), decode(expected.sources), tolerance);
    for (const x of [...neurons, ...sources]) x.dispose();
    if (device !== "cpu") return;
    // Grouped heads, an RMS norm, an output layer of its own: both add up to the parts that logitAttribution finds.
    using llama = llamaOf();
    const at = { tokens: [4, 7], position: 3 };
    const parts = new Map((await logitAttribution(llama, ids, at)).map(({ name, values }) => [name, values]));
    const [byNeuron, bySource] = [neuronAttribution(llama, ids, at), sourceAttribution(llama, ids, at)];
    for (const layer of [0, 1]) {
      const neuronSums = await sum(byNeuron[layer]!, { axes: [-1] }).data();
      expectNear("feed-forward", neuronSums, parts.get(`blocks.${layer}.mlp`)!, tolerance);
      const headSums = await sum(bySource[layer]!, { axes: [-1] }).data(); // [B, H]
      for (let h = 0; h < 4; h++)
        expectNear("head", [headSums[h]!, headSums[4 + h]!], parts.get(`blocks.${layer}.attn.head.${h}`)!, 1e-4);
    }
    for (const x of [...byNeuron, ...bySource]) x.dispose();
  });

  test("a decomposition adds up to the stream and the logits at every position", async () => {
    using llama = llamaOf();
    using scaled = shaken(
      new GPT(
        { ...gpt.config, residualScale: 0.5, tied: false, positions: "sinusoidal", embeddingScale: 3 },
        { device },
      ),
    );
    // The software device is slow, and one model launches every kernel.
    for (const model of device === "cpu" ? [gpt, llama, scaled] : [gpt]) {
      using parts = decomposeResidual(model, ids);
      const { stream, logits } = await parts.verify();
      expect(Math.max(stream, logits)).toBeLessThan(1e-5);
      await expectRejection(parts.verify(1e-12), "ERR_RANGE");
      expectError(() => parts.get("blocks.9.mlp"), "ERR_ARGUMENT");
    }
    // A contribution at a position is that of logitAttribution.
    using parts = decomposeResidual(gpt, ids);
    const [found] = (await logitAttribution(gpt, ids, { tokens: [3, 11], position: 2 })).slice(4);
    using logits = parts.logitsOf(found!.name);
    using at = narrow(logits, 1, 2, 1);
    const data = await at.data();
    expectNear(found!.name, [data[3]!, data[19 + 11]!], found!.values, 1e-4);
  });

  test("circuits and their singular values, copying and composition", async () => {
    for (const [i, circuit] of (["qk", "ov"] as const).entries())
      for (const foldNorm of [false, true]) {
        const options = { circuit, layer: 1, head: 2, foldNorm };
        const svd = await circuitSvd(gpt, options);
        const label = `${circuit} ${foldNorm ? "True" : "False"}`;
        expectNear(label, svd.values, decode(expected.singular[label]!), tolerance);
        if (!foldNorm) continue;
        const rebuilt = new Float64Array(144);
        for (const [r, value] of svd.values.entries())
          for (let a = 0; a < 144; a++)
            rebuilt[a]! += value * svd.left[r]![Math.floor(a / 12)]! * svd.right[r]![a % 12]!;
        expectNear(`${label} rebuilt`, rebuilt, decode(expected[i === 0 ? "qk" : "ov"]), tolerance);
        using factors = headCircuit(gpt, options);
        using product = matmul(factors.left, factors.right);
        expectNear(label, await product.data(), rebuilt, tolerance);
      }
    expectNear("copying", (await copyingScores(gpt)).flat(), decode(expected.copying), 1e-4);
    const plain = await copyingScores(gpt, { foldNorm: false });
    expectNear("copying", plain.flat(), decode(expected.copyingPlain), 1e-4);
    for (const composition of ["q", "k", "v"] as const) {
      const scores = await compositionScores(gpt, { composition });
      expect(scores[0]).toEqual([[], [], []]);
      const table = scores[1]!.map((earlier) => earlier[0]!);
      expectNear(composition, table.flat(), decode(expected.composition[composition]!), tolerance);
    }
  });

  test.each(device === "cpu" ? families : (["llama", "t5-v1.1"] as const))(
    "%s: a head's circuits are those of its activations; patching and tracing work",
    async (family) => {
      const { model, input, options } = await loadSubject(family, device, folder);
      const isPair = "decoderFor" in model;
      const places = isPair ? [{ stack: "encoder" as const }, { cross: true }, {}] : [{}];
      for (const place of places) {
        using ov = headCircuit(model, { circuit: "ov", layer: 0, head: 1, ...place });
        expect(ov.left.shape[0]).toBe(ov.right.shape[1]);
        const stack = isPair ? ("stack" in place ? "encoder" : "decoder") : "blocks";
        const part = "cross" in place ? "cross_attn" : "attn";
        const z = `${stack}.0.${part}.hook_z`;
        const result = `${stack}.0.${part}.hook_result`;
        using cache = runWithCache(model, input, { ...options, names: (name) => name === z || name === result });
        const [, , , size] = cache.get(z as never).shape as [number, number, number, number];
        const head = (name: string): FloatTensor => narrow(cache.get(name as never), 2, 1, 1);
        using product = noGrad(() => scope(() => matmul(head(z), ov.right)));
        expect(ov.right.shape[0]).toBe(size);
        expectNear(`${family} ${result}`, await product.data(), await noGrad(() => add(head(result), 0)).data(), 1e-4);
      }
      // Differences between two tokens' queries and values follow from those of what the block reads, without biases.
      {
        const block = isPair ? "encoder.0" : "blocks.0";
        const rms = family === "llama" || family.startsWith("t5"); // hook_normalized is then without the norm's weight
        const read = `${block}.${family === "bert" || family === "marian" ? "hook_resid_pre" : "ln1.hook_normalized"}`;
        const [q, v] = [`${block}.attn.hook_q`, `${block}.attn.hook_v`];
        const names = (name: string): boolean => [read, q, v].includes(name);
        using cache = runWithCache(model, input, { ...options, names });
        const place = { layer: 0, head: 1, foldNorm: rms, ...(isPair ? { stack: "encoder" as const } : {}) };
        for (const [circuit, name] of [["qk", q] as const, ["ov", v] as const]) {
          using weights = headCircuit(model, { circuit, ...place });
          const difference = (x: FloatTensor): FloatTensor => sub(narrow(x, 1, 0, 1), narrow(x, 1, 1, 1));
          const value = cache.get(name as never);
          const group = cache.get(q as never).shape[2]! / value.shape[2]!;
          const [got, want] = noGrad(() =>
            scope(() => [
              matmul(difference(cache.get(read as never).to("f32")), weights.left),
              difference(narrow(value, 2, Math.floor(1 / group), 1)),
            ]),
          );
          expectNear(`${family} ${name}`, await got.data(), await want.data(), 1e-4);
        }
      }
      // The software device is slow, and what follows has no kernels of its own; tools.test.ts has it for GPT-2.
      if (device !== "cpu" || family === "gpt2") {
        model.dispose();
        return;
      }
      const average = (x: FloatTensor): FloatTensor => mean(mul(x, x));
      const patching = { ...options, clean: input, metric: average };
      const grid = await activationPatching(model, input, {
        ...patching,
        site: "hook_resid_pre",
        ...(isPair ? { stack: "encoder" as const } : {}),
      });
      expect(grid.patched.flat().every((value) => value === grid.clean)).toBe(true);
      // One cell of another grid, by a hook that takes the clean value at one position
      const other = isPair
        ? {
            ...(input as { source: IntTensor; target: IntTensor }),
            source: shifted((input as { source: IntTensor }).source),
          }
        : shifted(input as IntTensor);
      const site = "hook_attn_out" as const;
      const stack = isPair ? ("encoder" as const) : "blocks";
      const cell = await activationPatching(model, other as never, {
        ...{ ...patching, site },
        ...(isPair ? { stack: "encoder" as const } : {}),
      });
      const edited = `${stack}.0.${site}`;
      using clean = runWithCache(model, input, { ...options, names: edited as never });
      const { length } = cell.patched[0]!;
      const second = Float32Array.from({ length }, (_, t) => Number(t === 1));
      const mask = tensor(second, [1, length, 1], { device });
      const hook = (x: FloatTensor): FloatTensor => add(x, mul(sub(clean.get(edited as never), x), mask));
      using patchedLogits = noGrad(() =>
        scope(() => average(run(model, other as never, { ...options, hooks: { [edited]: hook } }))),
      );
      expect(cell.patched[0]![1]).toBeCloseTo(await patchedLogits.item(), 4);
      expect(cell.corrupted).not.toBeCloseTo(cell.clean, 4);
      const trace = await causalTrace(model, input, {
        ...options,
        ...{ subject: [1], noise: 0.5, metric: average, site: "hook_mlp_out" },
      });
      expect(trace.corrupted).not.toBe(trace.clean);
      const first = isPair ? "encoder.0.hook_resid_pre" : "blocks.0.hook_resid_pre";
      const attributed = await attributionPatching(model, input, {
        ...patching,
        names: first as never,
      });
      expect(attributed.attributions.flat().every((value) => value === 0)).toBe(true);
      model.dispose();
    },
  );

  test("refuses bad input", async () => {
    const options = { clean: ids, metric, names: "hook_embed" } as const;
    await expectRejection(attributionPatching(gpt, corrupted, { ...options, by: "head" }), "ERR_ARGUMENT");
    await expectRejection(attributionPatching(gpt, corrupted, { ...options, by: "neuron" as never }), "ERR_ARGUMENT");
    await expectRejection(
      attributionPatching(gpt, corrupted, { ...options, names: /pattern$/ }),
      "ERR_ARGUMENT",
      /pairs/,
    );
    const short = tensor(Int32Array.of(1, 2), [1, 2], { device });
    await expectRejection(attributionPatching(gpt, corrupted, { ...options, clean: short }), "ERR_SHAPE");
    const paths = { source: corrupted, metric, receivers: [{ name: "blocks.1.attn.hook_q" }] } as const;
    await expectRejection(pathPatching(gpt, ids, { ...paths, source: short }), "ERR_SHAPE");
    await expectRejection(pathPatching(gpt, ids, { ...paths, receivers: [] }), "ERR_ARGUMENT");
    await expectRejection(
      pathPatching(gpt, ids, { ...paths, receivers: [{ name: "hook_x" as never }] }),
      "ERR_ARGUMENT",
    );
    await expectRejection(
      pathPatching(gpt, ids, { ...paths, receivers: [{ name: "blocks.1.attn.hook_z" }] }),
      "ERR_ARGUMENT",
      /residual stream/,
    );
    expectError(() => neuronAttribution(gpt, ids, { tokens: [1] }), "ERR_SHAPE");
    expectError(() => sourceAttribution(gpt, ids, { tokens: [1, 2], position: 8 }), "ERR_RANGE");
    expectError(() => headCircuit(gpt, { circuit: "ov", layer: 2, head: 0 }), "ERR_RANGE");
    expectError(() => headCircuit(gpt, { circuit: "ov", layer: 0, head: 3 }), "ERR_RANGE");
    expectError(() => headCircuit(gpt, { circuit: "ov", layer: 0, head: 0, cross: true }), "ERR_ARGUMENT");
    expectError(() => headCircuit(gpt, { circuit: "vo" as never, layer: 0, head: 0 }), "ERR_ARGUMENT");
    await expectRejection(compositionScores(gpt, { composition: "o" as never }), "ERR_ARGUMENT");
    await expectRejection(
      activationPatching(gpt, ids, { clean: ids, metric, site: "hook_resid_pre", stack: "encoder" }),
      "ERR_ARGUMENT",
    );
  });
});
