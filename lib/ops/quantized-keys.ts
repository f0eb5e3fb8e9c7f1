import { type FloatTensor, Tensor } from "../core/tensor.js";

/**
 * Keys or values in 8 bits, for inference. Each head of a token has D int8 codes, which are stored as u8, and a scale. A
 * number is code · scale, rounded to the dtype of the queries.
 */
export interface QuantizedKeys {
  /** Codes, u8 [N, S, Hkv, D]. */
  readonly codes: Tensor<"u8">;
  /** Scales, f32 [N, S, Hkv]: the largest absolute value of a head, divided by 127. */
  readonly scales: FloatTensor;
}

/** Keys or values as numbers [N, S, Hkv, D] or in 8 bits. */
export type StoredKeys = FloatTensor | QuantizedKeys;

/** Returns the tensors that keys or values consist of. */
export function tensorsOf(keys: StoredKeys): Tensor[] {
  return keys instanceof Tensor ? [keys] : [keys.codes, keys.scales];
}
