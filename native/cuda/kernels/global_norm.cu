// The norm of all gradients together: sqrt(Σ g²) over every element of a list of f32 tensors.
//
// Squares are summed in f64, so that the norm overflows only if f32 cannot hold it. NaN and inf are passed on; they
// make adamw skip the step. Each block sums a chunk, and one more block sums all chunks in a fixed order, so the result
// is deterministic.
#include "core/checks/lists.h"
#include "cuda/kernels/chunks.h"

namespace heed::cuda {

constexpr int kNormChunk = 16384;

struct NormChunksParams {
  TensorTable<1> grads;
  double* partial;  // [blocks]
};

struct NormTotalParams {
  const double* partial;
  int64_t count;
  float* norm;
};

#if HEED_DEVICE_CODE

// Returns the block's sum in thread 0.
__device__ __forceinline__ double block_total(double x) {
  __shared__ double warps[kChunkThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_down_sync(kFullWarp, x, offset);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0;
#pragma unroll
  for (int w = 0; w < kChunkThreads / 32; w++) total += warps[w];
  return total;
}

// The square of an f32 has 48 bits, so it is exact in f64.
__device__ __forceinline__ double square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

__device__ void norm_chunks_body(const NormChunksParams& p) {
  const Chunk chunk = find_chunk(p.grads, kNormChunk);
  const float* g = static_cast<const float*>(p.grads.data[0][chunk.tensor]) + chunk.begin;
  const int vectors = reinterpret_cast<uintptr_t>(g) % 16 == 0 ? chunk.n / 4 : 0;
  double sum[4] = {};
#pragma unroll 4
  for (int i = threadIdx.x; i < vectors; i += kChunkThreads) {
    const Vector<float, 4> x = Vector<float, 4>::load(g + i * 4);
#pragma unroll
    for (int k = 0; k < 4; k++) sum[k] += square(x.at[k]);
  }
  for (int i = vectors * 4 + threadIdx.x; i < chunk.n; i += kChunkThreads) sum[0] += square(g[i]);
  const double total = block_total((sum[0] + sum[1]) + (sum[2] + sum[3]));
  if (threadIdx.x == 0) p.partial[blockIdx.x] = total;
}

__device__ void norm_total_body(const NormTotalParams& p) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < p.count; i += kChunkThreads) sum += p.partial[i];
  const double total = block_total(sum);
  if (threadIdx.x == 0) *p.norm = static_cast<float>(sqrt(total));
}

#endif

HEED_KERNEL(norm_chunks, NormChunksParams, kChunkThreads, 1, norm_chunks_body)
HEED_KERNEL(norm_total, NormTotalParams, kChunkThreads, 1, norm_total_body)

#if !HEED_DEVICE_CODE

void host::global_norm(Stream& stream, Out norm, InList grads) {
  const char* op = "global_norm";
  check_global_norm(norm, grads);
  int64_t chunks = 0;
  for_tables<1>({&grads}, kNormChunk, [&](const TensorTable<1>&, int64_t blocks) { chunks += blocks; });
  const Stream::Workspace partial(stream, op, static_cast<size_t>(chunks) * sizeof(double));
  int64_t done = 0;
  for_tables<1>({&grads}, kNormChunk, [&](const TensorTable<1>& table, int64_t blocks) {
    stream.launch(op, norm_chunks, {blocks}, NormChunksParams{table, partial.as<double>() + done});
    done += blocks;
  });
  stream.launch(op, norm_total, {1}, NormTotalParams{partial.as<double>(), chunks, norm.f32()});
}

#endif

}  // namespace heed::cuda
