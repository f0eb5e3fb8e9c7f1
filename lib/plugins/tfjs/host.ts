import { HeedError } from "../../util/errors.js";
import { MathBackendCPU } from "@tensorflow/tfjs-backend-cpu";
import type { Stored } from "./stored.js";
import type { Attributes, HostValues, Inputs, Outputs, TensorFlow, TensorInfo, TensorType } from "./types.js";

/** Methods of the backend by which kernels on the host read their inputs and store their results. */
interface Elements {
  stored(id: object): Stored;
  readSync(id: object): HostValues;
  hostResult(values: unknown, shape: readonly number[], dtype: TensorType): TensorInfo;
  complex(real: TensorInfo, imag: TensorInfo): TensorInfo;
}

/**
 * Kernels that run on the host for every type of their inputs: heed has no operation for them. They are those of
 * tfjs-backend-cpu. Their inputs are copied to the host and their results to the device when a kernel there reads them.
 * `tf.profile()` shows "computed on the host" for each of their calls.
 */
export const hostKernels: readonly string[] = [
  // functions of bits, counts, draws, and searches
  ...["BitwiseAnd", "Bincount", "DenseBincount", "Multinomial", "SearchSorted", "Unique"],
  // convolutions and pooling in three dimensions, and morphology
  "MaxPoolWithArgmax",
  ...["Conv3D", "Conv3DBackpropFilterV2", "Conv3DBackpropInputV2"],
  ...["AvgPool3D", "AvgPool3DGrad", "MaxPool3D", "MaxPool3DGrad"],
  ...["Dilation2D", "Dilation2DBackpropFilter", "Dilation2DBackpropInput", "LRN", "LRNGrad"],
  // images
  ...["CropAndResize", "Draw", "RotateWithOffset", "Transform"],
  ...["ResizeBilinear", "ResizeBilinearGrad", "ResizeNearestNeighbor", "ResizeNearestNeighborGrad"],
  ...["NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5"],
  // diagonal matrices, and shapes that TensorFlow.js reads at once
  ...["Diag", "BroadcastArgs"],
  // spectra, strings, sparse and ragged tensors
  ...["FFT", "IFFT", "StaticRegexReplace", "StringNGrams", "StringSplit", "StringToHashBucketFast"],
  ...["SparseFillEmptyRows", "SparseReshape", "SparseSegmentMean", "SparseSegmentSum", "SparseToDense"],
  ...["RaggedGather", "RaggedRange", "RaggedTensorToTensor", "TensorScatterUpdate"],
];

/** The host's own backend, with tfjs-backend-cpu's kernels over copies of the elements. */
export class HostKernels {
  /** Number of kernels that have run. */
  calls = 0;
  #cpu: MathBackendCPU | null = null;

  constructor(readonly tf: TensorFlow) {}

  /** Returns true if the host has a kernel of this name. */
  has(name: string): boolean {
    return this.tf.getKernel(name, "cpu") !== undefined;
  }

  /**
   * Runs a kernel. It waits for the device to compute its inputs, unless they are in host memory.
   *
   * @throws ERR_ARGUMENT if the host has no such kernel
   */
  run(name: string, backend: Elements, inputs: Inputs, attrs: Attributes): Outputs {
    const kernel = this.tf.getKernel(name, "cpu");
    if (!kernel)
      throw new HeedError("ERR_ARGUMENT", `${name}: expected a kernel of heed or tfjs-backend-cpu, got an unknown one`);
    this.calls++;
    const cpu = (this.#cpu ??= quiet(new MathBackendCPU()));
    const known = new Set<object>();
    try {
      const copies = mapInputs(inputs, (info) => toHost(cpu, backend, info));
      for (const copy of Object.values(copies)) for (const info of [copy].flat()) if (info) known.add(info.dataId);
      const out = kernel.kernelFunc({ inputs: copies as never, attrs: attrs as never, backend: cpu });
      for (const info of [out].flat()) known.add(info.dataId);
      return Array.isArray(out) ? out.map((info) => fromHost(cpu, backend, info)) : fromHost(cpu, backend, out);
    } finally {
      for (const id of known) cpu.disposeData(id, true);
    }
  }

  dispose(): void {
    this.#cpu?.dispose();
    this.#cpu = null;
  }
}

/** Keeps the backend from advising Node.js users, at its first use, to install another one. */
function quiet(cpu: MathBackendCPU): MathBackendCPU {
  (cpu as unknown as { firstUse: boolean }).firstUse = false;
  return cpu;
}

/** Applies `map` to each input; some kernels have an input that is a list, and some inputs are missing. */
function mapInputs(inputs: Inputs, map: (info: TensorInfo) => TensorInfo): Record<string, TensorInfo | TensorInfo[]> {
  const mapped: Record<string, TensorInfo | TensorInfo[]> | TensorInfo[] = Array.isArray(inputs) ? [] : {};
  for (const [name, info] of Object.entries(inputs) as [string, TensorInfo | TensorInfo[] | null | undefined][])
    if (info) (mapped as Record<string, unknown>)[name] = Array.isArray(info) ? info.map(map) : map(info);
  return mapped as Record<string, TensorInfo | TensorInfo[]>;
}

function toHost(cpu: MathBackendCPU, backend: Elements, { dataId, shape, dtype }: TensorInfo): TensorInfo {
  const { parts } = backend.stored(dataId);
  if (!parts) {
    const info = cpu.makeTensorInfo(shape, dtype, backend.readSync(dataId));
    return { ...info, rank: shape.length } as TensorInfo; // which some kernels read
  }
  const info = cpu.makeTensorInfo(shape, "complex64");
  cpu.data.get(info.dataId).complexTensorInfos = {
    real: toHost(cpu, backend, { ...parts.real, shape }),
    imag: toHost(cpu, backend, { ...parts.imag, shape }),
  };
  return info;
}

function fromHost(cpu: MathBackendCPU, backend: Elements, { dataId, shape, dtype }: TensorInfo): TensorInfo {
  const { complexTensorInfos } = cpu.data.get(dataId);
  if (!complexTensorInfos) return backend.hostResult(cpu.data.get(dataId).values, shape, dtype);
  const { real, imag } = complexTensorInfos;
  const part = (info: TensorInfo): TensorInfo => fromHost(cpu, backend, { ...info, shape });
  return backend.complex(part(real), part(imag));
}
