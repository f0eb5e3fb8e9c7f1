/** Requests with different adapters in one engine: each gets the bits that it gets alone. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adapterNames, addAdapter, removeAdapter, setAdapter } from "../../lib/adapters/adapters.js";
import { unloadAdapter } from "../../lib/adapters/adapter-uses.js";
import { Engine } from "../../lib/engine/engine.js";
import type { EngineOptions } from "../../lib/engine/engine-options.js";
import type { EngineRequest } from "../../lib/engine/engine-request.js";
import type { GenerationResult } from "../../lib/generate/generation.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { Llama } from "../../lib/models/llama.js";
import { loadAdapter, saveAdapter } from "../../lib/pretrained/peft.js";
import { shakeAdapter } from "../adapters/support.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";
import { begun, engineFor } from "./support.js";

const names = ["wide", "dora", "few", "half"];

/** Gives a model adapters that differ in rank, kind and layers, and leaves none active. */
function adapted<M extends CausalDecoder>(model: M): M {
  addAdapter(model, { name: "wide", rank: 5, alpha: 7, targets: /./, active: false });
  addAdapter(model, { name: "dora", rank: 2, dora: true, seed: 2, active: false });
  addAdapter(model, { name: "few", rank: 1, seed: 3, targets: /c_fc|gate_proj|q_proj/, active: false });
  addAdapter(model, { name: "half", rank: 4, alpha: 2, seed: 4, targets: /attn/, active: false });
  for (const name of names) shakeAdapter(model, name);
  return model;
}

function smallLlama(device: string): Llama {
  const size = {
    vocabularySize: 61,
    contextLength: 32,
    layers: 2,
    heads: 4,
    kvHeads: 2,
    width: 32,
    feedForwardWidth: 40,
  };
  const model = new Llama({ ...size, tied: false }, { device, seed: 3 });
  const random = new Random(8);
  for (const weight of model.parameters())
    if (weight.shape.length === 2) weight.set(Array.from({ length: weight.size }, () => 0.4 * random.normal()));
  return model;
}

const kinds: Record<string, (device: string) => CausalDecoder> = {
  GPT: (device) => smallGpt(device, { tied: false, contextLength: 32 }),
  Llama: smallLlama,
  "Llama in bf16": (device) => smallLlama(device).to("bf16"),
  "GPT in bf16": (device) => smallGpt(device, { contextLength: 32 }).to("bf16"),
  "Llama of 8 bits": (device) => smallLlama(device).quantize({ bits: 8 }),
};

/** Requests that come at about the same time. */
const schedule = (count: number, mostTokens: number) =>
  fc.array(
    fc.record({
      adapter: fc.constantFrom(null, ...names),
      shared: fc.boolean(),
      length: fc.integer({ min: 1, max: 8 }),
      maxTokens: fc.integer({ min: 1, max: mostTokens }),
      temperature: fc.constantFrom(0, 1),
      waits: fc.boolean(),
    }),
    { minLength: count, maxLength: count },
  );

const figures = ({ tokens, logprobs }: GenerationResult): unknown => ({ tokens, logprobs });

describe.for(devices)("adapters by request on %s", (device) => {
  // The software device is slow, and the CPU has all kinds.
  const quick = device === "cpu" || nightly;
  test.for(quick ? Object.keys(kinds) : ["Llama", "GPT in bf16"])(
    "a request of a %s gets the tokens and log-probabilities that it gets alone",
    async (kind) => {
      using model = adapted(kinds[kind]!(device));
      const options: EngineOptions = { pageSize: 4, maxBatchTokens: 11, maxSequences: 5 };
      const check = fc.asyncProperty(quick ? schedule(8, 9) : schedule(4, 3), async (drawn) => {
        const requests = drawn.map(({ shared, length, waits: _, ...rest }, i): EngineRequest => {
          const tokens = [...(shared ? someTokens(12, 99) : []), ...someTokens(length, i)];
          return { ...rest, tokens, seed: i, logprobs: 1, stopTokens: [] };
        });
        const alone: GenerationResult[] = [];
        for (const request of requests) {
          await using own = new Engine(model, options);
          alone.push(await own.generate(request));
        }
        await using engine = new Engine(model, options);
        const running: PromiseLike<GenerationResult>[] = [];
        for (const [i, request] of requests.entries()) {
          running.push(engine.generate(request).then((result) => result));
          if (drawn[i]!.waits) await new Promise(setImmediate);
        }
        const together = await Promise.all(running);
        expect(together.map(figures)).toEqual(alone.map(figures));
      });
      await fc.assert(check, { numRuns: nightly ? 20 : 1, seed: 4, endOnFailure: true });
    },
  );

  test("the tokens are those of the model with this adapter active, and of the model without any", async () => {
    using model = smallGpt(device, { contextLength: 32 });
    const prompt = someTokens(6, 1);
    const settings = { maxTokens: quick ? 12 : 4, temperature: 0, stopTokens: [] };
    const [bare] = await generateTokens(model, [prompt], settings);
    adapted(model);
    const expected = [];
    for (const name of names) {
      setAdapter(model, name);
      expected.push((await generateTokens(model, [prompt], settings))[0]!.tokens);
    }
    setAdapter(model, null);
    expect(new Set([bare!.tokens, ...expected].map(String)).size).toBeGreaterThan(quick ? 3 : 1);
    const engine = engineFor(model, { pageSize: 4 });
    const ask = (adapter?: string | null) => engine.generate({ tokens: prompt, ...settings, ...{ adapter } });
    const all = await Promise.all([ask(null), ...names.map(ask), ask()]);
    expect(all.map(({ tokens }) => tokens)).toEqual([bare!.tokens, ...expected, bare!.tokens]);
    // Requests that name none follow the active one.
    setAdapter(model, "dora");
    const [own, none] = await Promise.all([ask(), ask(null)]);
    expect([own.tokens, none.tokens]).toEqual([expected[1], bare!.tokens]);
  });
});

describe("adapters of an engine", () => {
  const prompt = someTokens(20, 7);
  const settings = { maxTokens: 6, temperature: 0, stopTokens: [] };

  test("the prefix cache is shared by requests of one adapter only, with the same weights", async () => {
    using model = adapted(smallGpt("cpu", { contextLength: 48 }));
    const engine = engineFor(model, { pageSize: 4 });
    const cached = async (adapter: string | null) => {
      const before = engine.metrics.cachedTokens;
      await engine.generate({ tokens: prompt, ...settings, adapter });
      return engine.metrics.cachedTokens - before;
    };
    expect([await cached(null), await cached("wide"), await cached("half")]).toEqual([0, 0, 0]);
    for (const adapter of [null, "wide", "half"]) expect(await cached(adapter), String(adapter)).toBeGreaterThan(8);
    shakeAdapter(model, "wide");
    expect(await cached("wide")).toBe(0);
    expect(await cached("wide")).toBeGreaterThan(8);
  });

  test("adapters come and go while requests run", async () => {
    using model = adapted(smallGpt("cpu", { contextLength: 64 }));
    const folder = temporaryFolder();
    setAdapter(model, "half");
    await saveAdapter(folder, model);
    setAdapter(model, null);
    const engine = engineFor(model, { pageSize: 4 });
    const ask = (adapter: string | null, maxTokens = 30) =>
      engine.generate({ tokens: prompt, ...settings, maxTokens, adapter }).then(({ tokens }) => tokens);
    const [half, plain] = [await ask("half"), await ask(null)];
    const computed = engine.metrics.computedTokens;
    const wide = begun(engine.generate({ tokens: prompt, ...settings, maxTokens: 30, adapter: "wide" }));
    const running = [ask("half"), ask(null)];
    const { result } = await wide;
    const leaving = unloadAdapter(model, "wide");
    expect(engine.adapters).toEqual(["dora", "few", "half"]);
    expectError(
      () => ask("wide"),
      "ERR_ARGUMENT",
      /one of the model's adapters, which are dora, few, half, or null, got "wide"/,
    );
    await expectRejection(unloadAdapter(model, "wide"), "ERR_BUSY");
    await loadAdapter(folder, model, { name: "again", active: false });
    running.push(ask("again"));
    const results = await Promise.all(running);
    await leaving;
    expect(adapterNames(model)).toEqual(["dora", "few", "half", "again"]);
    expect(results).toEqual([half, plain, half]);
    expect((await result).tokens).toHaveLength(30);
    // Nothing was computed again: only what each request had no page for.
    expect(engine.metrics.computedTokens - computed).toBeLessThan(4 * 50);
    await expectRejection(unloadAdapter(model, "wide"), "ERR_ARGUMENT");
  });

  test("a request whose adapter is removed fails, and no other", async () => {
    using model = adapted(smallGpt("cpu", { contextLength: 64 }));
    const engine = engineFor(model);
    const ask = (adapter: string | null) => engine.generate({ tokens: prompt, ...settings, maxTokens: 30, adapter });
    const few = begun(ask("few"));
    const kept = ask("half").then(({ tokens }) => tokens);
    const { result: lost } = await few;
    removeAdapter(model, "few");
    await expectRejection(lost, "ERR_DISPOSED", /few, which was removed/);
    expect(await kept).toEqual((await ask("half")).tokens);
  });

  test("all memory of adapters is freed, with the engine or when they leave", async () => {
    using model = smallGpt("cpu", { contextLength: 48 });
    const held = () => {
      const { live, tensors } = model.device.memory();
      return { live, tensors };
    };
    const before = held();
    for (const closes of [true, false]) {
      const engine = new Engine(model, { pageSize: 4 });
      await engine.generate({ tokens: prompt, ...settings });
      const alone = held();
      adapted(model);
      await Promise.all([null, ...names].map((adapter) => engine.generate({ tokens: prompt, ...settings, adapter })));
      if (closes) await engine.close();
      for (const name of names) await unloadAdapter(model, name);
      if (closes) continue;
      await engine.generate({ tokens: prompt, ...settings });
      // The recordings of steps with adapters stay until others take their place, without the adapters' memory.
      expect(held().live - alone.live).toBeLessThan(2 ** 20);
      await engine.close();
    }
    expect(held()).toEqual(before);
  });

  test("scores by adapter are those of the model with this adapter active", async () => {
    using model = adapted(smallGpt("cpu", { contextLength: 48 }));
    const engine = engineFor(model, { pageSize: 4, maxBatchTokens: 11 });
    const requests = [null, ...names].map((adapter) => ({ tokens: someTokens(20, 7), first: 3, adapter }));
    const generated = engine.generate({ tokens: prompt, ...settings, adapter: "few" }).then(({ tokens }) => tokens);
    const scores = await Promise.all(requests.map((request) => engine.score(request)));
    expect(new Set(scores.map(({ total }) => total)).size).toBe(requests.length);
    expect(await generated).toHaveLength(settings.maxTokens);
    for (const [i, { adapter, ...request }] of requests.entries()) {
      setAdapter(model, adapter);
      expect(await engineFor(model, { pageSize: 4 }).score(request), String(adapter)).toEqual(scores[i]);
    }
    const bad = { tokens: [1, 2], adapter: "polite" };
    await expectRejection(engine.score(bad), "ERR_ARGUMENT", /score: expected adapter to be .+ wide, dora, few, half/);
  });

  test("names are in the order in which adapters were added, whatever layers they have", () => {
    using model = smallGpt("cpu");
    addAdapter(model, { name: "late", targets: /^h\.1/, active: false });
    addAdapter(model, { name: "all", active: false });
    addAdapter(model, { name: "early", targets: /^h\.0/, active: false });
    expect(adapterNames(model)).toEqual(["late", "all", "early"]);
    removeAdapter(model, "late");
    addAdapter(model, { name: "late", targets: /^h\.0/, active: false });
    expect(adapterNames(model)).toEqual(["all", "early", "late"]);
  });

  test("bad names are refused with those that there are", () => {
    using model = smallGpt("cpu");
    const engine = engineFor(model);
    expectError(() => engine.generate({ tokens: [1], adapter: "polite" }), "ERR_ARGUMENT", /which has none, or null/);
    adapted(model);
    for (const adapter of ["", "polite", 3, {}])
      expectError(
        () => engine.generate({ tokens: [1], adapter: adapter as string }),
        "ERR_ARGUMENT",
        /which are wide, dora, few, half, or null, got/,
      );
  });
});
