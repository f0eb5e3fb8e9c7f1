// Matrix products of f32 with operands rounded to tf32; the host function is in gemm.cu.
#include "cuda/kernels/gemm_kernels.h"
#include "cuda/kernels/gemm_tf32.h"

namespace heed::cuda {

#define HEED_GEMM_TF32(name, blocks, shape)                                                  \
  HEED_KERNEL(name##_kk, GemmParams, shape::kThreads, blocks, gemm_tf32<shape, true, true>)  \
  HEED_KERNEL(name##_ko, GemmParams, shape::kThreads, blocks, gemm_tf32<shape, true, false>) \
  HEED_KERNEL(name##_ok, GemmParams, shape::kThreads, blocks, gemm_tf32<shape, false, true>) \
  HEED_KERNEL(name##_oo, GemmParams, shape::kThreads, blocks, gemm_tf32<shape, false, false>)

HEED_GEMM_TF32(gemm_tf32_small, 4, Tf32Small)
HEED_GEMM_TF32(gemm_tf32_large, 2, Tf32Large)

#if !HEED_DEVICE_CODE

Kernel<GemmParams>& gemm_kernel_tf32(const GemmParams& p, GemmSize size) {
  if (size == GemmSize::small) HEED_GEMM_LAYOUT(gemm_tf32_small);
  HEED_GEMM_LAYOUT(gemm_tf32_large);
}

#endif

}  // namespace heed::cuda
