// Products of f32 by the transpose of a compressed weight; the host function is in gemm.cu.
#include "cuda/kernels/gemm_decoded_kernels.h"

namespace heed::cuda {

HEED_DECODED(gemm_decoded_f32_few, F32Few::kThreads, 4, 4, gemm_f32_decoded, F32Few)
HEED_DECODED(gemm_decoded_f32_small, F32Small::kThreads, 4, 4, gemm_f32_decoded, F32Small)
HEED_DECODED(gemm_decoded_f32_large, F32Large::kThreads, 2, 1, gemm_f32_decoded, F32Large)

#if !HEED_DEVICE_CODE

Kernel<DecodedCodesParams>& decoded_codes_kernel_f32(Int bits, GemmSize size) {
  const bool eight = bits == 8;
  if (size == GemmSize::few) return eight ? gemm_decoded_f32_few_8 : gemm_decoded_f32_few_4;
  if (size == GemmSize::small) return eight ? gemm_decoded_f32_small_8 : gemm_decoded_f32_small_4;
  return eight ? gemm_decoded_f32_large_8 : gemm_decoded_f32_large_4;
}
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_f32(GemmSize size) {
  return size == GemmSize::few     ? gemm_decoded_f32_few_blocks
         : size == GemmSize::small ? gemm_decoded_f32_small_blocks
                                   : gemm_decoded_f32_large_blocks;
}

#endif

}  // namespace heed::cuda
