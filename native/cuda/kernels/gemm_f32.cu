// Matrix products of f32; the host function is in gemm.cu.
#include "cuda/kernels/gemm_f32.h"
#include "cuda/kernels/gemm_kernels.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

using F32Few = GemmF32Shape<16, 64, 32, 4, 4, 3>;
using F32Small = GemmF32Shape<64, 64, 16, 8, 4, 3>;
using F32Large = GemmF32Shape<128, 128, 16, 8, 8, 3>;

#endif

HEED_KERNEL(gemm_f32_few, GemmParams, 64, 4, gemm_f32<F32Few>)
HEED_KERNEL(gemm_f32_small, GemmParams, 128, 4, gemm_f32<F32Small>)
HEED_KERNEL(gemm_f32_large, GemmParams, 256, 2, gemm_f32<F32Large>)

#if !HEED_DEVICE_CODE

Kernel<GemmParams>& gemm_kernel_f32(GemmSize size) {
  return size == GemmSize::few ? gemm_f32_few : size == GemmSize::small ? gemm_f32_small : gemm_f32_large;
}

#endif

}  // namespace heed::cuda
