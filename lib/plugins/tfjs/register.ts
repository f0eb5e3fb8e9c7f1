import type { KernelFunc } from "@tensorflow/tfjs-core";
import { checkObject } from "../../util/check.js";
import { type Device, device as deviceOf } from "../../core/device.js";
import { describe, HeedError } from "../../util/errors.js";
import { HeedBackend } from "./backend.js";
import { hostKernels } from "./host.js";
import { deviceKernels } from "./kernels/index.js";
import { registerGradients, type TransformerOperations, transformerOperations } from "./transformer-operations.js";
import type { Attributes, Inputs, TensorFlow } from "./types.js";
import { Work } from "./work.js";

/** Options of `register`. */
export interface RegisterOptions {
  /** Device that holds the tensors and runs the kernels: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
}

/** Name of the backend in TensorFlow.js. */
const name = "heed";
/** TensorFlow.js chooses the backend of the highest priority. WebGPU's and tfjs-node's have 3. */
const priority = 4;

/**
 * Registers heed as a backend of a copy of TensorFlow.js and returns heed's own operations for its tensors. To import
 * `heed/tfjs` does this for the copy that Node.js finds, on the device "auto".
 *
 * If heed is registered already, it changes to the device of this call. Tensors of the former device stay valid: they are
 * copied when they are used next.
 *
 * @example
 * import * as tf from "@tensorflow/tfjs-core";
 * import { register } from "heed/tfjs";
 * register(tf, { device: "cpu" });
 * await tf.setBackend("heed");
 *
 * @throws ERR_ARGUMENT if `tf` is not a copy of TensorFlow.js; ERR_DEVICE if the device is not available.
 */
export function register(tf: TensorFlow, options: RegisterOptions = {}): TransformerOperations {
  checkObject("register", "options", options);
  if (typeof tf?.registerBackend !== "function" || typeof tf.registerKernel !== "function")
    throw new HeedError(
      "ERR_ARGUMENT",
      `register: expected tf to be @tensorflow/tfjs-core or @tensorflow/tfjs, got ${describe(tf)}`,
    );
  const device = deviceOf(options.device);
  const active = tf.engine().backendName === name;
  if (tf.findBackendFactory(name)) tf.removeBackend(name);
  // TensorFlow.js asks for its own class, but uses any object with the methods.
  // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment
  tf.registerBackend(name, () => new HeedBackend(tf, device), priority);
  // All copies of TensorFlow.js in a process share one list of kernels.
  if (!tf.getKernel("Identity", name)) registerKernels(tf);
  registerGradients(tf);
  if (active) void tf.setBackend(name);
  return transformerOperations(tf);
}

function registerKernels(tf: TensorFlow): void {
  for (const kernelName of new Set([...Object.keys(deviceKernels), ...hostKernels]))
    tf.registerKernel({ kernelName, backendName: name, kernelFunc: kernelFunc(kernelName) as unknown as KernelFunc });
}

/** Returns the function of a kernel: on the device if that computes it for these inputs, and otherwise on the host. */
function kernelFunc(kernelName: string) {
  const onDevice = deviceKernels[kernelName];
  return ({ inputs, attrs = {}, backend }: { inputs: Inputs; attrs?: Attributes; backend: HeedBackend }) => {
    const work = new Work(backend);
    if (!onDevice?.takes(inputs, attrs, work)) return backend.host.run(kernelName, backend, inputs, attrs);
    try {
      return onDevice.run(work, inputs, attrs);
    } finally {
      work.end();
    }
  };
}
