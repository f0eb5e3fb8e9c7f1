// outs[i] = inps[i] for lists of contiguous tensors of equal shapes and any pairs of dtypes, converted as convert.h
// describes. It copies, for instance, the parameters of a model to their 16-bit copies in one launch.
//
// A block has a chunk of a tensor and branches on its pair of dtypes. If both sides are aligned, accesses are vectors
// of up to 16 bytes.
#include "core/checks/lists.h"
#include "cuda/kernels/chunks.h"
#include "cuda/kernels/convert.h"

namespace heed::cuda {

constexpr int kCopyChunk = 8192;

struct CopyListParams {
  TensorTable<2> tensors;  // out, inp
};

#if HEED_DEVICE_CODE

template <class To, class From>
__device__ __forceinline__ void copy_chunk(To* out, const From* inp, int n) {
  constexpr int V = 16 / (sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
  const bool aligned = reinterpret_cast<uintptr_t>(out) % (V * sizeof(To)) == 0 &&
                       reinterpret_cast<uintptr_t>(inp) % (V * sizeof(From)) == 0;
  const int vectors = aligned ? n / V : 0;
  for (int i = threadIdx.x; i < vectors; i += kChunkThreads) {
    const Vector<From, V> x = Vector<From, V>::load(inp + i * V);
    Vector<To, V> y;
#pragma unroll
    for (int k = 0; k < V; k++) y.at[k] = convert<To>(x.at[k]);
    y.store(out + i * V);
  }
  for (int i = vectors * V + threadIdx.x; i < n; i += kChunkThreads) out[i] = convert<To>(inp[i]);
}

template <class To>
__device__ __forceinline__ void copy_chunk_to(To* out, const void* inp, DType from, int64_t begin, int n) {
  switch (from) {
    case DType::f32:
      return copy_chunk(out + begin, static_cast<const float*>(inp) + begin, n);
    case DType::bf16:
      return copy_chunk(out + begin, static_cast<const bf16*>(inp) + begin, n);
    case DType::f16:
      return copy_chunk(out + begin, static_cast<const f16*>(inp) + begin, n);
    case DType::i32:
      return copy_chunk(out + begin, static_cast<const int32_t*>(inp) + begin, n);
    case DType::u8:
      return copy_chunk(out + begin, static_cast<const uint8_t*>(inp) + begin, n);
  }
}

__device__ void copy_list_body(const CopyListParams& p) {
  const Chunk chunk = find_chunk(p.tensors, kCopyChunk);
  void* out = p.tensors.data[0][chunk.tensor];
  const void* inp = p.tensors.data[1][chunk.tensor];
  const DType from = p.tensors.dtypes[chunk.tensor][1];
  switch (p.tensors.dtypes[chunk.tensor][0]) {
    case DType::f32:
      return copy_chunk_to(static_cast<float*>(out), inp, from, chunk.begin, chunk.n);
    case DType::bf16:
      return copy_chunk_to(static_cast<bf16*>(out), inp, from, chunk.begin, chunk.n);
    case DType::f16:
      return copy_chunk_to(static_cast<f16*>(out), inp, from, chunk.begin, chunk.n);
    case DType::i32:
      return copy_chunk_to(static_cast<int32_t*>(out), inp, from, chunk.begin, chunk.n);
    case DType::u8:
      return copy_chunk_to(static_cast<uint8_t*>(out), inp, from, chunk.begin, chunk.n);
  }
}

#endif

HEED_KERNEL(copy_list_kernel, CopyListParams, kChunkThreads, 1, copy_list_body)

#if !HEED_DEVICE_CODE

void host::copy_list(Stream& stream, OutList outs, InList inps) {
  check_copy_list(outs, inps);
  for_tables<2>({&outs, &inps}, kCopyChunk, [&](const TensorTable<2>& tensors, int64_t blocks) {
    stream.launch("copy_list", copy_list_kernel, {blocks}, CopyListParams{tensors});
  });
}

#endif

}  // namespace heed::cuda
