import type { KernelTable } from "../table.js";
import { binaryKernels } from "./binary.js";
import { convolutionKernels } from "./convolution.js";
import { einsumKernels } from "./einsum.js";
import { indexingKernels } from "./indexing.js";
import { matmulKernels } from "./matmul.js";
import { normKernels } from "./norm.js";
import { rearrangingKernels } from "./rearranging.js";
import { reductionKernels } from "./reductions.js";
import { shapingKernels } from "./shaping.js";
import { transformerKernels } from "./transformer.js";
import { unaryKernels } from "./unary.js";

/** All kernels that the device computes. */
export const deviceKernels: KernelTable = {
  ...unaryKernels,
  ...binaryKernels,
  ...reductionKernels,
  ...matmulKernels,
  ...convolutionKernels,
  ...einsumKernels,
  ...shapingKernels,
  ...rearrangingKernels,
  ...indexingKernels,
  ...normKernels,
  ...transformerKernels,
};
