/** Compares every named activation, and what follows from replacing it, with PyTorch: test/fixtures/activations.py. */
import { expect, test, vi } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { addTo, hookNames, type HooksOf, replaceWith, run, runWithCache } from "../../lib/inspect/index.js";
import { Bert } from "../../lib/models/bert.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { ops } from "../../lib/core/native.js";
import type { Hook } from "../../lib/nn/observer.js";
import { add, mul } from "../../lib/ops/binary.js";
import { narrow } from "../../lib/ops/views.js";
import { keep, scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectClose, expectNear, expectWithin } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { decode } from "../support/fixtures.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";
import { onEachFamily } from "./models.js";

type AnyHooks = Record<string, Hook>;

/** Returns the logits of the last position, [B, V]. */
const lastOf = (logits: FloatTensor): FloatTensor => narrow(logits, 1, logits.shape[1]! - 1, 1);
const largest = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0);
/** Error relative to the largest number: some tens of roundings of f32. */
const tolerance = 1e-5;

onEachDevice((device) => {
  onEachFamily(device, (subject) => {
    test("every activation is PyTorch's", async () => {
      const { model, input, options, activations, logits } = subject();
      const names = hookNames(model);
      expect([...names].sort()).toEqual(Object.keys(activations).sort());
      using cache = runWithCache(model, input, { ...options, names: () => true });
      expect(cache.names).toHaveLength(names.length);
      const reads = cache.names.map(async (name) => [name, await cache.get(name).data()] as const);
      for (const [name, values] of await Promise.all(reads)) {
        const expected = activations[name]!;
        expect(cache.get(name).shape, name).toEqual(expected.shape);
        const most = largest(decode(expected));
        expectWithin(name, values, decode(expected), () => tolerance * most);
      }
      expectNear("output", await cache.output.data(), decode(logits), tolerance);
    });

    test("a replaced activation gives PyTorch's output", async () => {
      const { model, input, options, replaced } = subject();
      const names = hookNames(model);
      const outputs = names.map(async (name) => {
        const hooks = { [name]: (x: FloatTensor) => add(mul(x, 0.5), 0.1) };
        using out = noGrad(() => scope(() => lastOf(run(model, input, { ...options, hooks }))));
        return await out.data();
      });
      for (const [i, logits] of (await Promise.all(outputs)).entries())
        expectNear(names[i]!, logits, decode(replaced[names[i]!]!), 2 * tolerance);
    });

    test("patching with the run's own activations changes no bit, and little of the fused run", async () => {
      const { model, input, options } = subject();
      using cache = runWithCache(model, input, { ...options, names: /./ });
      const hooks: AnyHooks = Object.fromEntries([...cache].map(([name, x]) => [name, replaceWith(x)]));
      using patched = noGrad(() => run(model, input, { ...options, hooks }));
      expect(await patched.data()).toEqual(await cache.output.data());
      using fused = noGrad(() => run(model, input, options));
      expectClose("fused", await fused.data(), await cache.output.data(), { relative: 64, absolute: 64 });
    });
  });

  const ids: IntTensor = tensor(Int32Array.of(5, 3, 3, 9, 7, 6, 2, 8, 1, 4), [2, 5], { device });
  const lengths: IntTensor = tensor(Int32Array.of(5, 3), [2], { device });
  const size = { vocabularySize: 11, contextLength: 8, layers: 2, width: 8, heads: 4 };
  const gptOf = (config: Partial<GptConfig> = {}): GPT => shaken(new GPT({ ...size, ...config }, { device }));

  /** Returns the operations that `body` calls. */
  function launches(body: () => Disposable): string[] {
    const names: string[] = [];
    const all = ops as unknown as Record<string, (...args: unknown[]) => unknown>;
    const spies = Object.entries(all).map(([name, original]) =>
      vi.spyOn(all, name).mockImplementation((...args) => {
        names.push(name);
        return original(...args);
      }),
    );
    noGrad(() => scope(() => body()[Symbol.dispose]()));
    for (const spy of spies) spy.mockRestore();
    return names;
  }

  test("without hooks, the same operations run as before there were any", () => {
    using gpt = gptOf();
    using llama = shaken(new Llama({ ...size, kvHeads: 2, feedForwardWidth: 12 }, { device }));
    using bert = shaken(new Bert(size, { device }));
    using t5 = shaken(new T5({ vocabularySize: 11, layers: 1, heads: 2, width: 8 }, { device }));
    using pair = shaken(
      new EncoderDecoder({ ...size, layers: 1, sourceVocabularySize: 11, startToken: 1, endToken: 2 }, { device }),
    );
    const norm = "layernorm_forward";
    const block = [norm, "gemm", "attention_forward", "gemm", norm, "gemm", "gemm"];
    const embedded = ["embedding_forward", "binary"];
    const usual = [...embedded, ...block, ...block, norm, "gemm"];
    expect(launches(() => gpt.forward(ids))).toEqual(usual);
    expect(launches(() => run(gpt, ids))).toEqual(usual);
    const attend = ["attention_forward", "gemm"];
    const layers = ["gemm", "gemm"];
    const three = ["gemm", "gemm", "gemm"]; // queries, keys and values

    const ofLlama = [norm, ...three, "rotary", "rotary", ...attend, norm, ...layers, "gated", "gemm"];
    const wholeLlama = ["embedding_forward", ...ofLlama, ...ofLlama, norm, "gemm"];
    expect(launches(() => llama.forward(ids))).toEqual(wholeLlama);
    expect(launches(() => run(llama, ids))).toEqual(wholeLlama);

    const ofBert = [...three, ...attend, norm, ...layers, norm];
    const wholeBert = [...embedded, "binary", norm, ...ofBert, ...ofBert];
    expect(launches(() => bert.forward(ids))).toEqual(wholeBert);
    expect(launches(() => run(bert, ids))).toEqual(wholeBert);

    // Tokens, and the table of biases by distance; keys and values of the source are projected after the encoder.
    const entered = ["embedding_forward", "embedding_forward", "copy"];
    const wholeT5 = [
      ...[...entered, norm, ...three, ...attend, norm, ...layers, norm, "gemm", "gemm"],
      ...[
        ...entered,
        norm,
        ...three,
        ...attend,
        norm,
        "gemm",
        ...attend,
        norm,
        ...layers,
        norm,
        "fill",
        "binary",
        "gemm",
      ],
    ];
    const both = { source: ids, target: ids };
    expect(launches(() => t5.forward(ids, ids))).toEqual(wholeT5);
    expect(launches(() => run(t5, both))).toEqual(wholeT5);

    const scaled = ["embedding_forward", "fill", "binary", "binary"];
    const wholePair = [
      ...[...scaled, "gemm", ...attend, norm, ...layers, norm, "gemm"],
      ...[...scaled, "gemm", ...attend, norm, "gemm", ...attend, norm, ...layers, norm, "gemm"],
    ];
    expect(launches(() => pair.forward(ids, ids))).toEqual(wholePair);
    expect(launches(() => run(pair, both))).toEqual(wholePair);
    // The residual stream between blocks is there anyway.
    const cached = (names: RegExp): string[] => launches(() => runWithCache(gpt, ids, { names }));
    expect(cached(/hook_resid/)).toEqual(usual);
    expect(cached(/ln1.hook_normalized/)).toEqual(usual);
    // The first block's feed-forward is taken apart; the second's is not.
    expect(cached(/0.hook_mlp_out/)).toEqual([...embedded, ...block, "binary", ...block, norm, "gemm"]);
    expect(cached(/1.attn.hook_pattern/).filter((name) => name === "softmax_forward")).toHaveLength(1);
  });

  test.each<[string, Partial<GptConfig>]>([
    ["RMS norms, gated layers and rotary positions", { normalization: "rms", gated: true, positions: "rotary" }],
    ["grouped heads with norms, no biases and an output layer", { kvHeads: 2, qkNorm: true, bias: false, tied: false }],
    ["ALiBi, a window and a softcap", { positions: "alibi", window: 3, softcap: 0.7 }],
    ["sinusoids and factors", { positions: "sinusoidal", embeddingScale: 3, residualScale: 0.5, dropout: 0.2 }],
  ])("a GPT with %s: a pass taken apart gives the fused result", async (_, config) => {
    using gpt = gptOf(config);
    const names = hookNames(gpt);
    using cache = runWithCache(gpt, ids, { keyLengths: lengths, names });
    expect(cache.names).toHaveLength(names.length);
    using fused = noGrad(() => gpt.eval().forward(ids, { keyLengths: lengths }));
    expectClose("output", await cache.output.data(), await fused.data(), { relative: 64, absolute: 64 });
  });

  test.each(["bf16", "f16"] as const)("%s: hooks see and return the model's dtype", async (dtype) => {
    using gpt = gptOf().to(dtype);
    using cache = runWithCache(gpt, ids, { names: /./ });
    for (const [name, x] of cache) expect(x.dtype, name).toBe(name.endsWith("hook_scale") ? "f32" : dtype);
    using fused = noGrad(() => gpt.forward(ids));
    expectNear("output", await cache.output.data(), await fused.data(), dtype === "bf16" ? 0.05 : 0.01);
    const hooks: HooksOf<GPT> = Object.fromEntries([...cache].map(([name, x]) => [name, replaceWith(x)]));
    using patched = noGrad(() => run(gpt, ids, { hooks }));
    expect(await patched.data()).toEqual(await cache.output.data());
  });

  test("a quantised model is taken apart as well", async () => {
    using gpt = gptOf({ width: 32 }).quantize({ bits: 8, groupSize: 32 });
    using cache = runWithCache(gpt, ids, { names: /./ });
    using fused = noGrad(() => gpt.forward(ids));
    expectNear("output", await cache.output.data(), await fused.data(), 0.02);
  });

  test("a place limits what is replaced or added", async () => {
    using gpt = gptOf();
    const name = "blocks.1.attn.hook_pattern"; // [2, 4, 5, 5]
    using usual = runWithCache(gpt, ids, { names: name });
    const place = { sequences: [1], heads: [0, 1, -1], positions: [-2] };
    using hooked = runWithCache(gpt, ids, { names: name, hooks: { [name]: replaceWith(0.25, place) } });
    using added = runWithCache(gpt, ids, { names: name, hooks: { [name]: addTo(0.25, place) } });
    const [before, replaced, more] = await Promise.all([usual, hooked, added].map((cache) => cache.get(name).data()));
    for (const i of before!.keys()) {
      const [b, h, t] = [Math.floor(i / 100), Math.floor(i / 25) % 4, Math.floor(i / 5) % 5];
      const inside = b === 1 && h !== 2 && t === 3;
      expect(replaced![i]).toBe(inside ? 0.25 : before![i]);
      expect(more![i]).toBe(inside ? Math.fround(before![i]! + 0.25) : before![i]);
    }
  });

  test("stops after a number of blocks", async () => {
    using gpt = gptOf();
    using cache = runWithCache(gpt, ids, { names: /resid/ });
    const names = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"] as const;
    for (const [stopAtLayer, name] of names.entries()) {
      using stopped = noGrad(() => run(gpt, ids, { stopAtLayer }));
      expect(await stopped.data(), name).toEqual(await cache.get(name).data());
    }
    const seen: string[] = [];
    const hooks: HooksOf<GPT> = Object.fromEntries(hookNames(gpt).map((name) => [name, () => void seen.push(name)]));
    noGrad(() => run(gpt, ids, { stopAtLayer: 1, hooks })).dispose();
    expect(seen.at(-1)).toBe("blocks.0.hook_resid_post");
    using bert = shaken(new Bert(size, { device }));
    using states = noGrad(() => bert.forward(ids));
    using last = noGrad(() => run(bert, ids, { stopAtLayer: 2 }));
    expect(await last.data()).toEqual(await states.data());
  });

  test("nothing stays in memory, also if a hook fails; what a hook returns stays the user's", () => {
    using gpt = gptOf();
    using own = keep(zeros([2, 5, 8], { device }));
    const { live, tensors } = deviceOf(device).memory();
    const name = "blocks.1.hook_resid_post";
    noGrad(() => run(gpt, ids, { hooks: { [name]: () => own } })).dispose();
    expect(own.disposed).toBe(false);
    const fail = (): undefined => {
      throw new Error("no");
    };
    expect(() => runWithCache(gpt, ids, { names: /./, hooks: { [name]: fail } })).toThrow("no");
    runWithCache(gpt, ids, { names: /./, stopAtLayer: 1 }).dispose();
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test("dropout is off while the model is looked into, and on again afterwards", async () => {
    using gpt = gptOf({ dropout: 0.5 });
    const read = (): Promise<Float32Array> => {
      using out = noGrad(() => run(gpt, ids));
      return out.data();
    };
    expect(await read()).toEqual(await read());
    expect(gpt.training).toBe(true);
  });

  test("refuses bad input", () => {
    using gpt = gptOf();
    using t5 = new T5({ vocabularySize: 11, layers: 1, heads: 2, width: 8 }, { device });
    const name = "blocks.0.hook_mlp_out";
    const refused = (body: () => unknown, code: Parameters<typeof expectError>[1], message?: RegExp): void =>
      expectError(() => noGrad(() => scope(() => void body())), code, message);
    refused(() => hookNames({} as never), "ERR_ARGUMENT");
    refused(() => run<GPT>(3 as never, ids), "ERR_ARGUMENT");
    refused(
      () => run(gpt, ids, { hooks: { "blocks.2.hook_mlp_out": () => undefined } }),
      "ERR_ARGUMENT",
      /blocks\.0\.hook_mlp_out.*got "blocks\.2\.hook_mlp_out"/,
    );
    refused(() => run(gpt, ids, { hooks: { [name]: 3 as never } }), "ERR_ARGUMENT", /function/);
    refused(() => run(gpt, ids, { stopAtLayer: 3 }), "ERR_RANGE");
    refused(() => run(t5, { source: ids, target: ids }, { stopAtLayer: 1 }), "ERR_ARGUMENT");
    refused(() => run<T5>(t5, ids as never), "ERR_ARGUMENT");
    refused(() => runWithCache(gpt, ids, { names: 3 as never }), "ERR_ARGUMENT");
    // @ts-expect-error there is no such value
    refused(() => runWithCache(gpt, ids, { names: ["hook_nothing"] }), "ERR_ARGUMENT");
    refused(() => replaceWith("a" as never), "ERR_ARGUMENT");
    const edited = (hook: Hook) => () => run(gpt, ids, { hooks: { [name]: hook } });
    refused(edited(replaceWith(zeros([3], { device }))), "ERR_SHAPE");
    refused(edited(replaceWith(zeros([1, 2, 5, 8], { device }))), "ERR_SHAPE");
    refused(edited(replaceWith(0, { heads: [0] })), "ERR_ARGUMENT", /expected no heads/);
    refused(edited(addTo(0, { positions: [5] })), "ERR_RANGE");
    using cache = runWithCache(gpt, ids, { names: name });
    expectError(() => cache.get("hook_embed"), "ERR_ARGUMENT");
  });
});
