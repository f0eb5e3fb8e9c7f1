// Matrix products of f32; the host function is in gemm.cu.
#include "cuda/kernels/gemm_f32.h"
#include "cuda/kernels/gemm_kernels.h"

namespace heed::cuda {

HEED_KERNEL(gemm_f32_few, GemmParams, F32Few::kThreads, 4, gemm_f32<F32Few>)
HEED_KERNEL(gemm_f32_small, GemmParams, F32Small::kThreads, 4, gemm_f32<F32Small>)
HEED_KERNEL(gemm_f32_large, GemmParams, F32Large::kThreads, 2, gemm_f32<F32Large>)

#if !HEED_DEVICE_CODE

Kernel<GemmParams>& gemm_kernel_f32(GemmSize size) {
  return size == GemmSize::few ? gemm_f32_few : size == GemmSize::small ? gemm_f32_small : gemm_f32_large;
}

#endif

}  // namespace heed::cuda
