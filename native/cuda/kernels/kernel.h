// Every .cu file includes this header. It is compiled twice: by nvcc (HEED_DEVICE_CODE is 1) for the kernels, whose PTX
// is embedded in the addon, and by the C++ compiler for the host function, without any CUDA (there the build defines
// `HEED_IMAGE_OF` in front of it, see image.h).
//
//   struct FillParams { … };                                  // one POD, by value, at most 4 KiB
//   #if HEED_DEVICE_CODE
//   template <class T> __device__ void fill_body(const FillParams& p) { … }
//   #endif
//   HEED_KERNEL_FLOATS(fill_kernel, FillParams, 256, 1, fill_body)
//   #if !HEED_DEVICE_CODE
//   void host::fill(Stream& stream, Out out, Float value) { … stream.launch(op, fill_kernel(out.dtype), {blocks}, p); }
//   #endif
//
// A kernel is launched with exactly the number of threads it was declared with (blockDim.y and .z are 1). Names of
// kernels and of parameter structs are unique in the program.
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/tensor.h"
#include "cuda/fault.h"
#include "cuda/image.h"

#if defined(__CUDACC__)
#define HEED_DEVICE_CODE 1
#else
#define HEED_DEVICE_CODE 0
#endif

#if HEED_DEVICE_CODE

// HEED_KERNEL(name, Params, threads, least number of blocks per multiprocessor, body): a kernel around `body(const
// Params&)`.
#define HEED_KERNEL(name, Params, threads, min_blocks, ...)                                                       \
  extern "C" __global__ void __launch_bounds__(threads, min_blocks) name(const __grid_constant__ Params params) { \
    __VA_ARGS__(params);                                                                                          \
  }
// One kernel for each float type: body<float, …>, body<bf16, …> and body<f16, …>, with any further template arguments.
#define HEED_KERNEL_FLOATS(name, Params, threads, min_blocks, body, ...)           \
  HEED_KERNEL(name##_f32, Params, threads, min_blocks, body<float, ##__VA_ARGS__>) \
  HEED_KERNEL(name##_bf16, Params, threads, min_blocks, body<bf16, ##__VA_ARGS__>) \
  HEED_KERNEL(name##_f16, Params, threads, min_blocks, body<f16, ##__VA_ARGS__>)

#include "cuda/kernels/device.h"

namespace heed::cuda {
// Returns the second coordinate of a block in a tall_grid, which may lie beyond the grid's height.
__device__ __forceinline__ int64_t block_y() { return static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y; }
}  // namespace heed::cuda

#else

#include "core/error.h"
#include "core/params.h"
#include "cuda/ops.h"
#include "cuda/stream.h"

#define HEED_KERNEL(name, Params, threads, min_blocks, ...) \
  [[maybe_unused]] static Kernel<Params> name{HEED_IMAGE_OF(name), #name, threads};
#define HEED_KERNEL_FLOATS(name, Params, threads, min_blocks, ...)                             \
  HEED_KERNEL(name##_f32, Params, threads, min_blocks, )                                       \
  HEED_KERNEL(name##_bf16, Params, threads, min_blocks, )                                      \
  HEED_KERNEL(name##_f16, Params, threads, min_blocks, )                                       \
  [[maybe_unused]] static Kernel<Params>& name(DType dtype) {                                  \
    return dtype == DType::f32 ? name##_f32 : dtype == DType::bf16 ? name##_bf16 : name##_f16; \
  }

namespace heed::cuda {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
// A grid of x by y blocks, where y may exceed the limit of 65535 for the second dimension of a grid.
inline Grid tall_grid(int64_t x, int64_t y) {
  const int64_t z = ceil_div(y, 65535);
  return {x, z ? ceil_div(y, z) : 0, z};
}
inline bool is_aligned(const void* address, int64_t bytes = 16) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) == 0;
}

}  // namespace heed::cuda

#endif
