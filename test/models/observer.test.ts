// Compares what an observer sees of each family's attention with a computation in float64 and with the modules
// themselves.
import { describe, expect, test, vi } from "vitest";
import { detach, noGrad } from "../../lib/core/autograd.js";
import { Bert } from "../../lib/models/bert.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import type { Linear } from "../../lib/nn/linear.js";
import { Observer } from "../../lib/nn/observer.js";
import { ops } from "../../lib/core/native.js";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow } from "../../lib/ops/views.js";
import { keep, scope } from "../../lib/core/scope.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { dot, nd, type Nd } from "../support/nd.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";

const ids = [
  [5, 3, 3, 9, 7],
  [6, 2, 8, 1, 4],
];
const lengths = [5, 3];
const tiny = { vocabularySize: 11, contextLength: 8, layers: 2, width: 8 };
const pair = { sourceVocabularySize: 11, contextLength: 8, layers: 2, heads: 2, width: 8, startToken: 1, endToken: 2 };

/** An attention of a model, and how its values must be computed. */
interface Place {
  name: string;
  /** Returns its projections: [B, T, C] → queries, keys and values [B, T, H·D]. */
  projected: () => Record<"q" | "k" | "v", FloatTensor>;
  /** Returns true if the query at position i of sequence b sees key j. */
  sees?: (b: number, i: number, j: number) => boolean;
  /** Returns the score of a product, except for hidden keys. */
  score?: (product: number, h: number, i: number, j: number) => number;
  /** Scale of the products. @default 1/√D */
  scale?: number;
  rotary?: boolean;
}

interface Subject {
  name: string;
  run: (observer?: Observer) => FloatTensor;
  places: Place[];
}

const causal = (_: number, i: number, j: number): boolean => j <= i;
const inside = (b: number, _: number, j: number): boolean => j < lengths[b]!;

/** Returns the parts of a packed projection. */
function parts(x: FloatTensor, q: number, kv: number): Record<"q" | "k" | "v", FloatTensor> {
  return { q: narrow(x, 2, 0, q), k: narrow(x, 2, q, kv), v: narrow(x, 2, q + kv, kv) };
}

const each = (x: FloatTensor, q: Linear, k: Linear, v: Linear, of = x) => ({
  q: q.forward(x),
  k: k.forward(of),
  v: v.forward(of),
});

onEachDevice((device) => {
  const batch: IntTensor = tensor(Int32Array.from(ids.flat()), [2, 5], { device });
  const keyLengths = tensor(Int32Array.from(lengths), [2], { device });
  const options = (observer?: Observer) => (observer ? { observer } : {});

  function gpt(name: string, config: object, place: Partial<Place>): Subject {
    const model = shaken(new GPT({ ...tiny, heads: 4, ...config }, { device }));
    const { heads, kvHeads } = model.h[0]!.attn;
    return {
      name,
      run: (observer) => model.forward(batch, options(observer)),
      places: [
        {
          name: "blocks.0.attn",
          projected: () => {
            const words = model.wte.forward(batch);
            const x = model.h[0]!.ln_1.forward(model.wpe ? model.wpe.forward(words) : words);
            return parts(model.h[0]!.attn.c_attn.forward(x), 2 * heads, 2 * kvHeads);
          },
          sees: causal,
          ...place,
        },
      ],
    };
  }

  function llama(): Subject {
    const config = { ...tiny, heads: 4, kvHeads: 2, feedForwardWidth: 12, window: 2, qkNorm: true };
    const model = shaken(new Llama(config, { device }));
    const { input_layernorm: norm, self_attn: attn } = model.model.layers[0]!;
    return {
      name: "a Llama with grouped heads, norms of queries and keys, and a window",
      run: (observer) => model.forward(batch, options(observer)),
      places: [
        {
          name: "blocks.0.attn",
          projected: () => {
            const x = norm.forward(model.model.embed_tokens.forward(batch));
            return each(x, attn.q_proj, attn.k_proj, attn.v_proj);
          },
          sees: (_, i, j) => j <= i && j > i - 2,
          rotary: true,
        },
      ],
    };
  }

  function bert(): Subject {
    const model = shaken(new Bert({ ...tiny, heads: 2 }, { device }));
    const { query, key, value } = model.encoder.layer[0]!.attention.self;
    return {
      name: "a BERT with padding",
      run: (observer) => model.forward(batch, { keyLengths, ...options(observer) }),
      places: [
        {
          name: "blocks.0.attn",
          projected: () => each(model.embeddings.forward(batch, null, "f32"), query, key, value),
          sees: inside,
        },
      ],
    };
  }

  function encoderDecoder(): Subject {
    const model = shaken(new EncoderDecoder({ ...pair, positions: "none", scaleEmbeddings: false }, { device }));
    const [block] = model.decoder.h as [(typeof model.decoder.h)[0]];
    const words = (): FloatTensor => model.source.forward(batch);
    return {
      name: "the original Transformer",
      run: (observer) => model.forward(batch, batch, { sourceLengths: keyLengths, ...options(observer) }),
      places: [
        {
          name: "encoder.0.attn",
          projected: () => parts(model.encoder.h[0]!.attn.c_attn.forward(words()), 8, 8),
          sees: inside,
        },
        { name: "decoder.0.attn", projected: () => parts(block.attn.c_attn.forward(words()), 8, 8), sees: causal },
        {
          name: "decoder.0.cross_attn",
          projected: () => {
            const kv = block.cross.c_attn.forward(model.encode(batch, { lengths: keyLengths }));
            const h = block.ln_1.forward(block.attn.forward(words(), {}, words()));
            return { q: block.cross.q_attn.forward(h), k: narrow(kv, 2, 0, 8), v: narrow(kv, 2, 8, 8) };
          },
          sees: inside,
        },
      ],
    };
  }

  function t5(): Subject {
    const config = { ...tiny, heads: 2, headSize: 5, feedForwardWidth: 12, buckets: 8, furthest: 6 };
    const model = shaken(new T5(config, { device }), { std: (name) => (name.includes("relative") ? 1 : 0.3) });
    const { q, k, v, relative_attention_bias: bias } = model.encoder.block[0]!.layer[0].SelfAttention;
    let positions: Float32Array;
    scope(
      () =>
        void bias!
          .forward([0], 5, 5, "f32")
          .data()
          .then((data) => (positions = data)),
    );
    const words = (): FloatTensor => model.shared.forward(batch);
    return {
      name: "a T5",
      run: (observer) => model.forward(batch, batch, { sourceLengths: keyLengths, ...options(observer) }),
      places: [
        {
          name: "encoder.0.attn",
          projected: () => each(model.encoder.block[0]!.layer[0].layer_norm.forward(words()), q, k, v),
          sees: inside,
          scale: 1,
          score: (product, h, i, j) => product + positions[(h * 5 + i) * 5 + j]!,
        },
        {
          name: "decoder.0.cross_attn",
          projected: () => {
            const [attend, cross] = model.decoder.block[0]!.layer;
            const seen = attend.SelfAttention.relative_attention_bias!.forward([0], 5, 5, "f32");
            const h = attend.forward(words(), { relative: null, bias: seen });
            if (!("EncDecAttention" in cross)) throw new Error("expected a decoder's block");
            const { q, k, v } = cross.EncDecAttention;
            const source = model.encode(batch, { lengths: keyLengths });
            return each(cross.layer_norm.forward(h), q, k, v, source);
          },
          sees: inside,
          scale: 1,
        },
      ],
    };
  }

  const slopes = [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8];
  const subjects: (() => Subject)[] = [
    () => gpt("a GPT", {}, {}),
    () =>
      gpt(
        "a GPT with grouped heads that are normed and turned",
        { kvHeads: 2, qkNorm: true, positions: "rotary" },
        { rotary: true },
      ),
    () =>
      gpt(
        "a GPT with a softcap and ALiBi",
        { positions: "alibi", softcap: 0.5 },
        {
          score: (product, h, i, j) => 0.5 * Math.tanh(product / 0.5) - slopes[h]! * Math.abs(i - j),
        },
      ),
    llama,
    bert,
    encoderDecoder,
    t5,
  ];

  /** Runs a model while these values are observed; returns them and the model's output. */
  async function listened({ run }: Subject, names: string[]) {
    const seen = new Map<string, FloatTensor>();
    const hooks = names.map((name) => [name, (x: FloatTensor) => void seen.set(name, keep(detach(x)))] as const);
    using out = noGrad(() => run(new Observer(new Map(hooks) as never)));
    const values: Record<string, Nd> = {};
    for (const [name, x] of seen) {
      values[name] = nd(x.shape, await x.data());
      x.dispose();
    }
    return { out: await out.data(), values };
  }

  const close = { relative: 32, absolute: 32 };

  test.each(subjects)("%#: every value has the right name", async (make) => {
    const subject = make();
    using plain = noGrad(() => subject.run());
    const expected = await plain.data();
    const hooks = ["q", "k", "v", "attn_scores", "pattern", "z"].map((name) => `hook_${name}`);
    for (const { name, projected, sees = () => true, score, scale, rotary } of subject.places) {
      const all = [...hooks, ...(rotary ? ["hook_rot_q", "hook_rot_k"] : [])].map((hook) => `${name}.${hook}`);
      const { out, values } = await listened(subject, all);
      const of = (hook: string): Nd => values[`${name}.hook_${hook}`]!;
      expect(Object.keys(values).sort()).toEqual(all.sort());
      expectClose(`${name}: output`, out, expected, close);

      const own = noGrad(() => scope(projected));
      for (const part of ["q", "k", "v"] as const) {
        expectClose(`${name}: ${part}`, of(part).data, await own[part].data(), { relative: 16, absolute: 16 });
        own[part].dispose();
      }
      const [q, k, v] = rotary ? [of("rot_q"), of("rot_k"), of("v")] : [of("q"), of("k"), of("v")];
      const [B, T, H, D] = q.shape as [number, number, number, number];
      const [S, kvHeads] = k.shape.slice(1) as [number, number];
      const row = ({ shape, data }: Nd, b: number, t: number, h: number): Float64Array => {
        const head = shape[2] === H ? h : Math.floor((h * kvHeads) / H);
        const at = ((b * shape[1]! + t) * shape[2]! + head) * D;
        return data.subarray(at, at + D);
      };
      for (let b = 0; b < B; b++)
        for (let h = 0; h < H; h++)
          for (let i = 0; i < T; i++) {
            const at = ((b * H + h) * T + i) * S;
            const scores = Array.from({ length: S }, (_, j) => {
              const product = dot(row(q, b, i, h), row(k, b, j, h)) * (scale ?? 1 / Math.sqrt(D));
              return sees(b, i, j) ? (score?.(product, h, i, j) ?? product) : -Infinity;
            });
            expectClose(`${name}: scores`, of("attn_scores").data.subarray(at, at + S), scores, close);
            const exps = scores.map((s) => Math.exp(s - Math.max(...scores)));
            const total = exps.reduce((x, y) => x + y, 0);
            const pattern = exps.map((e) => e / total);
            expectClose(`${name}: pattern`, of("pattern").data.subarray(at, at + S), pattern, close);
            const z = Array.from({ length: D }, (_, d) =>
              pattern.reduce((sum, weight, j) => sum + weight * row(v, b, j, h)[d]!, 0),
            );
            expectClose(`${name}: z`, row(of("z"), b, i, h), z, close, 1);
          }

      // If no scores are requested, attention is fused and gives the same values.
      const fused = await listened(
        subject,
        ["q", "v", "z"].map((hook) => `${name}.hook_${hook}`),
      );
      expectClose(`${name}: fused z`, fused.values[`${name}.hook_z`]!.data, of("z").data, close);
    }
  });

  test.each(subjects)("%#: the result of a hook replaces the value", async (make) => {
    const subject = make();
    const [{ name }] = subject.places as [Place];
    using plain = noGrad(() => subject.run());
    const seen: FloatTensor[] = [];
    const look = (x: FloatTensor): undefined => void seen.push(keep(detach(x)));
    /** Weights that are twice as large, and their sum of values. */
    for (const hooks of [{}, { [`${name}.hook_pattern`]: (x: FloatTensor) => mul(x, 2) }])
      noGrad(() => subject.run(new Observer({ ...hooks, [`${name}.hook_z`]: look })).dispose());
    const [once, twice] = await Promise.all(seen.map((x) => x.data()));
    expectClose(
      "z",
      twice!,
      once!.map((x) => 2 * x),
      close,
    );
    using ablated = noGrad(() => subject.run(new Observer({ [`${name}.hook_z`]: (x) => mul(x, 0) })));
    expect(await ablated.data()).not.toEqual(await plain.data());
    for (const x of seen) x.dispose();
  });

  describe("a GPT", () => {
    const modelOf = (): GPT => shaken(new GPT({ ...tiny, heads: 2 }, { device }));

    test("with a cache of sequences that are not equally long, a step's pattern is the last row of the whole's", async () => {
      using model = modelOf();
      using cache = model.createCache(2);
      const patterns: FloatTensor[] = [];
      const observer = new Observer({ "blocks.1.attn.hook_pattern": (x) => void patterns.push(keep(detach(x))) });
      const next = tensor(Int32Array.of(9, 8), [2, 1], { device });
      noGrad(() => {
        scope(() => void model.forward(narrow(batch, 1, 0, 3), { cache, counts: [3, 2] }));
        model.forward(next, { cache, observer }).dispose();
        for (const b of [0, 1])
          scope(() => void model.forward(narrow(narrow(batch, 0, b, 1), 1, 0, 4 - b), { observer }));
      });
      const [step, ...whole] = await Promise.all(patterns.map((x) => x.data()));
      expect(patterns[0]!.shape).toEqual([2, 2, 1, 4]);
      for (const [b, rows] of whole.entries())
        for (const h of [0, 1]) {
          const length = 4 - b;
          const last = rows.subarray((h * length + length - 1) * length, (h + 1) * length * length);
          const row = step!.subarray((2 * b + h) * 4, (2 * b + h + 1) * 4);
          expectClose(`sequence ${b}`, row, [...last, ...Array<number>(b).fill(0)], close);
        }
      for (const x of patterns) x.dispose();
    });

    test("gradients go through observed values, once, also with checkpointing", async () => {
      using model = modelOf();
      const gradients: Float32Array[] = [];
      let calls = 0;
      const observer = new Observer({ "blocks.0.attn.hook_pattern": () => void (calls += 1) });
      for (const options of [{}, { observer }]) {
        model.gradientCheckpointing = true;
        scope(() => sum(mul(model.forward(batch, options), 0.1)).backward());
        gradients.push(await model.h[0]!.attn.c_attn.weight.grad!.data());
        model.zeroGrad();
      }
      expect(calls).toBe(1);
      expectClose("gradient", gradients[1]!, gradients[0]!, { relative: 64, absolute: 64 });
    });

    test("an observer of other values costs no launch", () => {
      using model = modelOf();
      const launches = (observer?: Observer): string[] => {
        const names: string[] = [];
        const all = ops as unknown as Record<string, (...args: unknown[]) => unknown>;
        const spies = Object.entries(all).map(([name, original]) =>
          vi.spyOn(all, name).mockImplementation((...args) => {
            names.push(name);
            return original(...args);
          }),
        );
        noGrad(() => model.forward(batch, options(observer)).dispose());
        for (const spy of spies) spy.mockRestore();
        return names;
      };
      const usual = launches();
      expect(usual.length).toBeGreaterThan(5);
      expect(launches(new Observer({ "blocks.7.attn.hook_pattern": () => undefined }))).toEqual(usual);
      expect(launches(new Observer({ "blocks.1.attn.hook_pattern": () => undefined }))).not.toEqual(usual);
    });

    test("refuses objects that are not observers, and hooks that return something else", () => {
      using model = modelOf();
      const run = (hook: unknown) => () =>
        noGrad(() =>
          scope(() => model.forward(batch, { observer: new Observer({ "blocks.0.attn.hook_z": hook as never }) })),
        );
      expectError(() => model.forward(batch, { observer: {} as never }), "ERR_ARGUMENT", /Observer/);
      expectError(run(3), "ERR_ARGUMENT", /function/);
      expectError(
        run(() => 3),
        "ERR_ARGUMENT",
        /blocks\.0\.attn\.hook_z.*tensor/,
      );
      expectError(
        run(() => zeros([2, 5, 2, 3], { device })),
        "ERR_SHAPE",
        /hook_z/,
      );
      expectError(
        run(() => zeros([2, 5, 2, 4], { device, dtype: "bf16" })),
        "ERR_DTYPE",
        /hook_z/,
      );
    });
  });
});
