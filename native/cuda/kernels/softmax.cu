// Softmax over the last dimension: out = exp(inp - max) / Σ exp(inp - max); a row that consists of -inf gives zeros.
// Backward: dinp = out · (dout - Σ_j dout_j out_j), written or, with `accumulate`, added.
//
// Rows are contiguous; the leading dimensions may have any strides. A warp handles a row of up to about 1024 elements,
// and a block of 256 threads a row of up to 8192, in registers. Beyond that, a block of 1024 threads handles a row; it
// keeps the row in shared memory if it fits, and reads it again otherwise. Subnormal numbers count as zeros
// (images.json). An output may be an input's memory.
#include "cuda/kernels/online_softmax.h"

#if !HEED_DEVICE_CODE
#include "core/checks/softmax.h"
#endif

namespace heed::cuda {

struct SoftmaxForwardParams {
  void* out;
  const void* inp;
  RowOffsets<2> offsets;
  bool cached;  // wide rows: dynamic shared memory has room for one
  int64_t rows, C;
};

struct SoftmaxBackwardParams {
  void* dinp;
  const void *dout, *out;
  RowOffsets<3> offsets;
  bool accumulate;
  bool cached;  // wide rows: there is room for rows of dout and out
  int64_t rows, C;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ __forceinline__ void to_floats(float (&x)[kLength<T>], const Slot<T>& slot) {
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) x[e] = to_float(slot.at[e]);
}

// Slots that are cut from the row's own beginning, so that its sum has the same order wherever it lies in memory.
template <class T, class Index>
__device__ __forceinline__ Slots<T, Index> slots_of(const SoftmaxForwardParams& p) {
  return Slots<T, Index>(nullptr, p.C);
}

template <class T, int kLanes, int kElements>
__device__ __forceinline__ void softmax_forward_rows_body(const SoftmaxForwardParams& p) {
  constexpr int kSlots = kElements / kLength<T>;
  const int64_t row = row_of_group<kLanes>();
  if (row >= p.rows) return;
  const int lane = threadIdx.x % kLanes;
  int64_t at[2];
  p.offsets.locate(row, at);
  const T* inp = static_cast<const T*>(p.inp) + at[1];
  const Slots<T> slots = slots_of<T, int>(p);
  Slot<T> loaded[kSlots];
#pragma unroll
  for (int j = 0; j < kSlots; j++) loaded[j] = slots.load(inp, lane + j * kLanes, from_float<T>(-INFINITY));

  float x[kSlots][kLength<T>], max = -INFINITY, sum = 0;
#pragma unroll
  for (int j = 0; j < kSlots; j++) {
    to_floats<T>(x[j], loaded[j]);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) max = fmaxf(max, x[j][e]);
  }
  max = group_max<kLanes>(max);
  const float reference = max == -INFINITY ? 0.0f : max;
#pragma unroll
  for (int j = 0; j < kSlots; j++)
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) sum += x[j][e] = expf(x[j][e] - reference);
  sum = group_sum<kLanes>(sum);
  const float scale = sum == 0 ? 0.0f : 1.0f / sum;
#pragma unroll
  for (int j = 0; j < kSlots; j++) {
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) loaded[j].at[e] = from_float<T>(x[j][e] * scale);
    slots.store(static_cast<T*>(p.out) + at[0], lane + j * kLanes, loaded[j]);
  }
}

template <class T>
__device__ __forceinline__ void softmax_forward_wide_body(const SoftmaxForwardParams& p) {
  int64_t at[2];
  p.offsets.locate(blockIdx.x, at);
  const T* inp = static_cast<const T*>(p.inp) + at[1];
  const T lowest = from_float<T>(-INFINITY);
  const auto slots = slots_of<T, int64_t>(p);
  Slot<T>* cache = reinterpret_cast<Slot<T>*>(dynamic_shared());
  OnlineSoftmax softmax;
  float x[kLength<T>];
  for (int64_t slot = threadIdx.x; slot < slots.size(); slot += kWideThreads) {
    const Slot<T> loaded = slots.load(inp, slot, lowest);
    if (p.cached) cache[slot] = loaded;
    to_floats<T>(x, loaded);
    softmax.add(x);
  }
  softmax.combine<kWideThreads>();
  const float reference = softmax.reference(), scale = softmax.sum == 0 ? 0.0f : 1.0f / softmax.sum;
  for (int64_t slot = threadIdx.x; slot < slots.size(); slot += kWideThreads) {
    Slot<T> result = p.cached ? cache[slot] : slots.load(inp, slot, lowest);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) result.at[e] = from_float<T>(expf(to_float(result.at[e]) - reference) * scale);
    slots.store(static_cast<T*>(p.out) + at[0], slot, result);
  }
}

template <class T>
__device__ __forceinline__ float slot_dot(const Slot<T>& a, const Slot<T>& b) {
  float sum = 0;
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) sum = fmaf(to_float(a.at[e]), to_float(b.at[e]), sum);
  return sum;
}

template <class T, class Index>
__device__ __forceinline__ void write_dinp(const SoftmaxBackwardParams& p, const Slots<T, Index>& slots, int64_t at,
                                           Index slot, const Slot<T>& d, const Slot<T>& y, float dot) {
  T* dinp = static_cast<T*>(p.dinp) + at;
  Slot<T> dx;
  if (p.accumulate) dx = slots.load(dinp, slot, from_float<T>(0));
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) {
    float result = to_float(y.at[e]) * (to_float(d.at[e]) - dot);
    if (p.accumulate) result += to_float(dx.at[e]);
    dx.at[e] = from_float<T>(result);
  }
  slots.store(dinp, slot, dx);
}

template <class T, int kLanes, int kElements>
__device__ __forceinline__ void softmax_backward_rows_body(const SoftmaxBackwardParams& p) {
  constexpr int kSlots = kElements / kLength<T>;
  const int64_t row = row_of_group<kLanes>();
  if (row >= p.rows) return;
  const int lane = threadIdx.x % kLanes;
  int64_t at[3];
  p.offsets.locate(row, at);
  const T *dout = static_cast<const T*>(p.dout) + at[1], *out = static_cast<const T*>(p.out) + at[2];
  const Slots<T> slots(out, p.C);
  Slot<T> d[kSlots], y[kSlots];
#pragma unroll
  for (int j = 0; j < kSlots; j++) {
    d[j] = slots.load(dout, lane + j * kLanes, from_float<T>(0));
    y[j] = slots.load(out, lane + j * kLanes, from_float<T>(0));
  }
  float dot = 0;
#pragma unroll
  for (int j = 0; j < kSlots; j++) dot += slot_dot<T>(d[j], y[j]);
  dot = group_sum<kLanes>(dot);
#pragma unroll
  for (int j = 0; j < kSlots; j++) write_dinp(p, slots, at[0], lane + j * kLanes, d[j], y[j], dot);
}

template <class T>
__device__ __forceinline__ void softmax_backward_wide_body(const SoftmaxBackwardParams& p) {
  int64_t at[3];
  p.offsets.locate(blockIdx.x, at);
  const T *dout = static_cast<const T*>(p.dout) + at[1], *out = static_cast<const T*>(p.out) + at[2];
  const T zero = from_float<T>(0);
  const Slots<T, int64_t> slots(out, p.C);
  const int64_t size = slots.size();
  Slot<T>* cache = reinterpret_cast<Slot<T>*>(dynamic_shared());  // slots of dout, then of out
  float dot = 0;
  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads) {
    const Slot<T> d = slots.load(dout, slot, zero), y = slots.load(out, slot, zero);
    if (p.cached) {
      cache[slot] = d;
      cache[size + slot] = y;
    }
    dot += slot_dot<T>(d, y);
  }
  dot = group_sum<kWideThreads>(dot);
  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads) {
    const Slot<T> d = p.cached ? cache[slot] : slots.load(dout, slot, zero);
    const Slot<T> y = p.cached ? cache[size + slot] : slots.load(out, slot, zero);
    write_dinp(p, slots, at[0], slot, d, y, dot);
  }
}

#endif

HEED_KERNEL_FLOATS(softmax_forward_rows_32x8, SoftmaxForwardParams, kRowThreads, 4, softmax_forward_rows_body, 32, 8)
HEED_KERNEL_FLOATS(softmax_forward_rows_32x32, SoftmaxForwardParams, kRowThreads, 2, softmax_forward_rows_body, 32, 32)
HEED_KERNEL_FLOATS(softmax_forward_rows_256x8, SoftmaxForwardParams, kRowThreads, 4, softmax_forward_rows_body, 256, 8)
HEED_KERNEL_FLOATS(softmax_forward_rows_256x32, SoftmaxForwardParams, kRowThreads, 2, softmax_forward_rows_body, 256,
                   32)
HEED_KERNEL_FLOATS(softmax_forward_wide, SoftmaxForwardParams, kWideThreads, 1, softmax_forward_wide_body)
HEED_KERNEL_FLOATS(softmax_backward_rows_32x8, SoftmaxBackwardParams, kRowThreads, 4, softmax_backward_rows_body, 32, 8)
HEED_KERNEL_FLOATS(softmax_backward_rows_32x32, SoftmaxBackwardParams, kRowThreads, 2, softmax_backward_rows_body, 32,
                   32)
HEED_KERNEL_FLOATS(softmax_backward_rows_256x8, SoftmaxBackwardParams, kRowThreads, 4, softmax_backward_rows_body, 256,
                   8)
HEED_KERNEL_FLOATS(softmax_backward_rows_256x32, SoftmaxBackwardParams, kRowThreads, 2, softmax_backward_rows_body, 256,
                   32)
HEED_KERNEL_FLOATS(softmax_backward_wide, SoftmaxBackwardParams, kWideThreads, 1, softmax_backward_wide_body)

#if !HEED_DEVICE_CODE

constexpr RowKernels<SoftmaxForwardParams> kSoftmaxForward{
    {softmax_forward_rows_32x8, softmax_forward_rows_32x32, softmax_forward_rows_256x8, softmax_forward_rows_256x32}};
constexpr RowKernels<SoftmaxBackwardParams> kSoftmaxBackward{{softmax_backward_rows_32x8, softmax_backward_rows_32x32,
                                                              softmax_backward_rows_256x8,
                                                              softmax_backward_rows_256x32}};

void host::softmax_forward(Stream& stream, Out out, In inp) {
  const char* op = "softmax_forward";
  check_softmax_forward(op, out, inp);
  if (out.empty()) return;
  const int64_t C = inp.dim(-1), rows = inp.numel() / C;
  SoftmaxForwardParams p{out.data, inp.data, RowOffsets<2>({&out, &inp}), false, rows, C};
  const RowPath path = row_path(C);
  if (path != RowPath::wide)
    return stream.launch(op, kSoftmaxForward.of(inp.dtype, path), {ceil_div(rows, groups(path))}, p);
  const size_t bytes = row_bytes(inp);
  p.cached = bytes <= shared_for_rows(stream);
  stream.launch(op, softmax_forward_wide(inp.dtype), {rows}, p, p.cached ? bytes : 0);
}

void host::softmax_backward(Stream& stream, Out dinp, In dout, In out, Bool accumulate) {
  const char* op = "softmax_backward";
  check_softmax_backward(op, dinp, dout, out);
  if (dinp.empty()) return;
  const int64_t C = out.dim(-1), rows = out.numel() / C;
  SoftmaxBackwardParams p{dinp.data,  dout.data, out.data, RowOffsets<3>({&dinp, &dout, &out}),
                          accumulate, false,     rows,     C};
  const RowPath path = row_path(row_extent(out));
  if (path != RowPath::wide)
    return stream.launch(op, kSoftmaxBackward.of(out.dtype, path), {ceil_div(rows, groups(path))}, p);
  const size_t bytes = 2 * row_bytes(out);
  p.cached = bytes <= shared_for_rows(stream);
  stream.launch(op, softmax_backward_wide(out.dtype), {rows}, p, p.cached ? bytes : 0);
}

#endif

}  // namespace heed::cuda
