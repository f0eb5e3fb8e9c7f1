import { argmax, generateTokens, GPT, type GptConfig, noGrad, scope, tensor } from "heed";
import type { Case, Setting } from "../case.js";

/** Greedy decoding of `count` tokens after a prompt, read into a KV cache first, for every sequence of a batch. */
export function decode(
  setting: Setting,
  label: string,
  config: GptConfig,
  { batch = 1, prompt, count }: { batch?: number; prompt: number; count: number },
): Case {
  const { layers, heads, width, vocabularySize: vocabulary } = config;
  return {
    ...setting,
    name: "decode",
    shape: `${label}: B${batch} ${prompt} + ${count} tokens`,
    work: { tokens: batch * count },
    peer: { name: "decode", layers, heads, width, vocabulary, batch, prompt, count },
    prepare() {
      const { device } = setting;
      const model = new GPT(config, { seed: 1, ...setting }).eval();
      const prompts = Array.from({ length: batch }, (_, b) =>
        Int32Array.from({ length: prompt }, (_, i) => ((b * prompt + i) * 7919) % vocabulary),
      );
      const run = async (): Promise<number[]> => {
        const results = await generateTokens(model, prompts, { maxTokens: count, temperature: 0 });
        return results[batch - 1]!.tokens;
      };
      return {
        run: async () => {
          await run();
        },
        verify: async () => {
          // The last token again, from the whole text at once.
          const text = [...prompts[batch - 1]!, ...(await run())];
          const whole = Int32Array.from(text.slice(0, -1));
          using again = noGrad(() =>
            scope(() => argmax(model.forward(tensor(whole, [1, whole.length], { device }), { lastOnly: true }))),
          );
          const got = (await again.data())[0];
          if (got !== text.at(-1)) throw new Error(`decode: expected token ${got}, got ${text.at(-1)}`);
        },
        dispose: () => model.dispose(),
      };
    },
  };
}
