import * as tf from "@tensorflow/tfjs-core";
import { register } from "./register.js";

export type { BackendMemory, HeedBackend, KernelTime } from "./backend.js";
export { register, type RegisterOptions } from "./register.js";
export type { AttentionOptions, TransformerOperations } from "./transformer-operations.js";

const operations = register(tf);

/** Attention over tensors of the TensorFlow.js that Node.js finds, with gradients; see `TransformerOperations`. */
export const attention = operations.attention;
/** Layer norm of a tensor of the TensorFlow.js that Node.js finds, with gradients; see `TransformerOperations`. */
export const layerNorm = operations.layerNorm;
/** RMS norm of a tensor of the TensorFlow.js that Node.js finds, with gradients; see `TransformerOperations`. */
export const rmsNorm = operations.rmsNorm;
