import { argmax, GPT, gpt2Sizes, type IntTensor, noGrad, reshape, scope, tensor } from "heed";
import { type Case } from "../case.js";

/** Greedy decoding of `count` tokens after a prompt, one by one with a KV cache. */
function decode(size: keyof typeof gpt2Sizes, prompt: number, count: number): Case {
  return {
    name: "decode",
    shape: `${size}: ${prompt} + ${count} tokens`,
    dtype: "f32",
    work: { tokens: count },
    peer: { name: "decode", ...gpt2Sizes[size], vocabulary: 50257, prompt, count },
    prepare() {
      const model = new GPT({ vocabularySize: 50257, contextLength: 1024, ...gpt2Sizes[size] }, { seed: 1 }).eval();
      const start = Int32Array.from({ length: prompt }, (_, i) => (i * 7919) % 50257);
      // The prompt is read once; every run decodes anew from there.
      const cache = model.createCache(1);
      const next = (ids: IntTensor): IntTensor =>
        noGrad(() => scope(() => reshape(argmax(model.forward(ids, { cache, lastOnly: true })), [1, 1])));
      const first = scope(() => next(tensor(start, [1, prompt])));
      const run = async (): Promise<number[]> => {
        cache.lengths.fill(prompt);
        const out: number[] = [];
        let ids = reshape(first, [1, 1]);
        for (let i = 0; i < count; i++) {
          const chosen = next(ids);
          ids.dispose();
          ids = chosen;
          out.push(await ids.item());
        }
        ids.dispose();
        return out;
      };
      return {
        run: async () => {
          await run();
        },
        verify: async () => {
          // The last token again, from the whole text at once.
          const text = [...start, await first.item(), ...(await run())];
          const whole = Int32Array.from(text.slice(0, -1));
          using again = noGrad(() =>
            scope(() => argmax(model.forward(tensor(whole, [1, whole.length]), { lastOnly: true }))),
          );
          const got = (await again.data())[0];
          if (got !== text.at(-1)) throw new Error(`decode: expected token ${got}, got ${text.at(-1)}`);
        },
        dispose: () => {
          first.dispose();
          cache.dispose();
          model.dispose();
        },
      };
    },
  };
}

export const decodeCases: Case[] = [decode("gpt2", 64, 16)];
