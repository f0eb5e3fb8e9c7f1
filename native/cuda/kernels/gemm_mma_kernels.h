// The kernels of gemm_mma.h for one dtype. Their names say whether a and b are contiguous along K (k) or across it (o).
#pragma once
#include "cuda/kernels/gemm_kernels.h"
#include "cuda/kernels/gemm_mma.h"

#define HEED_GEMM_LAYOUTS(name, blocks, T, shape, aligned)                                              \
  HEED_KERNEL(name##_kk, GemmParams, shape::kThreads, blocks, gemm_mma<T, shape, true, true, aligned>)  \
  HEED_KERNEL(name##_ko, GemmParams, shape::kThreads, blocks, gemm_mma<T, shape, true, false, aligned>) \
  HEED_KERNEL(name##_ok, GemmParams, shape::kThreads, blocks, gemm_mma<T, shape, false, true, aligned>) \
  HEED_KERNEL(name##_oo, GemmParams, shape::kThreads, blocks, gemm_mma<T, shape, false, false, aligned>)
#define HEED_GEMM_MMA(T)                                         \
  HEED_GEMM_LAYOUTS(gemm_##T##_few, 4, T, MmaFew, true)          \
  HEED_GEMM_LAYOUTS(gemm_##T##_small, 4, T, MmaSmall, true)      \
  HEED_GEMM_LAYOUTS(gemm_##T##_unaligned, 2, T, MmaSmall, false) \
  HEED_GEMM_LAYOUTS(gemm_##T##_large, 2, T, MmaLarge, true)

// The host's choice among them: the body of gemm_kernel_bf16 and gemm_kernel_f16.
#define HEED_GEMM_CHOOSE(T)                   \
  switch (size) {                             \
    case GemmSize::few:                       \
      HEED_GEMM_LAYOUT(gemm_##T##_few);       \
    case GemmSize::small:                     \
      HEED_GEMM_LAYOUT(gemm_##T##_small);     \
    case GemmSize::unaligned:                 \
      HEED_GEMM_LAYOUT(gemm_##T##_unaligned); \
    default:                                  \
      HEED_GEMM_LAYOUT(gemm_##T##_large);     \
  }
