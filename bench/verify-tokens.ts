import { type CausalDecoder, narrow, noGrad, scope, tensor } from "heed";

/** Throws unless the logit of each token after the prompt is within the margin of the highest one. */
export async function verifyTokens(
  model: CausalDecoder,
  prompt: Int32Array,
  tokens: readonly number[],
  margin: number,
): Promise<void> {
  const text = Int32Array.from([...prompt, ...tokens.slice(0, -1)]);
  const vocabulary = model.config.vocabularySize;
  using logits = noGrad(() =>
    scope(() => {
      const all = model.forward(tensor(text, [1, text.length], { device: model.device })); // [1, T, V]
      return narrow(all, 1, prompt.length - 1, tokens.length).to("f32");
    }),
  );
  const values = await logits.data();
  tokens.forEach((token, i) => {
    const row = values.subarray(i * vocabulary, (i + 1) * vocabulary);
    const short = row.reduce((a, b) => Math.max(a, b)) - row[token]!;
    if (!(short <= margin)) throw new Error(`token ${i}: expected the likeliest, got ${token}, ${short} below it`);
  });
}
