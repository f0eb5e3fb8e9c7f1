import { noGrad } from "../autograd.js";
import { checkChoice, checkFunction, checkInteger, checkObject } from "../check.js";
import { randn } from "../creation.js";
import { HeedError } from "../errors.js";
import { mul } from "../ops/binary.js";
import { checkFloat, checkTensor } from "../ops/check.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { addTo, type EditPlace, replaceWith } from "./edits.js";
import type { DecoderHookName, InspectedDecoder } from "./hook-names.js";
import { type HooksOf, run, type RunOptions, runWithCache } from "./run.js";

const sites = ["hook_resid_pre", "hook_attn_out", "hook_mlp_out", "attn.hook_z"] as const;

/** Value that `activationPatching` patches: a residual stream, a part's output, or the values of the heads. */
export type PatchSite = (typeof sites)[number];

/** Options of `activationPatching`. */
export type PatchingOptions = Omit<RunOptions<InspectedDecoder>, "stopAtLayer"> & {
  /** Ids i32 [B, T] of the run whose values are restored. */
  clean: IntTensor;
  /** Returns what is measured, a tensor of one element, from logits [B, T, V]. */
  metric: (logits: FloatTensor) => FloatTensor;
  /** Value that is patched. `attn.hook_z` is patched head by head, all others position by position. */
  site: PatchSite;
  /** Number of neighbouring blocks that are patched together. @default 1 */
  window?: number;
};

/** Metrics of a clean run, of the corrupted run, and of the corrupted run with one place patched at a time. */
export interface PatchingGrid {
  clean: number;
  corrupted: number;
  /** `patched[layer][position]`, or `patched[layer][head]` for `attn.hook_z`. */
  patched: number[][];
}

/**
 * Resolves to a grid of metrics: a corrupted run in which one place at a time has the value that it has in a clean run.
 * Where the metric comes back, the place carries what the corruption destroyed. The hooks of the options belong to the
 * corrupted run.
 *
 * @param corrupted ids i32 [B, T] of the corrupted run, as long as the clean ones
 *
 * @example
 * const ids = (text: string) => tensor(tokenizer.encode(text), [1, text.length]);
 * const metric = (logits: FloatTensor) => logitDifference(logits, [97], [98]);
 * const options = { clean: ids("abab"), metric, site: "hook_resid_pre" } as const;
 * const { patched } = await activationPatching(gpt, ids("cbcb"), options); // 2 blocks · 4 positions
 *
 * @throws the errors of `run`; ERR_SHAPE if the runs differ in shape or the metric has several elements.
 * @see Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022, arXiv:2202.05262.
 */
export async function activationPatching(
  model: InspectedDecoder,
  corrupted: IntTensor,
  options: PatchingOptions,
): Promise<PatchingGrid> {
  const op = "activationPatching";
  checkTensor(op, "corrupted", corrupted);
  checkObject(op, "options", options);
  const { clean, metric, site, window = 1, hooks, ...rest } = options;
  checkTensor(op, "clean", clean, corrupted);
  checkFunction(op, metric);
  checkChoice(op, "site", site, sites);
  const { layers, heads } = model.config;
  checkInteger(op, "window", window, 1, layers);
  if (String(clean.shape) !== String(corrupted.shape))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected clean ids of shape [${corrupted.shape.join(", ")}], got ${clean}`,
    );
  using cache = runWithCache(model, clean, { ...rest, names: (name) => name.endsWith(site) });
  const measured = (logits: () => FloatTensor): Promise<number> => reading(op, () => metric(logits()));
  const runs = (more: HooksOf<InspectedDecoder>): FloatTensor =>
    run(model, corrupted, { ...rest, hooks: { ...hooks, ...more } });
  const places = Array.from({ length: site === "attn.hook_z" ? heads : corrupted.shape[1]! }, (_, i) =>
    site === "attn.hook_z" ? { heads: [i] } : { positions: [i] },
  );
  const patchedAt = (layer: number, place: EditPlace): Promise<number> => {
    const names = windowOf(layer, window, layers).map((near): DecoderHookName => `blocks.${near}.${site}`);
    const patches = names.map((name) => [name, replaceWith(cache.get(name), place)] as const);
    return measured(() => runs(Object.fromEntries(patches)));
  };
  const [whole, broken, ...grid] = await Promise.all([
    measured(() => cache.output),
    measured(() => runs({})),
    ...Array.from({ length: layers }, (_, layer) => places.map((place) => patchedAt(layer, place))).flat(),
  ]);
  const patched = Array.from({ length: layers }, (_, layer) =>
    grid.slice(layer * places.length, (layer + 1) * places.length),
  );
  return { clean: whole, corrupted: broken, patched };
}

/** Options of `causalTrace`. */
export type CausalTraceOptions = Omit<PatchingOptions, "clean"> & {
  /** Positions of the subject, whose embeddings get the noise. */
  subject: readonly number[];
  /** Standard deviation of the noise; Meng et al. take three times that of the embeddings. */
  noise: number;
  /** Seed of the noise. @default 0 */
  seed?: number;
};

/**
 * Resolves to the grid of `activationPatching` for a corruption by noise: the embeddings of the subject's tokens get
 * normal noise, and one place at a time is restored. Repeat the ids in the batch for several draws of the noise.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const metric = (logits: FloatTensor) => logitDifference(logits, [108]);
 * const trace = await causalTrace(gpt, ids, { subject: [0, 1], noise: 0.1, metric, site: "hook_mlp_out" });
 *
 * @throws the errors of `activationPatching`.
 * @see Meng et al. 2022, "Locating and Editing Factual Associations in GPT", arXiv:2202.05262.
 */
export async function causalTrace(
  model: InspectedDecoder,
  ids: IntTensor,
  options: CausalTraceOptions,
): Promise<PatchingGrid> {
  checkTensor("causalTrace", "ids", ids);
  checkObject("causalTrace", "options", options);
  const { subject, noise, seed = 0, hooks, ...rest } = options;
  const [batch, tokens] = ids.shape as [number, number];
  const shape = [batch, tokens, model.config.width];
  using drawn = keep(noGrad(() => scope(() => mul(randn(shape, { seed, device: model.device }), noise))));
  const corruption = { ...hooks, hook_embed: addTo(drawn, { positions: subject }) };
  return await activationPatching(model, ids, { ...rest, clean: ids, hooks: corruption });
}

/** Returns the blocks around a block, `window` of them where there are so many. */
function windowOf(layer: number, window: number, layers: number): number[] {
  const first = layer - Math.floor(window / 2);
  return Array.from({ length: window }, (_, i) => first + i).filter((near) => near >= 0 && near < layers);
}

/** Resolves to the one number that `body` computes. */
function reading(op: string, body: () => FloatTensor): Promise<number> {
  return noGrad(() =>
    scope(() => {
      const value = body();
      checkFloat(op, "metric", value);
      if (value.size !== 1) throw new HeedError("ERR_SHAPE", `${op}: expected a metric of one element, got ${value}`);
      return { read: value.item() };
    }),
  ).read;
}
