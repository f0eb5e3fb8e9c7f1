// Matrix products by the transpose of a weight in 8 or 4 bits (core/quantized.h) or in blocks of a GGUF file
// (core/blocks.h): out[M, K] (+)= a[M, N] · Ŵᵀ, the gradient of a product's input. The kernels (gemm_decoded_kernels.h)
// decode the weight on its way into a tile, so that nothing of it is ever in device memory as floats.
#pragma once
#include "cuda/kernels/blocks.h"
#include "cuda/kernels/gemm_kernels.h"
#include "cuda/kernels/quantized.h"

namespace heed::cuda {

// The parameters of the kernels; of product.b, only the width matters.
struct DecodedCodesParams {
  GemmParams product;
  QuantizedWeight weight;
};
struct DecodedBlocksParams {
  GemmParams product;
  BlockWeight weight;
};

#if !HEED_DEVICE_CODE

// gemm.cu: out[M, K] (+)= a[M, N] · Ŵᵀ; out and a are contiguous.
void multiply_decoded(Stream& stream, const char* op, Out out, In a, const QuantizedWeight& weight, Int bits,
                      bool accumulate);
void multiply_decoded(Stream& stream, const char* op, Out out, In a, const BlockWeight& weight, bool accumulate);

// The kernels, one file per dtype. `bits` is 8 or 4; tf32 has no tile for few rows.
Kernel<DecodedCodesParams>& decoded_codes_kernel_f32(Int bits, GemmSize size);
Kernel<DecodedCodesParams>& decoded_codes_kernel_tf32(Int bits, GemmSize size);
Kernel<DecodedCodesParams>& decoded_codes_kernel_bf16(Int bits, GemmSize size);
Kernel<DecodedCodesParams>& decoded_codes_kernel_f16(Int bits, GemmSize size);
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_f32(GemmSize size);
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_tf32(GemmSize size);
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_bf16(GemmSize size);
Kernel<DecodedBlocksParams>& decoded_blocks_kernel_f16(GemmSize size);

#endif

}  // namespace heed::cuda
