import type * as core from "@tensorflow/tfjs-core";

/** A copy of tfjs-core: the namespace that is imported from `@tensorflow/tfjs-core` or from `@tensorflow/tfjs`. */
export type TensorFlow = typeof core;
export type TensorInfo = core.TensorInfo;
/** TensorFlow.js' element types. */
export type TensorType = core.DataType;
/** Elements in host memory: a string is an array of bytes in UTF-8. */
export type HostValues = Float32Array | Int32Array | Uint8Array | Uint8Array[];

/** Inputs of a kernel by name; some kernels take a list, whose names are its indices. */
export type Inputs = Record<string, TensorInfo | undefined>;
/** Attributes of a kernel by name, which the kernel knows the types of. */
export type Attributes = Record<string, unknown>;
export type Outputs = TensorInfo | TensorInfo[];
