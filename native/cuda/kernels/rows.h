// Kernels over rows: a group of threads, which is a warp or a block, handles a row and keeps it in registers if it
// fits. This header has the paths, the sums over a group, and the places at which rows of strided views begin.
#pragma once
#include "cuda/kernels/slots.h"

namespace heed::cuda {

constexpr int kRowThreads = 256;    // eight rows with one warp each, or one row per block
constexpr int kWideThreads = 1024;  // of a block for one row that is too wide for registers

// The group, and the number of elements for which each of its threads has room: 8 if that is enough, so that many
// blocks work on a multiprocessor, and 32 for wider rows. `wide` rows do not fit into registers.
enum class RowPath { by_32x8, by_32x32, by_256x8, by_256x32, wide };

#if HEED_DEVICE_CODE

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

// Returns the row of a thread's group, if a group handles one row.
template <int kLanes>
__device__ __forceinline__ int64_t row_of_group() {
  return static_cast<int64_t>(blockIdx.x) * (kRowThreads / kLanes) + threadIdx.x / kLanes;
}

// Sums over a group, with the same bits in every lane. A group is a warp or the whole block.
template <int kLanes, int kCount>
__device__ __forceinline__ void group_sum(float (&x)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount; k++) x[k] = warp_sum(x[k]);
  if constexpr (kLanes > 32) {
    __shared__ float parts[kCount][kLanes / 32];
    if (threadIdx.x % 32 == 0)
#pragma unroll
      for (int k = 0; k < kCount; k++) parts[k][threadIdx.x / 32] = x[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kCount; k++) {
      // Every warp sums the parts of all warps in the same order.
      const int lane = threadIdx.x % 32;
      x[k] = warp_sum(lane < kLanes / 32 ? parts[k][lane] : 0.0f);
    }
    __syncthreads();
  }
}
template <int kLanes>
__device__ __forceinline__ float group_sum(float x) {
  float parts[1] = {x};
  group_sum<kLanes>(parts);
  return parts[0];
}
template <int kLanes>
__device__ __forceinline__ float group_max(float x) {
  return block_max<kLanes>(x);
}

// Gives all lanes of a group the values of its first lane.
template <int kLanes, int kCount>
__device__ __forceinline__ void group_first(int32_t (&x)[kCount]) {
  if constexpr (kLanes == 32) {
#pragma unroll
    for (int k = 0; k < kCount; k++) x[k] = __shfl_sync(kFullWarp, x[k], 0);
  } else {
    __shared__ int32_t first[kCount];
    if (threadIdx.x == 0)
#pragma unroll
      for (int k = 0; k < kCount; k++) first[k] = x[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kCount; k++) x[k] = first[k];
    __syncthreads();
  }
}

#else

// The kernels among which a row's path chooses, as HEED_KERNEL_FLOATS declares them. Wide rows have another one.
template <class Params>
struct RowKernels {
  using OfDtype = Kernel<Params>& (*)(DType dtype);
  OfDtype by_path[static_cast<int>(RowPath::wide)];

  Kernel<Params>& of(DType dtype, RowPath path) const { return by_path[static_cast<int>(path)](dtype); }
};

// `elements` is the largest number that the slots of a row can have.
inline RowPath row_path(int64_t elements) {
  if (elements <= 32 * 8) return RowPath::by_32x8;
  if (elements <= 32 * 32) return RowPath::by_32x32;
  if (elements <= 256 * 8) return RowPath::by_256x8;
  if (elements <= 256 * 32) return RowPath::by_256x32;
  return RowPath::wide;
}
// Returns the number of rows that a block handles at once.
inline int64_t groups(RowPath path) {
  return path == RowPath::by_32x8 || path == RowPath::by_32x32 ? kRowThreads / 32 : 1;
}

// Returns the blocks per multiprocessor if each goes over several rows: as many as it has room for.
inline int64_t blocks_at_work(RowPath path, int64_t blocks8, int64_t blocks32) {
  return path == RowPath::by_32x8 || path == RowPath::by_256x8 ? blocks8 : blocks32;
}

// Returns the number of elements in the slots of a row, which are cut from the last boundary before it.
inline int64_t row_extent(const TensorView& view) {
  const int64_t length = 16 / static_cast<int64_t>(size_of(view.dtype));
  bool aligned = is_aligned(view.data);
  for (int d = 0; d < view.rank - 1; d++) aligned = aligned && (view.shape[d] == 1 || view.strides[d] % length == 0);
  return view.dim(-1) + (aligned ? 0 : length - 1);
}

template <class T>
inline T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T max_of(T a, T b) {
  return a < b ? b : a;
}

// Returns the bytes of the slots of a row, wherever it begins.
inline size_t row_bytes(const TensorView& view) {
  return static_cast<size_t>(view.dim(-1)) * size_of(view.dtype) / 16 * 16 + 32;
}

// Returns the shared memory in which a row can be kept; kernels need up to 1 KB for their sums.
inline size_t shared_for_rows(const Stream& stream) { return stream.shared_limit() - 1024; }

#endif

// The places at which the rows of up to kViews strided views of one shape begin.
template <int kViews>
struct RowOffsets {
  int rank = 0;
  int64_t shape[kMaxRank] = {}, strides[kViews][kMaxRank] = {};

#if HEED_DEVICE_CODE
  __device__ __forceinline__ void locate(int64_t row, int64_t (&offsets)[kViews]) const {
#pragma unroll
    for (int v = 0; v < kViews; v++) offsets[v] = 0;
    for (int d = rank - 1; d >= 0; d--) {
      const int64_t index = d ? row % shape[d] : row;
      if (d) row /= shape[d];
#pragma unroll
      for (int v = 0; v < kViews; v++) offsets[v] += index * strides[v][d];
    }
  }
#else
  // Joins dimensions that are laid out as one in every view, so that rows of contiguous tensors need no division.
  explicit RowOffsets(const TensorView* const (&views)[kViews]) {
    for (int d = 0; d < views[0]->rank - 1; d++) {
      const int64_t size = views[0]->shape[d];
      if (size == 1) continue;
      bool joins = rank > 0;
      for (int v = 0; joins && v < kViews; v++) joins = strides[v][rank - 1] == views[v]->strides[d] * size;
      if (!joins) shape[rank++] = 1;
      shape[rank - 1] *= size;
      for (int v = 0; v < kViews; v++) strides[v][rank - 1] = views[v]->strides[d];
    }
  }
#endif
};

}  // namespace heed::cuda
