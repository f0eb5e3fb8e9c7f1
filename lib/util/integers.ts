import { describe, HeedError } from "./errors.js";

const integerArrays = { i32: Int32Array, u8: Uint8Array } as const;

/**
 * @internal Returns the values in a typed array of the dtype.
 *
 * @throws ERR_RANGE if the dtype does not hold a value exactly.
 */
export function integersOf(op: string, dtype: "i32" | "u8", values: ArrayLike<number>): Int32Array | Uint8Array {
  const kind = integerArrays[dtype];
  if (values instanceof kind) return values;
  const integers = new kind(values.length);
  for (let i = 0; i < values.length; i++) {
    integers[i] = values[i]!;
    if (integers[i] !== values[i])
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected integers in the range of ${dtype}, got ${describe(values[i])} at position ${i}`,
      );
  }
  return integers;
}
