// Products of f16 by the transpose of a compressed weight; the host function is in gemm.cu.
#include "cuda/kernels/gemm_decoded_kernels.h"

namespace heed::cuda {

HEED_DECODED_MMA(f16)

#if !HEED_DEVICE_CODE

Kernel<DecodedCodesParams>& decoded_codes_kernel_f16(Int bits, GemmSize size) {
  if (bits == 8) HEED_DECODED_CHOOSE_MMA(f16, 8)
  HEED_DECODED_CHOOSE_MMA(f16, 4)
}
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_f16(GemmSize size) { HEED_DECODED_CHOOSE_MMA(f16, blocks) }

#endif

}  // namespace heed::cuda
