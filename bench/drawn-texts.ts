import { type CausalModel, generateTokens, type LanguageModel } from "heed";

/** Most tokens of a drawn text after its first one. */
const mostDrawn = 255;

/** Most texts that are drawn side by side. */
const drawnTogether = 64;

/**
 * Returns `count` texts that a model draws at temperature 1: they begin with its first token and end where the context or
 * the model ends them.
 */
export async function drawnTexts(
  { model, tokenizer }: { model: CausalModel; tokenizer: LanguageModel["tokenizer"] },
  { count, seed, onProgress }: { count: number; seed: number; onProgress?: (texts: number) => void },
): Promise<Int32Array[]> {
  const start = tokenizer.encode("")[0] ?? 1; // texts of SentencePiece models begin with token 1
  const maxTokens = Math.min(mostDrawn, model.config.contextLength - 1);
  const texts: Int32Array[] = [];
  while (texts.length < count) {
    const prompts = Array.from({ length: Math.min(drawnTogether, count - texts.length) }, () => [start]);
    const options = { maxTokens, temperature: 1, seed: seed + texts.length };
    for (const { tokens } of await generateTokens(model, prompts, options))
      texts.push(Int32Array.from([start, ...tokens]));
    onProgress?.(texts.length);
  }
  return texts;
}
