import { describe, expect, test } from "vitest";
import { device } from "../../lib/core/device.js";
import { HeedError } from "../../lib/util/errors.js";
import { GPT } from "../../lib/models/gpt.js";
import { Embedding } from "../../lib/nn/embedding.js";
import { Initializer } from "../../lib/nn/init.js";
import { KvCache } from "../../lib/nn/kv-cache.js";
import { Linear } from "../../lib/nn/linear.js";
import { randn } from "../../lib/core/creation.js";
import { onEachDevice } from "../support/targets.js";

onEachDevice((name) => {
  const tiny = { vocabularySize: 11, contextLength: 8, layers: 2, heads: 2, width: 8 };

  function codeOf(body: () => unknown): string {
    try {
      body();
    } catch (error) {
      if (error instanceof HeedError) return error.code;
      throw error;
    }
    return "no error";
  }

  async function stateOf(model: GPT) {
    const entries = Object.entries(model.stateDict()).map(
      async ([name, t]) => [name, { shape: t.shape, values: await t.data() }] as const,
    );
    return Object.fromEntries(await Promise.all(entries));
  }

  describe("Module", () => {
    test("a GPT's parameters have the names and layouts of GPT-2's checkpoints", () => {
      using model = new GPT(tiny);
      const shapes = Object.fromEntries(Object.entries(model.stateDict()).map(([name, t]) => [name, t.shape]));
      const block = (i: number) => ({
        [`h.${i}.ln_1.weight`]: [8],
        [`h.${i}.ln_1.bias`]: [8],
        [`h.${i}.attn.c_attn.weight`]: [8, 24],
        [`h.${i}.attn.c_attn.bias`]: [24],
        [`h.${i}.attn.c_proj.weight`]: [8, 8],
        [`h.${i}.attn.c_proj.bias`]: [8],
        [`h.${i}.ln_2.weight`]: [8],
        [`h.${i}.ln_2.bias`]: [8],
        [`h.${i}.mlp.c_fc.weight`]: [8, 32],
        [`h.${i}.mlp.c_fc.bias`]: [32],
        [`h.${i}.mlp.c_proj.weight`]: [32, 8],
        [`h.${i}.mlp.c_proj.bias`]: [8],
      });
      expect(shapes).toEqual({
        "wte.weight": [11, 8],
        "wpe.weight": [8, 8],
        ...block(0),
        ...block(1),
        "ln_f.weight": [8],
        "ln_f.bias": [8],
      });
      // 124,439,808 is the published size of GPT-2; the formula follows from its shapes.
      const [V, T, C, L] = [11, 8, 8, 2];
      expect(model.parameterCount()).toBe(V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C);
    });

    test("GPT-2 has 124,439,808 parameters", () => {
      const [V, T, C, L] = [50257, 1024, 768, 12];
      expect(V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C).toBe(124_439_808);
    });

    test("train() and eval() reach every module", () => {
      using model = new GPT(tiny);
      model.eval();
      expect([...model.modules()].every(([, module]) => !module.training)).toBe(true);
      model.train();
      expect([...model.modules()].every(([, module]) => module.training)).toBe(true);
    });

    test("a state dict can be read and loaded again", async () => {
      using from = new GPT(tiny, { seed: 1 });
      using to = new GPT(tiny, { seed: 2 });
      const state = await stateOf(from);
      to.loadStateDict(state);
      expect(await stateOf(to)).toEqual(state);
    });

    test("a state dict that does not fit changes nothing", async () => {
      using model = new GPT(tiny, { seed: 1 });
      using other = new GPT(tiny, { seed: 2 });
      const before = await stateOf(model);
      const state = await stateOf(other);
      const { "ln_f.bias": _, ...missing } = state;
      expect(codeOf(() => model.loadStateDict(missing))).toBe("ERR_FORMAT");
      expect(codeOf(() => model.loadStateDict({ ...state, surplus: { shape: [1], values: [1] } }))).toBe("ERR_FORMAT");
      const wrong = { shape: [8, 11], values: new Float32Array(88) };
      expect(codeOf(() => model.loadStateDict({ ...state, "wte.weight": wrong }))).toBe("ERR_SHAPE");
      expect(await stateOf(model)).toEqual(before);
    });

    test("dispose() frees parameters and gradients", async () => {
      const before = device().memory().live;
      const model = new GPT(tiny);
      expect(device().memory().live).toBeGreaterThan(before);
      model.dispose();
      expect(device().memory().live).toBe(before);
      await device().synchronize();
    });
  });

  describe("Initializer", () => {
    test("the same seed gives the same parameters, another one others", async () => {
      using a = new GPT(tiny, { seed: 1 });
      using b = new GPT(tiny, { seed: 1 });
      using c = new GPT(tiny, { seed: 2 });
      expect(await stateOf(a)).toEqual(await stateOf(b));
      expect((await stateOf(a))["wte.weight"]!.values).not.toEqual((await stateOf(c))["wte.weight"]!.values);
    });

    test("weights are normal with the given deviation, residual projections smaller by √(2L), biases 0, scales 1", async () => {
      using model = new GPT({ vocabularySize: 500, contextLength: 8, layers: 2, heads: 4, width: 64 }, { seed: 3 });
      const state = await stateOf(model);
      const deviation = (name: string): number => {
        const values = Array.from(state[name]!.values);
        const mean = values.reduce((s, x) => s + x, 0) / values.length;
        return Math.sqrt(values.reduce((s, x) => s + (x - mean) ** 2, 0) / values.length);
      };
      // The deviation of n samples has a relative error of 1/√(2n); the test allows five times that, for n of at least
      // 4,096.
      expect(deviation("wte.weight") / 0.02).toBeCloseTo(1, 1);
      expect(Math.abs(deviation("h.0.attn.c_attn.weight") / 0.02 - 1)).toBeLessThan(0.055);
      expect(Math.abs(deviation("h.1.mlp.c_proj.weight") / 0.01 - 1)).toBeLessThan(0.055);
      expect(new Set(state["h.0.mlp.c_fc.bias"]!.values)).toEqual(new Set([0]));
      expect(new Set(state["ln_f.weight"]!.values)).toEqual(new Set([1]));
      expect(state["h.0.attn.c_attn.weight"]!.values).not.toEqual(state["h.1.attn.c_attn.weight"]!.values);
    });
  });

  describe("bad configurations", () => {
    const init = new Initializer(0, device(name));

    test.each([
      ["ERR_RANGE", { ...tiny, layers: 0 }],
      ["ERR_RANGE", { ...tiny, vocabularySize: 1.5 }],
      ["ERR_RANGE", { ...tiny, dropout: 1.5 }],
      ["ERR_RANGE", { ...tiny, eps: NaN }],
      ["ERR_SHAPE", { ...tiny, heads: 3 }],
      ["ERR_ARGUMENT", { ...tiny, activation: "swish" as never }],
      ["ERR_ARGUMENT", null as never],
    ])("GPT: %s for %o", (code, config) => {
      expect(codeOf(() => new GPT(config))).toBe(code);
    });

    test("too many tokens, an unready cache and a wrong layer are refused", () => {
      using model = new GPT(tiny);
      expect(codeOf(() => model.createCache(1, 9))).toBe("ERR_RANGE");
      using cache = model.createCache(2, 4);
      expect(codeOf(() => cache.starts)).toBe("ERR_ARGUMENT");
      expect(codeOf(() => cache.begin(5))).toBe("ERR_RANGE");
      for (const tokens of [-1, 0, 1.5, NaN]) expect(codeOf(() => cache.begin(tokens))).toBe("ERR_RANGE");
      for (const counts of [
        [3, 1],
        [2, 0],
        [1, NaN],
      ])
        expect(codeOf(() => cache.begin(2, counts))).toBe("ERR_RANGE");
      expect(codeOf(() => cache.begin(2, [1]))).toBe("ERR_SHAPE");
      cache.begin(2);
      using k = randn([2, 2, 2, 4], { seed: 1 });
      expect(codeOf(() => cache.write(2, k, k))).toBe("ERR_RANGE");
      expect(
        codeOf(() => new KvCache({ layers: 1, batch: 0, length: 1, heads: 1, headSize: 1, device: model.device })),
      ).toBe("ERR_RANGE");
    });

    test("modules refuse inputs of another width", () => {
      using layer = new Linear({ inputs: 3, outputs: 2 }, init);
      using table = new Embedding({ count: 3, width: 2 }, init);
      using x = randn([2, 4], { seed: 1 });
      expect(codeOf(() => layer.forward(x))).toBe("ERR_SHAPE");
      expect(codeOf(() => table.forward(x as never))).toBe("ERR_DTYPE");
    });
  });
});
