/** Hooks in generation: cached passes see and give what a pass over the whole text does. */
import { beforeAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { randn, tensor } from "../../lib/core/creation.js";
import { beamSearch } from "../../lib/generate/beam-search.js";
import { generate } from "../../lib/generate/generate-text.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { score } from "../../lib/generate/score.js";
import { translate } from "../../lib/generate/translate.js";
import { addTo, hookNames, type HooksOf, replaceWith, run, runWithCache, withHooks } from "../../lib/inspect/index.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import type { Hook } from "../../lib/nn/observer.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { shaken } from "../support/shaken.js";
import { oneDevice, testUnless } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";

const sizes = { vocabularySize: 17, contextLength: 12, layers: 2, width: 8, heads: 4 };
const greedy = { maxTokens: 4, temperature: 0 };

onEachDevice((device) => {
  const makers = {
    gpt: () => shaken(new GPT({ ...sizes, kvHeads: 2, positions: "alibi" }, { device })),
    llama: () => shaken(new Llama({ ...sizes, kvHeads: 2, feedForwardWidth: 12 }, { device })),
  };

  // The software device is slow, and one model of a kind launches every kernel.
  const slow = device !== "cpu";
  describe.each(slow ? (["llama"] as const) : (["gpt", "llama"] as const))("%s", (family) => {
    let model: GPT | Llama;
    beforeAll(() => void (model = makers[family]()));

    test("cached decoding shows hooks what a whole run shows them", async () => {
      const seen = new Map<string, { shape: readonly number[]; read: Promise<Float32Array> }[]>();
      const names = hookNames(model);
      const reader: Hook = (value, name) => {
        seen.set(name, [...(seen.get(name) ?? []), { shape: value.shape, read: value.data() }]);
        return undefined;
      };
      const hooks = Object.fromEntries(names.map((name) => [name, reader])) as HooksOf<GPT | Llama>;
      const prompt = [5, 3, 9];
      const [found] = await generateTokens(withHooks(model, hooks), [prompt], greedy);
      const { tokens } = found!;
      const [plain] = await generateTokens(model, [prompt], greedy);
      expect(tokens).toEqual(plain!.tokens);
      // The last token is not fed back.
      const whole = [...prompt, ...tokens].slice(0, 6);
      using cache = runWithCache(model, tensor(Int32Array.from(whole), [1, 6], { device }), { names });
      for (const name of names) {
        const parts = seen.get(name)!.slice(0, 4);
        const expected = cache.get(name);
        const data = await expected.data();
        const queries = /hook_(attn_scores|pattern)$/.test(name);
        const [, heads, rows, keys] = expected.shape as [number, number, number, number];
        let position = 0;
        for (const [i, { shape, read }] of parts.entries()) {
          const count = shape[queries ? 2 : 1]!;
          expect(count, name).toBe(i === 0 ? 3 : 1);
          const got = await read;
          if (!queries) {
            const size = expected.size / 6;
            expectNear(name, got, data.slice(position * size, (position + count) * size), 2e-5);
          } else
            for (let h = 0; h < heads; h++)
              for (let t = 0; t < count; t++) {
                const at = (h * rows + position + t) * keys;
                const row = Array.from({ length: shape[3]! }, (_, s) => got[(h * count + t) * shape[3]! + s]!);
                const want = Array.from(data.slice(at, at + shape[3]!));
                expectNear(name, row.filter(Number.isFinite), want.filter(Number.isFinite), 2e-5);
              }
          position += count;
        }
      }
    });

    // The software device is slow, and what follows has no kernels of its own.
    testUnless(device !== "cpu" && oneDevice)(
      "a steered text is that of steered passes over the whole text, alone and beside others",
      async () => {
        using vector = randn([8], { seed: 4, device, std: 2 });
        const hooks = {
          "blocks.1.hook_resid_pre": addTo(vector),
          "blocks.0.attn.hook_z": replaceWith(0, { heads: [2] }),
        };
        const hooked = withHooks(model, hooks);
        const prompts = [[5, 3, 9, 2], [7], [1, 16]];
        const together = await generateTokens(hooked, prompts, greedy);
        const plain = await generateTokens(model, prompts, greedy);
        expect(together).not.toEqual(plain);
        for (const [i, prompt] of prompts.entries()) {
          const text = [...prompt];
          for (let n = 0; n < 4; n++) {
            using ids = tensor(Int32Array.from(text), [1, text.length], { device });
            using logits = noGrad(() => run<GPT | Llama>(model, ids, { hooks }));
            const last = (await logits.data()).slice(-17);
            text.push(last.indexOf(Math.max(...last)));
          }
          expect(together[i]!.tokens).toEqual(text.slice(prompt.length));
        }
        // Beam search with one beam is greedy, and scores are those of the hooked model.
        const [beams] = await beamSearch(hooked, [prompts[0]!], { beams: 1, maxTokens: 4 });
        expect(beams![0]!.tokens).toEqual(together[0]!.tokens);
        const [with_, without] = [await score(hooked, prompts[0]!), await score(model, prompts[0]!)];
        expect(with_.total).not.toBeCloseTo(without.total, 3);
      },
    );
  });

  test("the hooks of the last norm see all tokens of a pass", async () => {
    using gpt = makers.gpt();
    const shapes: (readonly number[])[] = [];
    const hook: Hook = ({ shape }) => void shapes.push(shape);
    await generateTokens(withHooks(gpt, { "ln_final.hook_normalized": hook }), [[1, 2, 3], [4]], {
      ...greedy,
      maxTokens: 2,
    });
    expect(shapes.slice(0, 2)).toEqual([
      [2, 3, 8],
      [2, 1, 8],
    ]);
  });

  test.each(slow ? (["t5"] as const) : (["t5", "encoder–decoder"] as const))(
    "%s: translates with hooks on both sides",
    async (family) => {
      const pair = { ...sizes, decoderLayers: 1, startToken: 1, endToken: 2 };
      using model =
        family === "t5"
          ? shaken(new T5({ ...pair }, { device }))
          : shaken(new EncoderDecoder({ ...pair, sourceVocabularySize: 17 }, { device }));
      const hooks = {
        "encoder.1.hook_mlp_out": replaceWith(0),
        "decoder.0.cross_attn.hook_z": (x: FloatTensor) => addTo(0.5)(x, ""),
      };
      const sources = [[5, 6, 7], [8]];
      const options = { beams: 1, maxTokens: 3 };
      const found = await translate(withHooks(model, hooks), sources, options);
      expect(found).not.toEqual(await translate(model, sources, options));
      for (const [i, source] of sources.entries()) {
        const target = [1];
        for (let n = 0; n < 3 && target.at(-1) !== 2; n++) {
          const input = {
            source: tensor(Int32Array.from(source), [1, source.length], { device }),
            target: tensor(Int32Array.from(target), [1, target.length], { device }),
          };
          using logits = noGrad(() => run<T5 | EncoderDecoder>(model, input, { hooks }));
          const last = (await logits.data()).slice(-17);
          target.push(last.indexOf(Math.max(...last)));
        }
        expect(found[i]![0]!.tokens).toEqual(target.slice(1).filter((token) => token !== 2));
      }
    },
  );

  test("a loaded model generates with hooks, outside of its shared batch", async () => {
    using model = new LanguageModel({
      model: shaken(new GPT({ ...sizes, vocabularySize: 256, contextLength: 32 }, { device })),
      tokenizer: new ByteTokenizer(),
    });
    using vector = randn([8], { seed: 4, device, std: 3 });
    const hooks = { "blocks.1.hook_resid_pre": addTo(vector) };
    const options = { maxTokens: 5, temperature: 0 };
    // Requests without hooks run beside it and do not see them.
    const [plain, steered, again] = await Promise.all([
      model.generate("ab", options),
      model.generate("ab", { ...options, hooks }),
      model.generate("ab", options),
    ]);
    expect(steered.tokens).not.toEqual(plain.tokens);
    expect(again.tokens).toEqual(plain.tokens);
    const own = await generate(withHooks(model.model, hooks), new ByteTokenizer(), "ab", options);
    expect(steered.tokens).toEqual(own.tokens);
    expectError(() => model.generate("ab", { hooks, n: 2 }), "ERR_ARGUMENT", /hooks/);
    expectError(() => model.generate("ab", { hooks: { hook_x: addTo(1) } as never }), "ERR_ARGUMENT", /hook_embed/);
  });

  test("refuses bad input", () => {
    using gpt = makers.gpt();
    expectError(() => withHooks(gpt, { "blocks.2.hook_mlp_out": replaceWith(0) }), "ERR_ARGUMENT");
    expectError(() => withHooks(gpt, { hook_embed: 3 as never }), "ERR_ARGUMENT");
    expectError(() => withHooks(gpt, null as never), "ERR_ARGUMENT");
    expectError(() => withHooks({} as never, {}), "ERR_ARGUMENT");
  });
});
