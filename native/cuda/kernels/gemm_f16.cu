// Matrix products of f16; the host function is in gemm.cu.
#include "cuda/kernels/gemm_mma_kernels.h"

namespace heed::cuda {

HEED_GEMM_MMA(f16)

#if !HEED_DEVICE_CODE
Kernel<GemmParams>& gemm_kernel_f16(const GemmParams& p, GemmSize size) { HEED_GEMM_CHOOSE(f16) }
#endif

}  // namespace heed::cuda
