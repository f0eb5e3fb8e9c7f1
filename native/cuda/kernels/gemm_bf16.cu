// Matrix products of bf16; the host function is in gemm.cu.
#include "cuda/kernels/gemm_mma_kernels.h"

namespace heed::cuda {

HEED_GEMM_MMA(bf16)

#if !HEED_DEVICE_CODE
Kernel<GemmParams>& gemm_kernel_bf16(const GemmParams& p, GemmSize size) { HEED_GEMM_CHOOSE(bf16) }
#endif

}  // namespace heed::cuda
