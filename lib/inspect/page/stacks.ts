// The attention of each kind of model, by the names of its values.
import { SequenceToSequence } from "../../models/sequence-to-sequence.js";
import { type HookName, type InspectedModel, stackOf } from "../hook-names.js";

/** Attention of one kind in all layers. */
export interface Stack {
  title: string;
  /** Beginning of the names of its blocks: "blocks", "encoder" or "decoder". */
  prefix: "blocks" | "encoder" | "decoder";
  part: "attn" | "cross_attn";
  layers: number;
  /** Index of the sequence whose tokens attend. */
  queries: number;
  /** Index of the sequence whose tokens are attended to. */
  keys: number;
  /** True if the feed-forward layers of its blocks are listed with it. */
  hasMlp: boolean;
}

/** Returns the kinds of attention that a model has. */
export function stacksOf(model: InspectedModel): Stack[] {
  if (model instanceof SequenceToSequence) {
    const { layers, decoderLayers } = model.config;
    const self = { part: "attn", hasMlp: true } as const;
    return [
      { ...self, title: "Encoder", prefix: "encoder", layers, queries: 0, keys: 0 },
      { ...self, title: "Decoder", prefix: "decoder", layers: decoderLayers, queries: 1, keys: 1 },
      {
        ...{ title: "Decoder to source", prefix: "decoder", part: "cross_attn", layers: decoderLayers },
        ...{ queries: 1, keys: 0, hasMlp: false },
      },
    ];
  }
  const { layers } = stackOf(model).config;
  return [
    {
      ...{ title: "Self-attention", prefix: "blocks", part: "attn", layers },
      ...{ queries: 0, keys: 0, hasMlp: true },
    },
  ];
}

/** Returns the name of a value in a block of a stack. */
export function inBlock({ prefix }: Stack, layer: number, name: string): HookName {
  return `${prefix}.${layer}.${name}` as HookName;
}

/** Returns the name of a value of a stack's attention in one layer. */
export function inAttention(stack: Stack, layer: number, name: "hook_pattern" | "hook_z" | "hook_result"): HookName {
  return inBlock(stack, layer, `${stack.part}.${name}`);
}
