// The parts of a block by their role, whatever a family calls its layers. Inspection, adapters and savers read these.
import type { LayerNorm } from "./layer-norm.js";
import type { Linear } from "./linear.js";
import type { Module } from "./module.js";
import type { RmsNorm } from "./rms-norm.js";

/** Norm of a residual stream. */
export type StreamNorm = LayerNorm | RmsNorm;

/** Projection of a block: the outputs of a linear layer from `begin` to `end` (exclusive), or all of them. */
export interface Projection {
  readonly layer: Linear;
  readonly begin: number;
  readonly end: number;
}

/** Projections of an attention, by role. Queries have H·D outputs, keys and values Hkv·D each. */
export interface AttentionProjections {
  readonly q: Projection;
  readonly k: Projection;
  readonly v: Projection;
  /** Projection of the heads' results back to the width of the model. */
  readonly o: Projection;
  readonly heads: number;
  readonly kvHeads: number;
}

/** Projections of a feed-forward, by role: down(activation(gate) · up), or down(activation(up)) without a gate. */
export interface FeedForwardProjections {
  /** Projection that goes through the activation and is multiplied by `up`; null if there is none. */
  readonly gate: Projection | null;
  readonly up: Projection;
  readonly down: Projection;
}

/** Part of a block that reads the residual stream, through a norm or as it is. */
export interface StreamReader {
  /** Norm that the part reads through; null if it reads the residual stream itself. */
  readonly norm: StreamNorm | null;
}

/** Parts of a block. */
export interface BlockParts {
  readonly attention: AttentionProjections & StreamReader;
  /** Attention of a decoder to its source, whose norm is that of the queries; null if the block has none. */
  readonly crossAttention: (AttentionProjections & StreamReader) | null;
  readonly feedForward: FeedForwardProjections & StreamReader;
  /** True if queries and keys are rotated by their positions. */
  readonly rotary: boolean;
  /** Place of the norms: before each part ("pre"), or after each sum ("post"). */
  readonly norms: "pre" | "post";
  /** Factor of what each part adds to the residual stream. */
  readonly residualScale: number;
}

/** Block of a model that says what its parts are. */
export interface Block extends Module {
  readonly parts: BlockParts;
}

/** Blocks of an encoder or a decoder, and what comes before and after them. */
export interface BlockStack {
  readonly blocks: readonly Block[];
  /** Norm after the last block; null if there is none. */
  readonly finalNorm: StreamNorm | null;
  /** True if vectors of positions are added to the embedded tokens. */
  readonly addsPositions: boolean;
}

/** Returns the projection that a layer computes alone. */
export function wholeLayer(layer: Linear): Projection {
  return { layer, begin: 0, end: layer.outputs };
}

/** Returns the projections that a layer computes one after another, by their numbers of outputs. */
export function packedLayer(layer: Linear, outputs: readonly number[]): Projection[] {
  let end = 0;
  return outputs.map((count) => ({ layer, begin: end, end: (end += count) }));
}
