import { blockKinds } from "./native-kinds.js";

/**
 * Formats in which GGUF files store blocks of numbers and in which the kernels compute (native/core/blocks.h has their
 * layouts): the number of each on the native side, and the numbers and the bytes of a block.
 */
export const blockFormats = {
  Q4_0: { kind: blockKinds.q40, numbers: 32, bytes: 18 },
  Q4_1: { kind: blockKinds.q41, numbers: 32, bytes: 20 },
  Q5_0: { kind: blockKinds.q50, numbers: 32, bytes: 22 },
  Q5_1: { kind: blockKinds.q51, numbers: 32, bytes: 24 },
  Q8_0: { kind: blockKinds.q80, numbers: 32, bytes: 34 },
  Q2_K: { kind: blockKinds.q2K, numbers: 256, bytes: 84 },
  Q3_K: { kind: blockKinds.q3K, numbers: 256, bytes: 110 },
  Q4_K: { kind: blockKinds.q4K, numbers: 256, bytes: 144 },
  Q5_K: { kind: blockKinds.q5K, numbers: 256, bytes: 176 },
  Q6_K: { kind: blockKinds.q6K, numbers: 256, bytes: 210 },
  IQ4_NL: { kind: blockKinds.iq4Nl, numbers: 32, bytes: 18 },
  IQ4_XS: { kind: blockKinds.iq4Xs, numbers: 256, bytes: 136 },
  MXFP4: { kind: blockKinds.mxfp4, numbers: 32, bytes: 17 },
} as const;

/** Name of a format in which GGUF files store blocks of numbers. */
export type BlockFormat = keyof typeof blockFormats;

/** Returns true if a dtype of a file is such a format. */
export function isBlockFormat(dtype: string): dtype is BlockFormat {
  return Object.hasOwn(blockFormats, dtype);
}
