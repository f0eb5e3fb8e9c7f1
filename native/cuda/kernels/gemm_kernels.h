// The kernels of gemm.cu, one file per dtype. A module is compiled for the card as a whole when its first kernel is
// launched, so no program waits for the kernels of a dtype that it does not use.
#pragma once
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/gemm_shapes.h"

#if !HEED_DEVICE_CODE

namespace heed::cuda {

// The tile; `unaligned` is the small one, for operands that cannot be copied 16 bytes at a time.
enum class GemmSize { few, small, large, unaligned };

Kernel<GemmParams>& gemm_kernel_f32(GemmSize size);
Kernel<GemmParams>& gemm_kernel_tf32(const GemmParams& p, GemmSize size);
Kernel<GemmParams>& gemm_kernel_bf16(const GemmParams& p, GemmSize size);
Kernel<GemmParams>& gemm_kernel_f16(const GemmParams& p, GemmSize size);

}  // namespace heed::cuda

// The names of kernels say whether a and b are contiguous along K (k) or across it (o).
#define HEED_GEMM_LAYOUT(name) \
  return p.a.along_depth ? (p.b.along_depth ? name##_kk : name##_ko) : (p.b.along_depth ? name##_ok : name##_oo)

#endif
