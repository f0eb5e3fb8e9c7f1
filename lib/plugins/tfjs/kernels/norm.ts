/** Normalisation. */
import { floats, kernel, type KernelTable } from "../table.js";

export const normKernels: KernelTable = {
  // (x − mean) / √(variance + ε) · scale + offset
  FusedBatchNorm: kernel<{ varianceEpsilon?: number | null }>(
    floats,
    (work, { x, scale, offset, mean, variance }, { varianceEpsilon }) => {
      const { util } = work.tf;
      for (const [name, info] of Object.entries({ variance, offset, scale }))
        util.assert(
          !info || info.shape.length === mean!.shape.length,
          () => `Batch normalization requires mean and ${name} to have equal ranks.`,
        );
      const deviation = work.unary("rsqrt", work.binary("add", work.input(variance!), varianceEpsilon ?? 0.001));
      const factor = scale ? work.binary("mul", deviation, work.input(scale)) : deviation;
      const centred = work.binary("sub", work.input(x!), work.input(mean!));
      const out = work.binary("mul", centred, factor);
      return work.result(offset ? work.binary("add", out, work.input(offset)) : out, "float32", x!.shape);
    },
  ),
};
