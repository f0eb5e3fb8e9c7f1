// bias_backward: dbias[c] (+)= Σ_rows dout[row, c], dout [..., C].
//
// It has two stages and no atomics: each chunk of rows is summed in f32 into a row of its own, and then the same kernel
// adds up the chunks. In a block, each warp sums every eighth row of the chunk and each thread four columns (one column
// if rows are not aligned); the sums of the warps are added in order.
#include "cuda/kernels/kernel.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/checks/gemm.h"
#endif

namespace heed::cuda {

struct BiasBackwardParams {
  const void* in;
  void* out;  // one row for each chunk
  int64_t rows, columns;
  int64_t chunk;
  bool vectors;
  bool out_f32;
  bool accumulate;
};

#if HEED_DEVICE_CODE

constexpr int kBiasWarps = 8;

template <class In, class Out, int N>
__device__ __forceinline__ void sum_columns(const BiasBackwardParams& p) {
  __shared__ float sums[kBiasWarps][32 * N];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * 32 * N, column = first + lane * N;
  const int64_t begin = blockIdx.y * p.chunk, end = min(begin + p.chunk, p.rows);
  Vector<float, N> sum = {};
  if (column < p.columns) {
    const In* in = static_cast<const In*>(p.in) + column;
#pragma unroll 4
    for (int64_t row = begin + warp; row < end; row += kBiasWarps) {
      const auto x = Vector<In, N>::load(in + row * p.columns);
#pragma unroll
      for (int i = 0; i < N; i++) sum.at[i] += to_float(x.at[i]);
    }
  }
  sum.store(&sums[warp][lane * N]);
  __syncthreads();
  const int64_t mine = first + threadIdx.x;
  if (threadIdx.x >= 32 * N || mine >= p.columns) return;
  float total = 0;
#pragma unroll
  for (int w = 0; w < kBiasWarps; w++) total += sums[w][threadIdx.x];
  const int64_t at = blockIdx.y * p.columns + mine;
  if (p.out_f32) {
    float* const out = static_cast<float*>(p.out) + at;
    *out = p.accumulate ? *out + total : total;
  } else {
    Out* const out = static_cast<Out*>(p.out) + at;
    *out = from_float<Out>(p.accumulate ? to_float(*out) + total : total);
  }
}

template <class In, class Out>
__device__ __forceinline__ void sum_columns(const BiasBackwardParams& p) {
  if (p.vectors)
    sum_columns<In, Out, 4>(p);
  else
    sum_columns<In, Out, 1>(p);
}

template <class T>
__device__ void bias_backward_rows(const BiasBackwardParams& p) {
  sum_columns<T, T>(p);
}
template <class T>
__device__ void bias_backward_chunks(const BiasBackwardParams& p) {
  sum_columns<float, T>(p);
}

#endif

HEED_KERNEL_FLOATS(bias_backward_rows, BiasBackwardParams, 256, 4, bias_backward_rows)
HEED_KERNEL_FLOATS(bias_backward_chunks, BiasBackwardParams, 256, 4, bias_backward_chunks)

#if !HEED_DEVICE_CODE

void host::bias_backward(Stream& stream, Out dbias, In dout, Bool accumulate) {
  const char* op = "bias_backward";
  check_bias_backward(dbias, dout);
  const int64_t columns = dout.dim(-1);
  if (columns == 0) return;
  const int64_t rows = dout.numel() / columns;
  // There are enough chunks to fill a device, but few enough for one block to add up.
  const int64_t chunk = std::max<int64_t>(128, (rows + 255) / 256);
  const int64_t chunks = std::max<int64_t>(1, (rows + chunk - 1) / chunk);
  const Stream::Workspace partial(stream, op, chunks > 1 ? static_cast<size_t>(chunks * columns) * sizeof(float) : 0);

  const auto sum = [&](Kernel<BiasBackwardParams>& kernel, BiasBackwardParams p, size_t element) {
    p.columns = columns;
    p.vectors = columns % 4 == 0 && reinterpret_cast<uintptr_t>(p.in) % (4 * element) == 0;
    const int64_t width = p.vectors ? 128 : 32;
    stream.launch(op, kernel, {(columns + width - 1) / width, std::max<int64_t>(1, (p.rows + p.chunk - 1) / p.chunk)},
                  p);
  };
  BiasBackwardParams last{partial.f32(), dbias.data, chunks, 0, chunks, false, dbias.dtype == DType::f32, accumulate};
  if (chunks == 1) {
    last.in = dout.data;
    last.rows = rows;
    last.chunk = chunk;
    return sum(bias_backward_rows(dout.dtype), last, size_of(dout.dtype));
  }
  sum(bias_backward_rows(dout.dtype), {dout.data, partial.f32(), rows, 0, chunk, false, true, false},
      size_of(dout.dtype));
  sum(bias_backward_chunks(dout.dtype), last, sizeof(float));
}

#endif

}  // namespace heed::cuda
