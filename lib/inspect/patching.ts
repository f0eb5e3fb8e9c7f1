import { noGrad } from "../core/autograd.js";
import { checkChoice, checkFunction, checkInteger, checkObject } from "../util/check.js";
import { randn } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import { Encoder, EncoderHead } from "../models/encoder.js";
import { mul } from "../ops/binary.js";
import { checkTensor } from "../ops/check.js";
import { keep, scope } from "../core/scope.js";
import { formatShape, sameShape } from "../core/shape.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { addTo, type EditPlace, replaceWith } from "./edits.js";
import {
  type HookNameOf,
  hookNames,
  type InspectedDecoder,
  type InspectedModel,
  type InspectedPair,
  stackOf,
} from "./hook-names.js";
import { measure } from "./measure.js";
import { type CacheOptions, type HooksOf, type InputOf, run, type RunOptions, runWithCache } from "./run.js";

const sites = ["hook_resid_pre", "hook_attn_out", "hook_mlp_out", "attn.hook_z"] as const;
const stacks = ["encoder", "decoder"] as const;

/** Value that `activationPatching` patches: a residual stream, a part's output, or the values of the heads. */
export type PatchSite = (typeof sites)[number];

/** Stack of an encoder–decoder. */
export type PairStack = (typeof stacks)[number];

/** Options of `activationPatching`. */
export type PatchingOptions<M extends InspectedModel = InspectedDecoder> = Omit<RunOptions<M>, "stopAtLayer"> & {
  /** Input of the run whose values are restored: ids i32 [B, T], or source and target of an encoder–decoder. */
  clean: InputOf<M>;
  /** Returns what is measured, a tensor of one element, from the output, such as logits [B, T, V]. */
  metric: (output: FloatTensor) => FloatTensor;
  /** Value that is patched. `attn.hook_z` is patched head by head, all others position by position. */
  site: PatchSite;
  /** Stack of an encoder–decoder whose blocks are patched. @default "decoder" */
  stack?: PairStack;
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
 * @param corrupted input of the corrupted run, of the same shape as the clean one
 *
 * @example
 * const ids = (text: string) => tensor(tokenizer.encode(text), [1, text.length]);
 * const metric = (logits: FloatTensor) => logitDifference(logits, [97], [98]);
 * const options = { clean: ids("abab"), metric, site: "hook_resid_pre" } as const;
 * const { patched } = await activationPatching(gpt, ids("cbcb"), options); // 2 blocks · 4 positions
 *
 * @throws the errors of `run`; ERR_SHAPE if the runs differ in shape or the metric has several elements; ERR_ARGUMENT if
 *   `stack` is given for a model of one stack.
 * @see Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022, arXiv:2202.05262.
 */
export async function activationPatching<M extends InspectedModel>(
  model: M,
  corrupted: InputOf<M>,
  options: PatchingOptions<M>,
): Promise<PatchingGrid> {
  const op = "activationPatching";
  checkObject(op, "options", options);
  const { clean, metric, site, stack, window = 1, hooks, ...rest } = options as PatchingOptions<InspectedModel>;
  checkFunction(op, metric);
  checkChoice(op, "site", site, sites);
  checkInputs(op, clean, corrupted);
  const prefix = prefixOf(op, model, stack);
  const blocks = (hookNames(model) as string[]).filter((name) => name.startsWith(prefix) && name.endsWith(`.${site}`));
  const layers = blocks.length;
  checkInteger(op, "window", window, 1, layers);
  using cache = runWithCache(model, clean as InputOf<M>, { ...rest, names: blocks } as unknown as CacheOptions<M>);
  const measured = (logits: () => FloatTensor): Promise<number> => measure(op, () => metric(logits()));
  const runs = (more: object): FloatTensor =>
    run(model, corrupted, { ...rest, hooks: { ...hooks, ...more } } as unknown as RunOptions<M>);
  const { shape } = cache.get(blocks[0] as HookNameOf<M>);
  const byHead = site === "attn.hook_z";
  const places = Array.from({ length: shape[byHead ? 2 : 1]! }, (_, i) =>
    byHead ? { heads: [i] } : { positions: [i] },
  );
  const patchedAt = (layer: number, place: EditPlace): Promise<number> => {
    const near = windowOf(layer, window, layers).map((at) => blocks[at] as HookNameOf<M>);
    const patches = near.map((name) => [name, replaceWith(cache.get(name), place)] as const);
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

/** Returns the beginning of the names of a model's blocks. */
function prefixOf(op: string, model: InspectedModel, stack: PairStack | undefined): string {
  const pair = "decoderFor" in model;
  if (!pair && stack !== undefined)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected no stack for a model that has one, got ${stack}`);
  if (stack !== undefined) checkChoice(op, "stack", stack, stacks);
  return pair ? `${stack ?? "decoder"}.` : "blocks.";
}

/** Returns the tensors of an input. */
function tensorsOf(op: string, name: string, input: InputOf<InspectedModel>): IntTensor[] {
  checkObject(op, name, input);
  return "source" in input ? [input.source, input.target] : [input];
}

function checkInputs(op: string, clean: InputOf<InspectedModel>, corrupted: InputOf<InspectedModel>): void {
  const given = tensorsOf(op, "clean", clean);
  for (const [i, expected] of tensorsOf(op, "corrupted", corrupted).entries()) {
    checkTensor(op, "corrupted", expected);
    checkTensor(op, "clean", given[i], expected);
    if (!sameShape(given[i].shape, expected.shape))
      throw new HeedError(
        "ERR_SHAPE",
        `${op}: expected clean ids of shape ${formatShape(expected.shape)}, got ${formatShape(given[i].shape)}`,
      );
  }
}

/** Options of `causalTrace`. */
export type CausalTraceOptions<M extends InspectedModel = InspectedDecoder> = Omit<PatchingOptions<M>, "clean"> & {
  /** Positions of the subject, whose embeddings get the noise. */
  subject: readonly number[];
  /** Stack of an encoder–decoder that reads the subject. @default "encoder" */
  subjectStack?: PairStack;
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
export async function causalTrace<M extends InspectedModel>(
  model: M,
  input: InputOf<M>,
  options: CausalTraceOptions<M>,
): Promise<PatchingGrid> {
  const op = "causalTrace";
  checkObject(op, "options", options);
  const given = options as unknown as CausalTraceOptions<InspectedModel>;
  const { subject, subjectStack = "encoder", noise, seed = 0, hooks, ...rest } = given;
  checkChoice(op, "subjectStack", subjectStack, stacks);
  const tensors = tensorsOf(op, "input", input);
  for (const each of tensors) checkTensor(op, "input", each);
  const ids = tensors[tensors.length > 1 && subjectStack === "decoder" ? 1 : 0]!;
  const shape = [...ids.shape, widthOf(model)];
  using drawn = keep(noGrad(() => scope(() => mul(randn(shape, { seed, device: model.device }), noise))));
  const corruption = { ...hooks, [embeddingOf(model, subjectStack)]: addTo(drawn, { positions: subject }) };
  const patching = { ...rest, clean: input, hooks: corruption as HooksOf<M> };
  return await activationPatching(model, input, patching as unknown as PatchingOptions<M>);
}

/** Returns C, the width of a model's residual stream. */
function widthOf(model: InspectedModel): number {
  return "decoderFor" in model ? model.config.width : stackOf(model).config.width;
}

/** Returns the name of the embedded tokens. */
function embeddingOf(model: InspectedModel, stack: PairStack): string {
  const isPair = (given: InspectedModel): given is InspectedPair => "decoderFor" in given;
  if (isPair(model)) return `${stack}.hook_embed`;
  return model instanceof Encoder || model instanceof EncoderHead ? "embed.hook_embed" : "hook_embed";
}

/** Returns the blocks around a block, `window` of them where there are so many. */
function windowOf(layer: number, window: number, layers: number): number[] {
  const first = layer - Math.floor(window / 2);
  return Array.from({ length: window }, (_, i) => first + i).filter((near) => near >= 0 && near < layers);
}
