import { noGrad } from "../../core/autograd.js";
import { topk } from "../../ops/choose.js";
import { softmax } from "../../ops/softmax.js";
import { narrow } from "../../ops/views.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import type { ActivationCache } from "../activation-cache.js";
import type { HookName, InspectedDecoder } from "../hook-names.js";
import type { LensData } from "./data.js";

const most = 5;
/** Number of tokens whose logits are computed at a time: those of a whole text would take gigabytes. */
const tokensAtOnce = 32;

/**
 * Resolves to the likeliest next tokens if each block were the last (the logit lens). The cache has the residual stream
 * before each block and the output.
 */
export async function lensOf(
  model: InspectedDecoder,
  cache: ActivationCache<HookName>,
  textOf: (id: number) => string,
): Promise<LensData> {
  const { layers, vocabularySize } = model.config;
  const count = Math.min(most, vocabularySize);
  const texts = new Map<string, number>();
  const [top, probabilities]: [number[], number[]] = [[], []];
  const add = async (logits: FloatTensor): Promise<void> => {
    const best = noGrad(() => scope(() => topk(softmax(logits.to("f32")), count)));
    for (const id of await best.ids.data()) {
      const text = textOf(id);
      if (!texts.has(text)) texts.set(text, texts.size);
      top.push(texts.get(text)!);
    }
    for (const share of await best.values.data()) probabilities.push(Number(share.toFixed(4)));
    best.ids.dispose();
    best.values.dispose();
  };
  for (let layer = 0; layer <= layers; layer++) {
    const stream = layer < layers ? cache.get(`blocks.${layer}.hook_resid_pre`) : cache.output;
    const tokens = stream.shape[1]!;
    for (let start = 0; start < tokens; start += tokensAtOnce) {
      using logits = noGrad(() =>
        scope(() => {
          const part = narrow(stream, 1, start, Math.min(tokensAtOnce, tokens - start));
          return layer < layers ? model.unembed(part) : part;
        }),
      );
      await add(logits);
    }
  }
  const rows = Array.from({ length: layers }, (_, layer) => (layer === 0 ? "embedding" : `after layer ${layer - 1}`));
  return { rows: [...rows, "output"], sequence: 0, count, texts: [...texts.keys()], top, probabilities };
}
