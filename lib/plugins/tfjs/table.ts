import type { Work } from "./work.js";
import type { Attributes, Inputs, Outputs, TensorInfo, TensorType } from "./types.js";

/** Kernel on the device. */
export interface DeviceKernel {
  /** Returns true if the device computes the kernel for these inputs; the host computes it for others. */
  takes: (inputs: Inputs, attrs: Attributes, work: Work) => boolean;
  run: (work: Work, inputs: Inputs, attrs: Attributes) => Outputs;
}

/** Kernels by the names that TensorFlow.js gives them. */
export type KernelTable = Record<string, DeviceKernel>;

type Takes = DeviceKernel["takes"];
/** Inputs that the table has checked to be there. */
type Given = Record<string, TensorInfo>;
type Run<Attrs> = (work: Work, inputs: Given, attrs: Attrs) => Outputs;

/** Returns a kernel that the device computes if `takes` allows it. */
export function kernel<Attrs = Attributes>(takes: Takes, run: Run<Attrs>): DeviceKernel {
  return { takes, run: run as DeviceKernel["run"] };
}

const ofTypes =
  (types: readonly TensorType[]): Takes =>
  (inputs) =>
    Object.values(inputs).every((info) => !info || types.includes(info.dtype));

/** The inputs are float32. */
export const floats: Takes = ofTypes(["float32"]);
/** The inputs are booleans. */
export const flags: Takes = ofTypes(["bool"]);
/** The inputs are on the device or could be: they are neither complex numbers nor strings. */
export const elements: Takes = ofTypes(["float32", "int32", "bool"]);
/** The inputs are integers. */
export const integers: Takes = ofTypes(["int32"]);
/** The inputs are float32 or int32. */
export const numbers: Takes = ofTypes(["float32", "int32"]);
/** Returns true if the inputs have one type. */
export const alike: Takes = (inputs) => {
  const infos = Object.values(inputs);
  return infos.every((info) => info!.dtype === infos[0]!.dtype);
};
/** Accepts any inputs, because their elements stay where they are. */
export const anything: Takes = () => true;

/** Returns a condition that holds if all of the given ones do. */
export const both =
  (...all: readonly Takes[]): Takes =>
  (inputs, attrs, work) =>
    all.every((takes) => takes(inputs, attrs, work));
/** Returns a condition that holds if one of the given ones does. */
export const either =
  (...any: readonly Takes[]): Takes =>
  (inputs, attrs, work) =>
    any.some((takes) => takes(inputs, attrs, work));
