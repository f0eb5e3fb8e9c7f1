import type { DType } from "../../core/dtype.js";
import type { Tensor } from "../../core/tensor.js";
import type { HostValues, TensorInfo, TensorType } from "./types.js";

/** Elements behind a data id of TensorFlow.js: in host memory, on the device, or both. They never change. */
export interface Stored {
  dtype: TensorType;
  /** Number of TensorFlow.js' tensors that use the elements. */
  references: number;
  /** Copy in host memory; null if there is none, or not any more. */
  values: HostValues | null;
  /** Copy on the device, contiguous; null before the first kernel on the device reads it. */
  tensor: Tensor | null;
  /** Real and imaginary parts of complex numbers, which have neither copy themselves. */
  parts: { real: TensorInfo; imag: TensorInfo } | null;
}

/** Element types that live on the device: float32 as f32, int32 as i32 and bool as u8. */
const deviceTypes: Partial<Record<TensorType, DType>> = { float32: "f32", int32: "i32", bool: "u8" };

/** Returns heed's dtype for a type of TensorFlow.js, or null for complex64 and string, which have none. */
export function deviceType(dtype: TensorType): DType | null {
  return deviceTypes[dtype] ?? null;
}

/** Returns values as the typed array of their type. */
export function hostValues(values: unknown, dtype: TensorType): HostValues {
  switch (dtype) {
    case "float32":
      return values instanceof Float32Array ? values : Float32Array.from(values as number[]);
    case "int32":
      return values instanceof Int32Array ? values : Int32Array.from(values as number[]);
    case "bool":
      return values instanceof Uint8Array ? values : Uint8Array.from(values as number[]);
    case "complex64":
    case "string":
      return values as Uint8Array[];
  }
}
