import { checkBoolean, checkInteger, checkNumber, checkObject, largestFloat } from "../ops/check.js";
import type { NamePattern } from "../nn/name-pattern.js";

/** Options of `addAdapter`. */
export interface LoraOptions {
  /** Rank of the change, the number of rows of A. @default 8 */
  rank?: number;
  /** Numerator of the change's scale, alpha/rank. @default rank */
  alpha?: number;
  /** Probability of dropping an input of the change in training. @default 0 */
  dropout?: number;
  /** True for DoRA, which also trains the length of each row of the weight. @default false */
  dora?: boolean;
  /** True if the scale is alpha/√rank (rank-stabilised LoRA), which suits large ranks. @default false */
  rsLora?: boolean;
  /**
   * Names of the linear layers to adapt, such as "q_proj", "attn.c_*" or /mlp/; see `freeze` for the patterns.
   * @default every linear layer in the model's blocks
   */
  targets?: NamePattern | readonly NamePattern[];
  /** Name of the adapter in the model. @default "default" */
  name?: string;
  /** False if the adapter that is active now, or none, stays active. No parameter is then frozen. @default true */
  active?: boolean;
  /** Seed of A's initial values. @default 0 */
  seed?: number;
}

/** Options that decide how an adapter computes, with every default filled in. */
export type LoraSettings = Required<Pick<LoraOptions, "rank" | "alpha" | "dropout" | "dora" | "rsLora">>;

/**
 * Checks options and returns the settings of an adapter.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid.
 */
export function loraSettings(op: string, options: LoraOptions): LoraSettings {
  checkObject(op, "options", options);
  const { rank = 8, alpha = rank, dropout = 0, dora = false, rsLora = false } = options;
  checkInteger(op, "rank", rank, 1);
  checkNumber(op, "alpha", alpha, 0, largestFloat);
  checkNumber(op, "dropout", dropout, 0, 1);
  checkBoolean(op, "dora", dora);
  checkBoolean(op, "rsLora", rsLora);
  return { rank, alpha, dropout, dora, rsLora };
}
