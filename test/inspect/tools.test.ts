/** Compares the tools of heed/inspect with PyTorch (tools() in test/fixtures/activations.py) and with definitions. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { randn, tensor } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import {
  activationPatching,
  causalTrace,
  headScores,
  integratedGradients,
  logitAttribution,
  logitDifference,
  logitLens,
  run,
  runWithCache,
  runWithGradients,
} from "../../lib/inspect/index.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { add, mul, sub } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { decode, decodeInts, type FixtureArray, readFixture } from "../support/fixtures.js";
import { sharedFolder } from "../support/folder.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";
import { loadSubject } from "./models.js";

type Named = Record<string, FixtureArray>;
const { tools } = readFixture("activations/gpt2") as {
  tools: Record<"corrupted" | "lens" | "metrics" | "positions" | "heads" | "integrated", FixtureArray> &
    Record<"attribution" | "gradients", Named>;
};
const tolerance = 2e-5;

onEachDevice((device) => {
  const folder = sharedFolder();
  let gpt: GPT;
  let ids: IntTensor;
  const metric = (logits: FloatTensor): FloatTensor => logitDifference(logits, [3, 11], [5, 5]);
  beforeAll(async () => {
    const subject = await loadSubject("gpt2", device, folder);
    gpt = subject.model as GPT;
    ids = subject.input as IntTensor;
  });
  afterAll(() => gpt.dispose());

  test("the logit lens", async () => {
    const lens = logitLens(gpt, ids);
    const found = await Promise.all(lens.map((logits) => logits.data()));
    expectNear("logits", found.map((part) => [...part]).flat(), decode(tools.lens), tolerance);
    for (const logits of lens) logits.dispose();
  });

  test("the contributions to a logit are PyTorch's and add up to it", async () => {
    const parts = await logitAttribution(gpt, ids, { tokens: [3, 11] });
    expect(parts.map(({ name }) => name).sort()).toEqual(Object.keys(tools.attribution).sort());
    for (const { name, values } of parts)
      for (const [b, value] of decode(tools.attribution[name]!).entries())
        expect(values[b], name).toBeCloseTo(value, 4);
    const llama = shaken(
      new Llama(
        { vocabularySize: 19, contextLength: 9, layers: 2, width: 8, heads: 4, kvHeads: 2, feedForwardWidth: 12 },
        { device },
      ),
    );
    const scaled = shaken(
      new GPT({ ...gpt.config, normalization: "rms", residualScale: 0.5, tied: false, positions: "alibi" }, { device }),
    );
    for (const model of [gpt, llama, scaled]) {
      const found = await logitAttribution(model, ids, { tokens: [4, 7], position: 2 });
      using logits = noGrad(() => model.forward(ids));
      const data = await logits.data();
      for (const [b, token] of [4, 7].entries()) {
        const total = found.reduce((all, { values }) => all + values[b]!, 0);
        expect(total).toBeCloseTo(data[(b * ids.shape[1]! + 2) * 19 + token]!, 4);
      }
    }
    llama.dispose();
    scaled.dispose();
  });

  test("patching and causal tracing", async () => {
    const corrupted = decodeInts(tools.corrupted, device);
    const grid = await activationPatching(gpt, corrupted, { clean: ids, metric, site: "hook_resid_pre" });
    expectNear("metrics", [grid.clean, grid.corrupted], decode(tools.metrics), tolerance);
    expectNear("positions", grid.patched.flat(), decode(tools.positions), tolerance);
    const heads = await activationPatching(gpt, corrupted, { clean: ids, metric, site: "attn.hook_z" });
    expectNear("heads", heads.patched.flat(), decode(tools.heads), tolerance);
    // A subject of one token: restoring its embedding restores the run, and restoring another token's changes nothing.
    const options = { subject: [2], noise: 0.5, seed: 3, metric, site: "hook_resid_pre" } as const;
    const trace = await causalTrace(gpt, ids, options);
    expect(trace.corrupted).not.toBeCloseTo(trace.clean, 2);
    expect(trace.patched[0]![2]).toBe(trace.clean);
    expect(trace.patched[0]![0]).toBe(trace.corrupted);
    // All blocks' outputs at all positions of the subject, or later, are restored together by a window.
    const wide = await causalTrace(gpt, ids, { ...options, site: "hook_mlp_out", window: 2 });
    expect(wide.patched.map((row) => row.length)).toEqual([8, 8]);
  });

  test("a causal trace is what hooks of one's own find", async () => {
    const [subject, noise, seed, window] = [[1, 2], 0.5, 3, 2];
    const [batch, tokens] = ids.shape as [number, number];
    const { width, layers } = gpt.config;
    using normal = randn([batch, tokens, width], { seed, device });
    const drawn = (await normal.data()).map((x, i) =>
      subject.includes(Math.floor(i / width) % tokens) ? noise * x : 0,
    );
    using added = tensor(drawn, [batch, tokens, width], { device });
    const site = "hook_mlp_out" as const;
    using clean = runWithCache(gpt, ids, { names: /hook_mlp_out$/ });
    /** Resolves to the metric of the noisy run in which two neighbouring blocks are restored at a position. */
    const restored = async (layer: number | null, position: number): Promise<number> => {
      using here = tensor(
        Float32Array.from({ length: tokens }, (_, t) => Number(t === position)),
        [tokens, 1],
        { device },
      );
      const blocks = layer === null ? [] : [layer - 1, layer].filter((block) => block >= 0);
      const hooks = Object.fromEntries(
        blocks.map((block) => {
          const name = `blocks.${block}.${site}` as const;
          return [name, (x: FloatTensor) => add(x, mul(sub(clean.get(name), x), here))] as const;
        }),
      );
      const noisy = (x: FloatTensor): FloatTensor => add(x, added);
      using value = noGrad(() => scope(() => metric(run(gpt, ids, { hooks: { ...hooks, hook_embed: noisy } }))));
      return await value.item();
    };
    const trace = await causalTrace(gpt, ids, { subject, noise, seed, window, metric, site });
    expect(trace.clean).toBeCloseTo(decode(tools.metrics)[0]!, 4);
    expect(trace.corrupted).toBeCloseTo(await restored(null, 0), 4);
    expect(trace.patched.map((row) => row.length)).toEqual(Array(layers).fill(tokens));
    for (const [layer, row] of trace.patched.entries())
      for (const [position, value] of row.entries())
        // The software device is slow: it computes a few of them.
        if (device === "cpu" || position === 2)
          expect(value, `${layer}, ${position}`).toBeCloseTo(await restored(layer, position), 4);
  });

  test("gradients of activations, and integrated gradients", async () => {
    const { live, tensors } = deviceOf(device).memory();
    {
      using run = runWithGradients(gpt, ids, metric, { names: (name) => name in tools.gradients });
      for (const [name, gradient] of run.gradients)
        expectNear(name, await gradient.data(), decode(tools.gradients[name]!), tolerance);
      expect(run.gradients.names.sort()).toEqual(Object.keys(tools.gradients).sort());
      expect(await run.metric.item()).toBeCloseTo(decode(tools.metrics)[0]!, 4);
      using shares = integratedGradients(gpt, ids, metric, { name: "hook_embed", steps: 8 });
      expectNear("integrated", await shares.data(), decode(tools.integrated), tolerance);
    }
    expect(gpt.parameters().every((parameter) => parameter.requiresGrad && !parameter.grad)).toBe(true);
    // What earlier tests left behind may be collected meanwhile.
    expect(deviceOf(device).memory().live).toBeLessThanOrEqual(live);
    expect(deviceOf(device).memory().tensors).toBeLessThanOrEqual(tensors);
    // A hook of the backward pass doubles a gradient, and with it that of what comes before.
    const name = "blocks.1.hook_resid_pre";
    const names = ["hook_embed", name] as const;
    using usual = runWithGradients(gpt, ids, metric, { names });
    using doubled = runWithGradients(gpt, ids, metric, { names, backwardHooks: { [name]: (x) => mul(x, 2) } });
    for (const each of names) {
      const [once, twice] = await Promise.all([usual, doubled].map((run) => run.gradients.get(each).data()));
      expectNear(
        each,
        twice!,
        once!.map((x) => 2 * x),
        tolerance,
      );
    }
  });

  test("head scores follow TransformerLens' definitions", async () => {
    const repeated = tensor(Int32Array.of(4, 9, 2, 4, 9, 2, 7, 4), [1, 8], { device });
    const patternIs: Record<string, (i: number, j: number) => boolean> = {
      previousToken: (i, j) => i === j + 1,
      // 4 9 2 4 9 2 7 4: earlier places of the same token, and the places after them.
      duplicateToken: (i, j) =>
        [
          [3, 0],
          [4, 1],
          [5, 2],
          [7, 0],
          [7, 3],
        ].some(([a, b]) => a === i && b === j),
      induction: (i, j) =>
        [
          [3, 1],
          [4, 2],
          [5, 3],
          [7, 1],
          [7, 4],
        ].some(([a, b]) => a === i && b === j),
    };
    using cache = runWithCache(gpt, repeated, { names: "blocks.1.attn.hook_pattern" });
    const weights = await cache.get("blocks.1.attn.hook_pattern").data();
    for (const behaviour of ["previousToken", "duplicateToken", "induction"] as const) {
      const mulScores = await headScores(gpt, repeated, { behaviour, excludeFirst: true, excludeCurrent: true });
      const absScores = await headScores(gpt, repeated, { behaviour, measure: "abs" });
      for (let h = 0; h < 3; h++) {
        let [hit, total, off] = [0, 0, 0];
        for (let i = 0; i < 8; i++)
          for (let j = 0; j < 8; j++) {
            const [weight, want] = [weights[(h * 8 + i) * 8 + j]!, Number(patternIs[behaviour]!(i, j))];
            off += Math.abs(weight - want);
            if (j === 0 || i === j) continue;
            hit += weight * want;
            total += weight;
          }
        expect(mulScores[1]![h], behaviour).toBeCloseTo(hit / total, 6);
        expect(absScores[1]![h], behaviour).toBeCloseTo(1 - off / 8, 6);
      }
    }
  });

  test("refuses bad input", async () => {
    const site = "hook_resid_pre" as const;
    await expectRejection(logitAttribution(gpt, ids, { tokens: [1] }), "ERR_SHAPE");
    await expectRejection(logitAttribution(gpt, ids, { tokens: [1, 19] }), "ERR_RANGE");
    await expectRejection(headScores(gpt, ids, { behaviour: "other" as never }), "ERR_ARGUMENT");
    const short = tensor(Int32Array.of(1, 2), [1, 2], { device });
    await expectRejection(activationPatching(gpt, short, { clean: ids, metric, site }), "ERR_SHAPE");
    const wide = (logits: FloatTensor): FloatTensor => logits;
    await expectRejection(activationPatching(gpt, ids, { clean: ids, metric: wide, site }), "ERR_SHAPE");
    await expectRejection(
      activationPatching(gpt, ids, { clean: ids, metric, site: "hook_embed" as never }),
      "ERR_ARGUMENT",
    );
    const names = "hook_embed" as const;
    expectError(() => noGrad(() => runWithGradients(gpt, ids, metric, { names })), "ERR_AUTOGRAD", /noGrad/);
    const constant = (): FloatTensor => sum(tensor([1], [1], { device }));
    expectError(() => runWithGradients(gpt, ids, constant, { names }), "ERR_AUTOGRAD", /depends/);
    expectError(() => integratedGradients(gpt, ids, metric, { name: names, steps: 0 }), "ERR_RANGE");
    expectError(() => logitDifference(tensor([1], [1], { device }), [1]), "ERR_SHAPE");
  });
});
