import { checkBoolean, checkChoice, checkInteger, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { Collectives } from "./collectives.js";

/** Options of processes that train one model together. */
export interface DistributedOptions {
  /** The processes. */
  collectives: Collectives;
  /**
   * True if each process keeps and updates only its share of the optimiser's state (ZeRO stage 1). The results have the
   * same bits; the updated parameters are sent once more. @default false
   */
  zero?: boolean;
  /**
   * Dtype in which gradients are sent and summed. "bf16" halves the bytes and rounds each gradient, and each sum, to 8
   * bits. @default "f32"
   */
  wire?: "f32" | "bf16";
  /** Bytes of gradients that are sent at once while the backward pass goes on. @default 4 MiB */
  bucketBytes?: number;
}

/**
 * @internal Returns the options with their defaults; null if there are none.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if one is wrong.
 */
export function checkDistributed(
  op: string,
  options: DistributedOptions | null | undefined,
): Required<DistributedOptions> | null {
  if (options === undefined || options === null) return null;
  checkObject(op, "distributed", options);
  const { collectives, zero = false, wire = "f32", bucketBytes = 4 * 2 ** 20 } = options;
  if (!((collectives as unknown) instanceof Collectives))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected distributed.collectives to be Collectives, got ${describe(collectives)}`,
    );
  checkBoolean(op, "distributed.zero", zero);
  checkChoice(op, "distributed.wire", wire, ["f32", "bf16"]);
  checkInteger(op, "distributed.bucketBytes", bucketBytes, 4);
  return { collectives, zero, wire, bucketBytes };
}
