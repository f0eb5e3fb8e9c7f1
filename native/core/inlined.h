// HEED_INLINED marks the functions of core/ that the kernels of every device call. They are always inlined, because the
// kernels of the CPU are compiled once for each instruction set (cpu/kernels/kernel.h).
#pragma once

#if defined(__CUDACC__)
#define HEED_INLINED __host__ __device__ __forceinline__
#else
#define HEED_INLINED __attribute__((always_inline)) inline
#endif
