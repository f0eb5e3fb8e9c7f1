// The families of decoders that can be made from a few sizes, to be trained from nothing.
import type { CausalDecoder } from "./causal-decoder.js";
import { GPT } from "./gpt.js";
import type { Positions } from "./gpt-config.js";
import { Llama } from "./llama.js";
import type { ModelOptions } from "./model.js";

/** Sizes of a decoder that is to be made. */
export interface NewDecoderSizes {
  vocabularySize: number;
  contextLength: number;
  layers: number;
  heads: number;
  kvHeads: number;
  width: number;
  /** Width of the feed-forward network; undefined means that of the family's published models. */
  feedForwardWidth?: number | undefined;
  window: number;
  dropout: number;
  /** Kind of positions. */
  positions: Positions;
}

/** Name of a family of decoders that can be made from sizes. */
export type DecoderFamilyName = "gpt" | "llama";

/** Rules of a family. */
interface DecoderFamily {
  /** Kind of positions that the family always has; null if the kind can be chosen. */
  readonly fixedPositions: Positions | null;
  readonly create: (sizes: NewDecoderSizes, options: ModelOptions) => CausalDecoder;
  /** Returns the kind of a model's positions if it belongs to the family, otherwise null. */
  readonly positionsOf: (model: CausalDecoder) => Positions | null;
}

/** Families by name. */
export const decoderFamilies: Readonly<Record<DecoderFamilyName, DecoderFamily>> = {
  gpt: {
    fixedPositions: null,
    create: ({ feedForwardWidth: hidden, ...sizes }, options) =>
      new GPT({ ...sizes, feedForwardWidth: hidden ?? 4 * sizes.width }, options),
    positionsOf: (model) => (model instanceof GPT ? model.config.positions : null),
  },
  llama: {
    fixedPositions: "rotary",
    create: ({ feedForwardWidth: hidden, positions: _, ...sizes }, options) => {
      // A gated feed-forward is two thirds as wide as one without a gate, so that both have the same number of
      // parameters (Shazeer 2020). The width is rounded up to whole tiles.
      return new Llama({ ...sizes, feedForwardWidth: hidden ?? Math.ceil((8 * sizes.width) / 3 / 32) * 32 }, options);
    },
    positionsOf: (model) => (model instanceof Llama ? "rotary" : null),
  },
};

/** Returns the family of a decoder and the kind of its positions; null if it can not be made from sizes alone. */
export function familyOf(model: CausalDecoder): { family: DecoderFamilyName; positions: Positions } | null {
  for (const [name, { positionsOf }] of Object.entries(decoderFamilies)) {
    const positions = positionsOf(model);
    if (positions) return { family: name as DecoderFamilyName, positions };
  }
  return null;
}
