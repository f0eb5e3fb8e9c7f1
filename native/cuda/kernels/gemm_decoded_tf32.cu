// Products of f32, with operands rounded to tf32, by the transpose of a compressed weight; the host function is in
// gemm.cu.
#include "cuda/kernels/gemm_decoded_kernels.h"

namespace heed::cuda {

HEED_DECODED(gemm_decoded_tf32_small, Tf32Small::kThreads, 4, 3, gemm_tf32_decoded, Tf32Small)
HEED_DECODED(gemm_decoded_tf32_large, Tf32Large::kThreads, 2, 2, gemm_tf32_decoded, Tf32Large)

#if !HEED_DEVICE_CODE

Kernel<DecodedCodesParams>& decoded_codes_kernel_tf32(Int bits, GemmSize size) {
  const bool eight = bits == 8;
  if (size == GemmSize::small) return eight ? gemm_decoded_tf32_small_8 : gemm_decoded_tf32_small_4;
  return eight ? gemm_decoded_tf32_large_8 : gemm_decoded_tf32_large_4;
}
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_tf32(GemmSize size) {
  return size == GemmSize::small ? gemm_decoded_tf32_small_blocks : gemm_decoded_tf32_large_blocks;
}

#endif

}  // namespace heed::cuda
