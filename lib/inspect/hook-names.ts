import { describe, HeedError } from "../util/errors.js";
import { CausalDecoder } from "../models/causal-decoder.js";
import { Encoder, EncoderHead } from "../models/encoder.js";
import { SequenceToSequence } from "../models/sequence-to-sequence.js";
import type { BlockParts, BlockStack } from "../nn/block-parts.js";

/** Decoder that predicts the next token. */
export type InspectedDecoder = CausalDecoder;
/** Encoder of texts, alone or with a head. */
export type InspectedEncoder = Encoder | EncoderHead;
/** Encoder and decoder together. */
export type InspectedPair = SequenceToSequence;
/** Model of one stack of blocks: a decoder or an encoder. */
export type InspectedStack = InspectedDecoder | InspectedEncoder;
/** Model that can be looked into. */
export type InspectedModel = InspectedDecoder | InspectedEncoder | InspectedPair;

/** Returns the decoder or the encoder of a model of one stack, without its head. */
export function stackOf(model: InspectedStack): CausalDecoder | Encoder {
  return model instanceof EncoderHead ? model.encoder : model;
}

const norm = ["hook_scale", "hook_normalized"] as const;
const attention = [
  ...(["hook_q", "hook_k", "hook_v", "hook_rot_q", "hook_rot_k"] as const),
  ...(["hook_attn_scores", "hook_pattern", "hook_z", "hook_result"] as const),
] as const;
const mlp = ["hook_pre", "hook_pre_linear", "hook_post"] as const;

type In<Part extends string, Names extends readonly string[]> = `${Part}.${Names[number]}`;
type Norm<Part extends string> = In<Part, typeof norm>;

/** Name of a value within a block, such as `attn.hook_pattern`. */
export type BlockHookName =
  | `hook_${"resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post"}`
  | In<"attn", typeof attention>
  | In<"mlp", typeof mlp>
  | Norm<"ln1" | "ln2">;

/** Name of a value within a block that may normalise its sums (post-norm). */
export type EncoderBlockHookName = BlockHookName | "hook_normalized_resid_post";

/** Name of a value within a decoder's block that attends to a source. */
export type CrossBlockHookName =
  | EncoderBlockHookName
  | "hook_cross_attn_out"
  | "hook_resid_mid_cross"
  | In<"cross_attn", typeof attention>
  | Norm<"ln3">;

/** Name of a value of a decoder. */
export type DecoderHookName = "hook_embed" | "hook_pos_embed" | `blocks.${number}.${BlockHookName}` | Norm<"ln_final">;

/** Name of a value of an encoder. */
export type EncoderHookName =
  | `embed.hook_${"embed" | "pos_embed" | "token_type_embed"}`
  | Norm<"embed.ln">
  | "hook_full_embed"
  | `blocks.${number}.${EncoderBlockHookName}`
  | Norm<"ln_final">;

/** Name of a value of an encoder–decoder. */
export type PairHookName =
  | `${"encoder" | "decoder"}.hook_${"embed" | "pos_embed"}`
  | `encoder.${number}.${EncoderBlockHookName}`
  | `decoder.${number}.${CrossBlockHookName}`
  | Norm<"encoder_final_ln" | "decoder_final_ln">;

/** Name of a value of any model. */
export type HookName = DecoderHookName | EncoderHookName | PairHookName;

/** Name of a value of a model of type M. */
export type HookNameOf<M extends InspectedModel> = M extends InspectedDecoder
  ? DecoderHookName
  : M extends InspectedEncoder
    ? EncoderHookName
    : PairHookName;

const within = (part: string, names: readonly string[]): string[] => names.map((name) => `${part}.${name}`);

/** Returns the names of a block's values, in the order of the pass except that a part's own values come after it. */
function blockNames({ rotary, norms, crossAttention, feedForward }: BlockParts): string[] {
  const [gated, post, cross] = [feedForward.gate !== null, norms === "post", crossAttention !== null];
  const heads = attention.filter((name) => rotary || !name.startsWith("hook_rot"));
  const unrotated = attention.filter((name) => !name.startsWith("hook_rot"));
  const sum = cross ? ["hook_cross_attn_out", "hook_resid_mid_cross", ...within("cross_attn", unrotated)] : [];
  return [
    ...["hook_resid_pre", ...within("ln1", norm), ...within("attn", heads), "hook_attn_out", "hook_resid_mid"],
    ...[...sum, ...within("ln2", norm), ...(cross ? within("ln3", norm) : [])],
    ...within(
      "mlp",
      mlp.filter((name) => gated || name !== "hook_pre_linear"),
    ),
    ...["hook_mlp_out", "hook_resid_post", ...(post ? ["hook_normalized_resid_post"] : [])],
  ];
}

function stackNames(name: string, { blocks }: BlockStack): string[] {
  return blocks.flatMap(({ parts }, layer) => within(`${name}.${layer}`, blockNames(parts)));
}

function decoderNames(model: InspectedDecoder): string[] {
  const positions = model.addsPositions ? ["hook_pos_embed"] : [];
  return ["hook_embed", ...positions, ...stackNames("blocks", model), ...within("ln_final", norm)];
}

function encoderNames(model: Encoder): string[] {
  const positions = model.addsPositions ? ["hook_pos_embed"] : [];
  const types = model.config.tokenTypes > 0 ? ["hook_token_type_embed"] : [];
  return [
    ...within("embed", ["hook_embed", ...positions, ...types, ...within("ln", norm)]),
    ...["hook_full_embed", ...stackNames("blocks", model)],
    ...(model.finalNorm ? within("ln_final", norm) : []),
  ];
}

function pairNames({ encoder, decoder }: InspectedPair): string[] {
  const names = (name: string, stack: BlockStack): string[] => [
    ...within(name, ["hook_embed", ...(stack.addsPositions ? ["hook_pos_embed"] : [])]),
    ...stackNames(name, stack),
    ...(stack.finalNorm ? within(`${name}_final_ln`, norm) : []),
  ];
  return [...names("encoder", encoder), ...names("decoder", decoder)];
}

/**
 * Returns the names of all values of a model that hooks can listen to.
 *
 * @example
 * hookNames(gpt).filter((name) => name.startsWith("blocks.1.mlp.")); // ["blocks.1.mlp.hook_pre", "blocks.1.mlp.hook_post"]
 *
 * @throws ERR_ARGUMENT if the model is of another kind.
 */
export function hookNames<M extends InspectedModel>(model: M): HookNameOf<M>[] {
  const namesOf = (given: InspectedModel): string[] => {
    if (given instanceof CausalDecoder) return decoderNames(given);
    if (given instanceof Encoder || given instanceof EncoderHead)
      return encoderNames(given instanceof EncoderHead ? given.encoder : given);
    if (given instanceof SequenceToSequence) return pairNames(given);
    throw new HeedError(
      "ERR_ARGUMENT",
      `hookNames: expected a decoder, an encoder or an encoder–decoder, such as a GPT, Bert or T5, got ${describe(given)}`,
    );
  };
  return namesOf(model) as HookNameOf<M>[];
}

/** Names of values: one, several, those that match a pattern, or those for which a function returns true. */
export type HookSelection<Name extends string> = Name | readonly Name[] | RegExp | ((name: Name) => boolean);

/**
 * Returns the names that a selection names, in the order of `hookNames`.
 *
 * @throws ERR_ARGUMENT if it names a value that the model does not have.
 */
export function selectNames<M extends InspectedModel>(
  op: string,
  model: M,
  selection: HookSelection<HookNameOf<M>>,
): HookNameOf<M>[] {
  const names = hookNames(model);
  if (typeof selection === "function") return names.filter((name) => selection(name));
  if (selection instanceof RegExp) return names.filter((name) => name.search(selection) !== -1);
  const given = typeof selection === "string" ? [selection] : selection;
  if (!Array.isArray(given))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected names to be an array of names, a pattern or a function, got ${describe(given)}`,
    );
  checkNames(op, given as readonly string[], names);
  return names.filter((name) => given.includes(name));
}

/**
 * Checks that names are among those of the model.
 *
 * @throws ERR_ARGUMENT if one is not.
 */
export function checkNames(op: string, given: readonly string[], names: readonly string[]): void {
  const known = new Set(names);
  const unknown = given.find((name) => !known.has(name));
  if (unknown === undefined) return;
  const ending = String(unknown).split(".").at(-1)!;
  const alike = names.filter((name) => name.endsWith(ending)).slice(0, 3);
  const hint = alike.length > 0 ? alike : names.slice(0, 3);
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected the name of a value of this model, such as ${hint.join(", ")}, got ${describe(unknown)}; hookNames(model) lists all`,
  );
}
