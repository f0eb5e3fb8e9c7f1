import { noGrad } from "../../core/autograd.js";
import { checkArray, checkInteger, checkObject } from "../../util/check.js";
import { HeedError } from "../../util/errors.js";
import { topk } from "../../ops/choose.js";
import { greater, mul } from "../../ops/binary.js";
import { matmul } from "../../ops/matmul.js";
import { sum } from "../../ops/reduce.js";
import { contiguous } from "../../ops/views.js";
import { keep, scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import { activationsOf, type CorpusOptions, rowsAt, type StackHookName, type TokenSequences } from "../corpus.js";
import type { InspectedDecoder } from "../hook-names.js";
import { unembeddingMatrix, withNorm } from "../module-weights.js";
import { type TopActivation, TopCollector } from "../top-activations.js";
import type { SparseAutoencoder } from "./sparse-autoencoder.js";

/** Options of `featureDashboards`. */
export interface DashboardOptions extends CorpusOptions {
  /** Value that the autoencoder takes apart. @default its `config.hookName` */
  name?: StackHookName;
  /** Indices of the features. @default all */
  features?: readonly number[];
  /** Number of activations that are kept for each feature. @default 10 */
  k?: number;
  /** Number of tokens that are kept on each side of an activation. @default 16 */
  context?: number;
  /** Number of tokens whose logits a feature raises or lowers most. @default 10 */
  tokens?: number;
}

/** Token, and how much a feature adds to its logit before the last norm divides it. */
export interface TokenEffect {
  token: number;
  effect: number;
}

/** Figures and examples that tell what a feature stands for. */
export interface FeatureDashboard {
  /** Index of the feature. */
  feature: number;
  /** Share of the tokens at which it is active. */
  frequency: number;
  /** Mean of its activations where it is active; 0 if it never is. */
  meanActivation: number;
  /** Its largest activations, with the tokens around them. Those of tokens at which it is not active are left out. */
  top: TopActivation[];
  /** Tokens whose logits its direction raises most; empty if the value is not a part of the residual stream. */
  raised: TokenEffect[];
  /** Tokens whose logits its direction lowers most; empty if the value is not a part of the residual stream. */
  lowered: TokenEffect[];
}

/**
 * Resolves to what tells the meaning of features: how often they are active, where most, and which tokens their directions
 * speak for. The corpus is streamed.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const sae = new SparseAutoencoder({ width: 16, features: 64, hookName: "blocks.1.hook_resid_pre" });
 * for (const { feature, frequency, top } of await featureDashboards(sae, gpt, corpus, { features: [0, 1] }))
 *   console.log(feature, frequency, top.map(({ context }) => tokenizer.decode(context)));
 *
 * @throws ERR_ARGUMENT if the corpus is empty, or there is no name of a value; ERR_RANGE if there is no such feature;
 *   ERR_SHAPE if a token of the value has another number of elements than the autoencoder expects.
 */
export async function featureDashboards(
  sae: SparseAutoencoder,
  model: InspectedDecoder,
  corpus: TokenSequences,
  options: DashboardOptions = {},
): Promise<FeatureDashboard[]> {
  const op = "featureDashboards";
  checkObject(op, "options", options);
  const { name = sae.config.hookName as StackHookName | null, batch, features: chosen, tokens = 10, ...kept } = options;
  if (name === null) throw new HeedError("ERR_ARGUMENT", `${op}: expected the name of a value, got none`);
  checkInteger(op, "tokens", tokens, 1);
  if (chosen) checkArray(op, "features", chosen);
  const units = chosen ?? Array.from({ length: sae.config.features }, (_, i) => i);
  for (const [i, unit] of units.entries()) checkInteger(op, `features[${i}]`, unit, 0, sae.config.features - 1);
  const collector = new TopCollector(op, { ...kept, units });
  const [counts, sums] = [new Float64Array(sae.config.features), new Float64Array(sae.config.features)];
  let count = 0;
  for await (const part of activationsOf(op, model, corpus, { names: [name], batch })) {
    const rows = part.rows.get(name)!;
    sae.checkInput(op, rows);
    using features = noGrad(() => keep(sae.encode(rows)));
    const reads = noGrad(() =>
      scope(() => ({
        active: sum(greater(features, 0), { axes: [0] }).data(),
        total: sum(features, { axes: [0] }).data(),
      })),
    );
    await collector.add(part, features);
    for (const [i, x] of (await reads.active).entries()) counts[i]! += x;
    for (const [i, x] of (await reads.total).entries()) sums[i]! += x;
    count += rows.shape[0]!;
  }
  const top = collector.result();
  const effects = await effectsOf(sae, model, name, units, tokens);
  return units.map((feature, i) => ({
    feature,
    frequency: counts[feature]! / count,
    meanActivation: counts[feature] === 0 ? 0 : sums[feature]! / counts[feature]!,
    top: top[i]!.filter(({ value }) => value > 0),
    ...(effects?.[i] ?? { raised: [], lowered: [] }),
  }));
}

type Effects = Pick<FeatureDashboard, "raised" | "lowered">;

/** Resolves to the tokens that directions raise and lower; null if they are not directions of the residual stream. */
async function effectsOf(
  sae: SparseAutoencoder,
  model: InspectedDecoder,
  name: string,
  units: readonly number[],
  count: number,
): Promise<Effects[] | null> {
  if (!/hook_(resid|attn_out|mlp_out|embed|pos_embed)/.test(name)) return null;
  const kept = Math.min(count, model.config.vocabularySize);
  const reads = noGrad(() =>
    scope(() => {
      const logits = withNorm(unembeddingMatrix(model), model.finalNorm);
      const effects = matmul(rowsAt(contiguous(sae.W_dec), units), logits); // [units, V]
      const most = (x: FloatTensor): { ids: Promise<Int32Array>; values: Promise<Float32Array> } => {
        const { ids, values } = topk(x, kept);
        return { ids: ids.data(), values: values.data() };
      };
      return { raised: most(effects), lowered: most(mul(effects, -1)) };
    }),
  );
  const listOf = async ({ ids, values }: (typeof reads)["raised"], sign: number): Promise<TokenEffect[][]> => {
    const [tokens, sizes] = await Promise.all([ids, values]);
    return units.map((_, unit) =>
      Array.from({ length: kept }, (_, i) => ({
        token: tokens[unit * kept + i]!,
        effect: sign * sizes[unit * kept + i]!,
      })),
    );
  };
  const [raised, lowered] = await Promise.all([listOf(reads.raised, 1), listOf(reads.lowered, -1)]);
  return units.map((_, i) => ({ raised: raised[i]!, lowered: lowered[i]! }));
}
