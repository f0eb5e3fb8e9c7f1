/** Tools that read a corpus, compared with the same computed text by text and in f64. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import {
  addTo,
  collectActivations,
  lensDivergence,
  logitLens,
  meanActivations,
  replaceWith,
  resampleFrom,
  run,
  runWithCache,
  type StackHookName,
  steeringVector,
  topActivations,
  trainProbe,
  trainTunedLens,
  TunedLens,
} from "../../lib/inspect/index.js";
import { Bert } from "../../lib/models/bert.js";
import { GPT } from "../../lib/models/gpt.js";
import { reshape } from "../../lib/ops/views.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { shaken } from "../support/shaken.js";
import { describeUnless, oneDevice } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";

const sizes = { vocabularySize: 17, contextLength: 9, layers: 2, width: 6, heads: 2 };
const random = new Random(9);
/** Texts of 1 to 9 tokens. */
const corpus = Array.from({ length: 11 }, (_, i) =>
  Array.from({ length: 1 + ((5 * i) % 9) }, () => random.integer(17)),
);
const name = "blocks.1.hook_resid_pre";
const post = "blocks.0.mlp.hook_post";

onEachDevice((device) => {
  let gpt: GPT;
  let bert: Bert;
  beforeAll(() => {
    gpt = shaken(new GPT(sizes, { device }));
    bert = shaken(new Bert(sizes, { device }));
  });
  afterAll(() => {
    gpt.dispose();
    bert.dispose();
  });

  const idsOf = (sequence: readonly number[]): IntTensor =>
    tensor(Int32Array.from(sequence), [1, sequence.length], { device });

  /** Returns the rows of a value, text by text. */
  async function rowsOf(model: GPT | Bert, value: StackHookName): Promise<number[][]> {
    const rows: number[][] = [];
    for (const sequence of corpus) {
      using ids = idsOf(sequence);
      using cache = runWithCache<GPT | Bert>(model, ids, { names: value });
      const data = await cache.get(value).data();
      const width = data.length / sequence.length;
      for (let t = 0; t < sequence.length; t++) rows.push([...data.slice(t * width, (t + 1) * width)]);
    }
    return rows;
  }
  const meanOf = (rows: readonly number[][]): number[] =>
    rows[0]!.map((_, c) => rows.reduce((sum, row) => sum + row[c]! / rows.length, 0));

  test("activations and their means are those of single texts, without padding", async () => {
    const { live } = deviceOf(device).memory();
    for (const model of device === "cpu" ? [gpt, bert] : [gpt]) {
      const rows = await rowsOf(model, name);
      const found = await collectActivations(model, corpus, { name, batch: 4 });
      expectNear("rows", await found.rows.data(), rows.flat(), 1e-5);
      expect([...found.tokens]).toEqual(corpus.flat());
      expect([...found.positions]).toEqual(corpus.flatMap((sequence) => sequence.map((_, t) => t)));
      expect([...found.sequences]).toEqual(corpus.flatMap((sequence, i) => sequence.map(() => i)));
      found.rows.dispose();
    }
    // Texts may come one by one.
    async function* reading(): AsyncGenerator<number[]> {
      for (const sequence of corpus) yield await Promise.resolve(sequence);
    }
    const z = "blocks.1.attn.hook_z";
    using means = await meanActivations(gpt, reading(), { names: [name, z, "ln_final.hook_scale"], batch: 4 });
    for (const each of [name, z] as const)
      expectNear(each, await means.get(each).data(), meanOf(await rowsOf(gpt, each)), 1e-5);
    // Ablating a head by its mean
    using ids = idsOf([3, 1, 4]);
    const hook = replaceWith(
      noGrad(() => reshape(means.get(z), [2, 3])),
      { heads: [1] },
    );
    using cache = runWithCache(gpt, ids, { names: z, hooks: { [z]: hook } });
    const [values, wanted] = [await cache.get(z).data(), await means.get(z).data()];
    for (let t = 0; t < 3; t++) expect(values.slice(6 * t + 3, 6 * t + 6)).toEqual(wanted.slice(3));
    means.dispose();
    expect(deviceOf(device).memory().live).toBeLessThan(live + 4096);
  });

  test("resampling takes values of other sequences, each once", async () => {
    using ids = tensor(Int32Array.of(1, 2, 3, 4, 5, 6), [3, 2], { device });
    using others = tensor(Int32Array.of(7, 8, 9, 10, 11, 12), [3, 2], { device });
    using source = runWithCache(gpt, others, { names: name });
    const hooks = { [name]: resampleFrom(source.get(name), { seed: 5, positions: [1] }) };
    using usual = runWithCache(gpt, ids, { names: name });
    using cache = runWithCache(gpt, ids, { names: name, hooks });
    const [got, from, own] = await Promise.all([cache, source, usual].map((each) => each.get(name).data()));
    const taken = [0, 1, 2].map((b) => {
      expect(got!.slice(12 * b, 12 * b + 6)).toEqual(own!.slice(12 * b, 12 * b + 6)); // position 0
      const row = String(got!.slice(12 * b + 6, 12 * b + 12));
      return [0, 1, 2].findIndex((other) => String(from!.slice(12 * other + 6, 12 * other + 12)) === row);
    });
    expect([...taken].sort()).toEqual([0, 1, 2]);
    using short = idsOf([1, 2, 3]);
    expectError(() => noGrad(() => run(gpt, short, { hooks })), "ERR_SHAPE");
  });

  test("the largest activations, with their places; memory stays flat", async () => {
    const rows = await rowsOf(gpt, post);
    const places = corpus.flatMap((sequence, i) => sequence.map((token, t) => ({ sequence: i, position: t, token })));
    const units = [23, 0];
    const found = await topActivations(gpt, corpus, { name: post, units, k: 4, context: 2, batch: 3 });
    for (const [i, unit] of units.entries()) {
      const best = places
        .map((place, row) => ({ ...place, value: rows[row]![unit]! }))
        .sort((a, b) => b.value - a.value)
        .slice(0, 4);
      expectNear(
        `unit ${unit}`,
        found[i]!.map(({ value }) => value),
        best.map(({ value }) => value),
        1e-5,
      );
      expect(found[i]!.map(({ sequence, position, token }) => ({ sequence, position, token }))).toEqual(
        best.map(({ sequence, position, token }) => ({ sequence, position, token })),
      );
      for (const { context, at, token, position, sequence } of found[i]!) {
        expect(context[at]).toBe(token);
        expect([...context]).toEqual(corpus[sequence]!.slice(Math.max(0, position - 2), position + 3));
      }
    }
    // All units; fewer tokens than k
    const all = await topActivations(gpt, [[3, 4]], { name: post, k: 5 });
    expect(all).toHaveLength(24);
    expect(all[0]).toHaveLength(2);
    if (device !== "cpu") return;
    let most = 0;
    function* endless(count: number): Generator<number[]> {
      for (let i = 0; i < count; i++) {
        most = Math.max(most, deviceOf(device).memory().live);
        yield corpus[i % corpus.length]!;
      }
    }
    await topActivations(gpt, endless(16), { name: post, k: 3 });
    const low = most;
    await topActivations(gpt, endless(160), { name: post, k: 3 });
    expect(most).toBeLessThanOrEqual(low);
  });

  test("a steering vector is the difference of means, at a position or over all", async () => {
    const [positive, negative] = [corpus.slice(0, 5), corpus.slice(5)];
    const rows = await rowsOf(gpt, name);
    const firsts = corpus.map((_, i) => corpus.slice(0, i).reduce((sum, { length }) => sum + length, 0));
    const ends = corpus.map(({ length }, i) => rows[firsts[i]! + length - 1]!);
    const [with_, without] = [meanOf(ends.slice(0, 5)), meanOf(ends.slice(5))];
    using vector = await steeringVector(gpt, { name, positive, negative, batch: 2 });
    expectNear(
      "vector",
      await vector.data(),
      with_.map((x, c) => x - without[c]!),
      1e-5,
    );
    using overall = await steeringVector(gpt, { name, positive, negative, position: null });
    const [a, b] = [meanOf(rows.slice(0, firsts[5])), meanOf(rows.slice(firsts[5]))];
    expectNear(
      "vector",
      await overall.data(),
      a.map((x, c) => x - b[c]!),
      1e-5,
    );
    // Added to the residual stream, it is there.
    using ids = idsOf([3, 1, 4]);
    using usual = runWithCache(gpt, ids, { names: name });
    using steered = runWithCache(gpt, ids, { names: name, hooks: { [name]: addTo(vector) } });
    const [before, after, added] = await Promise.all([usual.get(name), steered.get(name), vector].map((x) => x.data()));
    expectNear(
      "stream",
      after!,
      before!.map((x, i) => x + added![i % 6]!),
      1e-6,
    );
    await expectRejection(steeringVector(gpt, { name, positive, negative, position: 1 }), "ERR_RANGE", /text 0/);
    await expectRejection(steeringVector(gpt, { name, positive: [], negative }), "ERR_ARGUMENT");
  });

  test("a tuned lens begins as the logit lens and is saved and loaded", async () => {
    using lens = new TunedLens(gpt.config, { device });
    using ids = idsOf([3, 1, 4, 1]);
    const [read, plain] = [lens.logits(gpt, ids), logitLens(gpt, ids)];
    for (const [i, logits] of read.entries())
      expectNear(`layer ${i}`, await logits.data(), await plain[i]!.data(), 1e-6);
    for (const tensor of [...read, ...plain]) tensor.dispose();
    // KL in f64, from the logits of single texts
    let [total, count] = [0, 0];
    for (const sequence of corpus.slice(0, 3)) {
      using text = idsOf(sequence);
      const logits = logitLens(gpt, text);
      const [first, , last] = await Promise.all(logits.map((x) => x.data()));
      for (const x of logits) x.dispose();
      for (let t = 0; t < sequence.length; t++, count++) {
        const [p, q] = [last!, first!].map((all) => {
          const z = [...all.slice(17 * t, 17 * t + 17)];
          const size = Math.log(z.reduce((sum, x) => sum + Math.exp(x), 0));
          return z.map((x) => x - size);
        });
        total += p!.reduce((sum, x, i) => sum + Math.exp(x) * (x - q![i]!), 0);
      }
    }
    const [before] = await lensDivergence(gpt, corpus.slice(0, 3), null, { batch: 2 });
    expect(before).toBeCloseTo(total / count, 4);
    const folder = temporaryFolder();
    if (device === "cpu") {
      // The software device is slow, and training has no kernels of its own.
      const losses: number[] = [];
      const options = {
        steps: 40,
        lr: 0.03,
        batch: 6,
        onStep: (_: number, [loss]: readonly number[]) => losses.push(loss!),
      };
      expect(await trainTunedLens(gpt, corpus, { ...options, lens })).toBe(lens);
      expect(losses).toHaveLength(40);
      const after = await lensDivergence(gpt, corpus, lens);
      const logit = await lensDivergence(gpt, corpus, null);
      for (const [layer, value] of after.entries()) expect(value).toBeLessThan(0.7 * logit[layer]!);
      expect(gpt.parameters().every((parameter) => parameter.requiresGrad && !parameter.grad)).toBe(true);
    }
    await lens.save(folder);
    using loaded = await TunedLens.load(folder, { device });
    for (const [key, value] of Object.entries(lens.stateDict()))
      expect(await loaded.stateDict()[key]!.data()).toEqual(await value.data());
    expectError(() => new TunedLens({ layers: 3, width: 6 }).logits(gpt, ids), "ERR_SHAPE");
    expectError(() => lens.translate(2, loaded.translators[0]!.bias!), "ERR_RANGE");
    await expectRejection(trainTunedLens(gpt, [], { steps: 1 }), "ERR_ARGUMENT", /corpus/);
  });

  describeUnless(device !== "cpu" && oneDevice)("probes", () => {
    test("find the optimum, and tell reading from learning by heart", async () => {
      // Three classes around three means; the type of a row says nothing about its class.
      const count = 120;
      const draw = new Random(2);
      const labels = Array.from({ length: count }, () => draw.integer(3));
      const types = Array.from({ length: count }, () => draw.integer(400));
      const values = labels.flatMap((label) => [0, 1, 2, 3].map((c) => (c === label ? 2 : 0) + draw.normal() + 5 * c));
      using rows = tensor(values, [count, 4], { device });
      const { live } = deviceOf(device).memory();
      const l2 = 0.02;
      const result = await trainProbe(rows, labels, { types, l2, heldOut: 0.3, steps: 120, seed: 3 });
      const { probe, accuracy, majority, control, selectivity } = result;
      expect(accuracy.heldOut).toBeGreaterThan(0.7);
      expect(majority).toBeLessThan(0.55);
      expect(control!.heldOut).toBeLessThan(0.55);
      expect(selectivity).toBeCloseTo(accuracy.heldOut - control!.heldOut, 12);
      // Both accuracies together count the rows that the probe is right about.
      const guesses = await probe.predict(rows).data();
      const hits = labels.filter((label, i) => guesses[i] === label).length;
      expect(hits).toBe(Math.round(36 * accuracy.heldOut + 84 * accuracy.trained));
      expect(deviceOf(device).memory().live).toBeLessThan(live + 4096);
      // At the optimum the gradient is 0: all rows are trained on but one.
      const whole = await trainProbe(rows, labels, { l2, heldOut: 1 / count, steps: 250 });
      const predicted = await whole.probe.predict(rows).data();
      const right = labels.filter((label, i) => predicted[i] === label).length / count;
      expect(Math.abs(right - whole.accuracy.trained)).toBeLessThan(0.01);
      const [weight, bias] = [await whole.probe.weight.data(), await whole.probe.bias.data()];
      const columns = [0, 1, 2, 3].map((c) => labels.map((_, i) => values[4 * i + c]!));
      const means = columns.map((column) => column.reduce((a, b) => a + b / count, 0));
      const deviations = columns.map((column, c) =>
        Math.sqrt(column.reduce((sum, x) => sum + (x - means[c]!) ** 2 / count, 0)),
      );
      for (let k = 0; k < 3; k++)
        for (let c = 0; c < 4; c++) {
          let gradient = l2 * weight[4 * k + c]! * deviations[c]!;
          for (let i = 0; i < count; i++) {
            const z = [0, 1, 2].map((j) =>
              [0, 1, 2, 3].reduce((sum, d) => sum + weight[4 * j + d]! * values[4 * i + d]!, bias[j]!),
            );
            const p = Math.exp(z[k]!) / z.reduce((sum, x) => sum + Math.exp(x), 0);
            gradient += ((p - Number(labels[i] === k)) * (values[4 * i + c]! - means[c]!)) / deviations[c]! / count;
          }
          // The row that was held out moves it a little.
          expect(Math.abs(gradient)).toBeLessThan(0.01);
        }
      probe.dispose();
      whole.probe.dispose();
    });

    test("a representation of the token alone can be learnt by heart", async () => {
      const { rows, tokens } = await collectActivations(gpt, [...corpus, ...corpus, ...corpus], { name: "hook_embed" });
      const labels = Array.from(tokens, (token) => token % 2);
      const { selectivity, control } = await trainProbe(rows, labels, { types: tokens, steps: 60, l2: 0 });
      expect(control!.trained).toBeGreaterThan(0.6);
      expect(Math.abs(selectivity!)).toBeLessThan(0.6);
      rows.dispose();
    });

    test("refuse bad input", async () => {
      using rows = tensor([1, 2, 3, 4, 5, 6], [3, 2], { device });
      await expectRejection(trainProbe(rows, [0, 1]), "ERR_SHAPE");
      await expectRejection(trainProbe(rows, [0, 1, -1]), "ERR_RANGE");
      await expectRejection(trainProbe(rows, [0, 1, 2], { classes: 2 }), "ERR_RANGE");
      await expectRejection(trainProbe(rows, [0, 1, 1], { heldOut: 0.01 }), "ERR_RANGE", /hold out/);
      await expectRejection(trainProbe(rows, [0, 1, 1], { types: [1] }), "ERR_SHAPE");
    });
  });

  test("refuses bad corpora", async () => {
    const options = { name: post } as const;
    await expectRejection(topActivations(gpt, 3 as never, options), "ERR_ARGUMENT");
    await expectRejection(topActivations(gpt, {} as never, options), "ERR_ARGUMENT", /iterable/);
    await expectRejection(topActivations(gpt, [[]], options), "ERR_ARGUMENT");
    await expectRejection(topActivations(gpt, [[17]], options), "ERR_RANGE");
    await expectRejection(topActivations(gpt, [Array<number>(10).fill(1)], options), "ERR_RANGE", /length/);
    await expectRejection(topActivations(gpt, corpus, { ...options, units: [24] }), "ERR_RANGE");
    await expectRejection(topActivations(gpt, [], options), "ERR_ARGUMENT");
    await expectRejection(topActivations(gpt, corpus, { name: "blocks.0.attn.hook_pattern" }), "ERR_ARGUMENT", /pairs/);
    await expectRejection(topActivations(gpt, corpus, { name: "blocks.9.hook_mlp_out" }), "ERR_ARGUMENT");
    await expectRejection(meanActivations(gpt, [], { names: name }), "ERR_ARGUMENT");
    await expectRejection(collectActivations(gpt, [], { name }), "ERR_ARGUMENT");
    await expectRejection(lensDivergence(gpt, [], null), "ERR_ARGUMENT");
  });
});
