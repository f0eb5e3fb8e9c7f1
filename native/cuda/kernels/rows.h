// Rows on the device: a row of n elements is handled by a group of kLanes threads, a warp or a block.
//
// A row is cut into slots of 16 bytes; lane l has slots l, l + kLanes, ... A slot is accessed at once where all of it
// belongs to the row and lies on a 16-byte boundary, else element by element. Slots are cut from the row's start, for
// kernels in which a lane must have the same columns of each row, or from the last boundary at or before it, so that
// rows of any width use 128-bit accesses.
#pragma once
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

constexpr int kRowThreads = 256;    // of a block: eight rows of a warp each, or one row
constexpr int kWideThreads = 1024;  // of a block that takes one row too wide for registers

// The group and the elements that each of its threads has room for: 8 where that is enough, so that many blocks are at
// work on a multiprocessor, and 32 for what is wider. `wide` rows do not fit registers.
enum class RowPath { by_32x8, by_32x32, by_256x8, by_256x32, wide };

// name(dtype, path): kernels around rows_body<T, lanes, elements>(const Params&), for paths other than wide.
// `blocks8` and `blocks32` are the blocks a multiprocessor has at least.
#define HEED_ROW_KERNELS(name, Params, blocks8, blocks32, rows_body)   \
  HEED_ROW_KERNEL(name##_32x8, Params, blocks8, rows_body, 32, 8)      \
  HEED_ROW_KERNEL(name##_32x32, Params, blocks32, rows_body, 32, 32)   \
  HEED_ROW_KERNEL(name##_256x8, Params, blocks8, rows_body, 256, 8)    \
  HEED_ROW_KERNEL(name##_256x32, Params, blocks32, rows_body, 256, 32) \
  HEED_ROW_KERNEL_CHOICE(name, Params)
#define HEED_ROW_KERNEL(name, Params, blocks, rows_body, lanes, elements)                 \
  HEED_KERNEL(name##_f32, Params, kRowThreads, blocks, rows_body<float, lanes, elements>) \
  HEED_KERNEL(name##_bf16, Params, kRowThreads, blocks, rows_body<bf16, lanes, elements>) \
  HEED_KERNEL(name##_f16, Params, kRowThreads, blocks, rows_body<f16, lanes, elements>)

#if HEED_DEVICE_CODE

#define HEED_ROW_KERNEL_CHOICE(name, Params)

template <class T>
constexpr int kLength = 16 / sizeof(T);
template <class T>
using Slot = Vector<T, kLength<T>>;

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

__device__ __forceinline__ unsigned misalignment(const void* address) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(address)) % 16;
}

// The slots of one row; Index is int where rows are known to be short.
template <class T, class Index = int>
struct Slots {
  Index n;
  int phase;  // elements of the first slot that lie before the row

  __device__ __forceinline__ explicit Slots(int64_t n) : n(static_cast<Index>(n)), phase(0) {}
  // From the last boundary before `row`.
  __device__ __forceinline__ Slots(const T* row, int64_t n)
      : n(static_cast<Index>(n)), phase(static_cast<int>(misalignment(row) / sizeof(T))) {}

  __device__ __forceinline__ Index size() const { return (n + phase + kLength<T> - 1) / kLength<T>; }
  // The position in the row of a slot's first element, which may be outside of it.
  __device__ __forceinline__ Index begin(Index slot) const { return slot * kLength<T> - phase; }
  __device__ __forceinline__ bool holds(Index i) const { return i >= 0 && i < n; }
  __device__ __forceinline__ bool whole(const T* row, Index i) const {
    return i >= 0 && i + kLength<T> <= n && misalignment(row + i) == 0;
  }

  // Elements outside of the row are `other`.
  __device__ __forceinline__ Slot<T> load(const T* row, Index slot, T other) const {
    const Index i = begin(slot);
    if (whole(row, i)) return Slot<T>::load(row + i);
    Slot<T> v;
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) v.at[e] = holds(i + e) ? row[i + e] : other;
    return v;
  }
  __device__ __forceinline__ void store(T* row, Index slot, const Slot<T>& v) const {
    const Index i = begin(slot);
    if (whole(row, i)) return v.store(row + i);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++)
      if (holds(i + e)) row[i + e] = v.at[e];
  }
};

// An element of a parameter, which is f32 or of the activations' dtype T.
template <class T>
__device__ __forceinline__ float parameter_at(const void* parameter, bool is_f32, int64_t i) {
  return is_f32 ? static_cast<const float*>(parameter)[i] : to_float(static_cast<const T*>(parameter)[i]);
}

// Where a thread's group takes one row.
template <int kLanes>
__device__ __forceinline__ int64_t row_of_group() {
  return static_cast<int64_t>(blockIdx.x) * (kRowThreads / kLanes) + threadIdx.x / kLanes;
}

// Sums over a group, the same bits in every lane. A group is a warp, or the whole block.
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
      // Every warp sums the warps' parts in the same order.
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

// A parameter of n elements as f32 in shared memory: for each slot of a row of T its elements, in groups of four that
// lie apart, so that the lanes of a warp read 16 bytes each without a conflict of banks.
template <class T>
struct SharedParameter {
  float* memory;
  int slots;

  // Of floats, for n elements.
  __device__ __forceinline__ static int size(int n) { return (n + kLength<T> - 1) / kLength<T> * kLength<T>; }
  __device__ __forceinline__ SharedParameter(float* memory, int n) : memory(memory), slots(size(n) / kLength<T>) {}

  __device__ __forceinline__ float& at(int i) const {
    const int slot = i / kLength<T>, e = i % kLength<T>;
    return memory[(e / 4 * slots + slot) * 4 + e % 4];
  }
  // `absent` where there is no parameter, 0 beyond its end. The caller sees to the barrier.
  __device__ __forceinline__ void fill(const void* parameter, bool is_f32, int n, float absent) const {
    for (int i = threadIdx.x; i < slots * kLength<T>; i += blockDim.x)
      at(i) = i >= n ? 0.0f : parameter ? parameter_at<T>(parameter, is_f32, i) : absent;
  }
  __device__ __forceinline__ Vector<float, kLength<T>> load(int slot) const {
    Vector<float, kLength<T>> v;
#pragma unroll
    for (int part = 0; part < kLength<T> / 4; part++) {
      const Vector<float, 4> four = Vector<float, 4>::load(memory + (part * slots + slot) * 4);
#pragma unroll
      for (int e = 0; e < 4; e++) v.at[part * 4 + e] = four.at[e];
    }
    return v;
  }
  // Writes the slot or adds to it.
  __device__ __forceinline__ void store(int slot, const float (&values)[kLength<T>], bool accumulate) const {
#pragma unroll
    for (int part = 0; part < kLength<T> / 4; part++) {
      float* to = memory + (part * slots + slot) * 4;
      Vector<float, 4> four{values[part * 4], values[part * 4 + 1], values[part * 4 + 2], values[part * 4 + 3]};
      if (accumulate) {
        const Vector<float, 4> before = Vector<float, 4>::load(to);
#pragma unroll
        for (int e = 0; e < 4; e++) four.at[e] += before.at[e];
      }
      four.store(to);
    }
  }
};

#else

#define HEED_ROW_KERNEL_CHOICE(name, Params)                                                                     \
  static Kernel<Params>& name(DType dtype, RowPath path) {                                                       \
    static Kernel<Params>* const kernels[][3] = {{&name##_32x8_f32, &name##_32x8_bf16, &name##_32x8_f16},        \
                                                 {&name##_32x32_f32, &name##_32x32_bf16, &name##_32x32_f16},     \
                                                 {&name##_256x8_f32, &name##_256x8_bf16, &name##_256x8_f16},     \
                                                 {&name##_256x32_f32, &name##_256x32_bf16, &name##_256x32_f16}}; \
    return *kernels[static_cast<int>(path)][static_cast<int>(dtype)];                                            \
  }

// `elements`: how many the slots of a row can have.
inline RowPath row_path(int64_t elements) {
  if (elements <= 32 * 8) return RowPath::by_32x8;
  if (elements <= 32 * 32) return RowPath::by_32x32;
  if (elements <= 256 * 8) return RowPath::by_256x8;
  if (elements <= 256 * 32) return RowPath::by_256x32;
  return RowPath::wide;
}
// Rows a block has at work at a time.
inline int64_t groups(RowPath path) {
  return path == RowPath::by_32x8 || path == RowPath::by_32x32 ? kRowThreads / 32 : 1;
}

// Blocks for a multiprocessor where each goes over several rows: as many as it has room for.
inline int64_t blocks_at_work(RowPath path, int64_t blocks8, int64_t blocks32) {
  return path == RowPath::by_32x8 || path == RowPath::by_256x8 ? blocks8 : blocks32;
}
inline bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

// Elements in the slots of a row, where they are cut from the last boundary before it.
inline int64_t row_extent(const TensorView& view) {
  const int64_t length = 16 / static_cast<int64_t>(size_of(view.dtype));
  bool aligned = is_aligned(view.data);
  for (int d = 0; d < view.rank - 1; d++) aligned = aligned && (view.shape[d] == 1 || view.strides[d] % length == 0);
  return view.dim(-1) + (aligned ? 0 : length - 1);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T>
inline T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T max_of(T a, T b) {
  return a < b ? b : a;
}

// Elements in the slots of a row that are cut from its start; what a SharedParameter takes.
inline int64_t padded_row(const TensorView& view) {
  const int64_t length = 16 / static_cast<int64_t>(size_of(view.dtype));
  return ceil_div(view.dim(-1), length) * length;
}

// Shared memory that holds the slots of a row, wherever they are cut from.
inline size_t row_bytes(const TensorView& view) {
  return static_cast<size_t>(padded_row(view)) * size_of(view.dtype) + 16;
}

// Shared memory a row can be kept in; kernels have up to 1 KB for their sums.
inline size_t shared_for_rows(const Stream& stream) { return stream.shared_limit() - 1024; }

#endif

// Where the rows of up to kViews strided views of one shape begin.
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
