// The kernels of gemm.cu, a file a dtype: a module is compiled for the card as a whole when its first kernel is
// launched, so nobody waits for those of a dtype that is not used.
#pragma once
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/gemm_shapes.h"

#if !HEED_DEVICE_CODE

namespace heed::cuda {

// Which tile; `unaligned` is the small one, for operands that cannot be copied 16 bytes at a time.
enum class GemmSize { few, small, large, unaligned };

Kernel<GemmParams>& gemm_kernel_f32(GemmSize size);
Kernel<GemmParams>& gemm_kernel_tf32(const GemmParams& p, GemmSize size);
Kernel<GemmParams>& gemm_kernel_bf16(const GemmParams& p, GemmSize size);
Kernel<GemmParams>& gemm_kernel_f16(const GemmParams& p, GemmSize size);

}  // namespace heed::cuda

// In the names of kernels: which of a and b is contiguous along K (k) or across it (o).
#define HEED_GEMM_LAYOUT(name) \
  return p.a.along_depth ? (p.b.along_depth ? name##_kk : name##_ko) : (p.b.along_depth ? name##_ok : name##_oo)

#endif
