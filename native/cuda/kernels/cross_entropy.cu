// Softmax cross-entropy with label smoothing (Szegedy et al., 2016): loss and gradient in one pass over rows of V
// logits.
//   loss_row = log Σ_v e^{x_v} - (1-s) x_target - s · mean(x),
//   dlogits = (softmax(x) - (1-s) onehot - s/V) / (number of rows that count) · scale.
// Ignored rows give a loss and a gradient of 0; so do rows whose target is out of range, which is reported.
//
// There are three kernels: one block counts the rows and checks the targets; then the rows are processed; then one
// block sums their losses in f64, in a fixed order. A row is handled in registers by a warp up to V of about 1024, and
// by a block of 256 threads up to 8192. Beyond that, a block of 1024 threads handles a row with an online log-sum-exp.
// It keeps the row in shared memory (and for f32 64 KB of it in registers) if it fits, so that logits are read only
// once, and reads it twice otherwise. Logits may be -inf. Subnormal numbers count as zeros (images.json). dlogits may
// be the logits' memory. Backward needs dlogits only.
#include "cuda/kernels/online_softmax.h"

#if !HEED_DEVICE_CODE
#include "core/checks/cross_entropy.h"
#include "core/checks/rows.h"
#endif

namespace heed::cuda {

struct CrossEntropyParams {
  const void* logits;
  const int32_t* targets;  // [rows], a part of all targets
  const int32_t* all;      // [targets_count]: the targets that the mean is over
  void* dlogits;           // or null
  float* losses;           // [rows]
  float* loss;             // mean of the losses
  int64_t* count;          // number of rows that are not ignored, at least 1
  int64_t rows, targets_count, V, ignore_index;
  float smoothing, scale;
  bool accumulate;
  bool cached;  // wide rows: dynamic shared memory has room for one
  FaultSink fault;
};

constexpr int kCountThreads = 1024;
// Number of slots of a wide row that a thread keeps in registers, by the size of an element: as many as there is room
// for.
template <size_t kSize>
constexpr int kKeptSlots = kSize == 4 ? 4 : 0;

#if HEED_DEVICE_CODE

__device__ __forceinline__ void cross_entropy_count_body(const CrossEntropyParams& p) {
  constexpr int kWarps = kCountThreads / 32;
  int64_t count = 0, wrong = p.targets_count;  // `wrong`: the first target out of range
#pragma unroll 4
  for (int64_t row = threadIdx.x; row < p.targets_count; row += kCountThreads) {
    const int64_t target = p.all[row];
    if (target == p.ignore_index) continue;
    count++;
    if (target < 0 || target >= p.V) wrong = min(wrong, row);
  }
  __shared__ int64_t counts[kWarps], wrongs[kWarps];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    count += __shfl_xor_sync(kFullWarp, count, offset);
    wrong = min(wrong, __shfl_xor_sync(kFullWarp, wrong, offset));
  }
  if (threadIdx.x % 32 == 0) {
    counts[threadIdx.x / 32] = count;
    wrongs[threadIdx.x / 32] = wrong;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kWarps; warp++) {
    count += counts[warp];
    wrong = min(wrong, wrongs[warp]);
  }
  *p.count = max(count, int64_t{1});
  if (wrong < p.targets_count) report_fault(p.fault, FaultKind::target, p.all[wrong], p.V, wrong);
}

// The values of one row that are the same for all of its elements.
template <class T, int kLanes>
struct CrossEntropyRow {
  const T* x;
  T* dx;  // or null
  int32_t target;
  bool counts;
  float at_target;
  float anchor;  // a value near the logits, whose differences from it are summed
  float scale;   // of the gradient

  // The constructor reads before any lane of the group writes to dx.
  __device__ __forceinline__ CrossEntropyRow(const CrossEntropyParams& p, int64_t row)
      : x(static_cast<const T*>(p.logits) + row * p.V),
        dx(p.dlogits ? static_cast<T*>(p.dlogits) + row * p.V : nullptr) {
    int32_t first[4] = {};
    if (threadIdx.x % kLanes == 0) {
      first[0] = p.targets[row];
      if (counted(p, first[0])) {
        first[1] = __float_as_int(to_float(x[first[0]]));
        if (p.smoothing > 0) first[2] = __float_as_int(to_float(x[0]));
        first[3] = __float_as_int(p.scale / static_cast<float>(*p.count));
      }
    }
    group_first<kLanes>(first);
    target = first[0];
    counts = counted(p, target);
    at_target = __int_as_float(first[1]);
    anchor = __int_as_float(first[2]);
    if (!isfinite(anchor)) anchor = 0;
    scale = __int_as_float(first[3]);
  }

  __device__ __forceinline__ static bool counted(const CrossEntropyParams& p, int32_t target) {
    return target != p.ignore_index && target >= 0 && target < p.V;
  }

  __device__ __forceinline__ float loss(const CrossEntropyParams& p, float max, float sum, float spread) const {
    float loss = logf(sum);
    if (p.smoothing < 1) loss += (1 - p.smoothing) * (max - at_target);
    if (p.smoothing > 0) loss += p.smoothing * (max - anchor - spread / static_cast<float>(p.V));
    return loss;
  }

  template <class Index>
  __device__ __forceinline__ float spread(const Slots<T, Index>& slots, Index slot, const Slot<T>& loaded) const {
    float sum = 0;
#pragma unroll
    for (int e = 0; e < kLength<T>; e++)
      if (slots.holds(slots.begin(slot) + e)) sum += to_float(loaded.at[e]) - anchor;
    return sum;
  }

  template <class Index>
  __device__ __forceinline__ void write_zeros(const Slots<T, Index>& slots, Index slot) const {
    Slot<T> zeros;
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) zeros.at[e] = from_float<T>(0);
    slots.store(dx, slot, zeros);
  }
};

// The gradient of a row: exponential · factor - uniform, and at the target also - peak.
struct Gradient {
  float factor, uniform, peak;
  __device__ __forceinline__ Gradient(const CrossEntropyParams& p, float scale, float sum) {
    factor = scale / sum;
    uniform = scale * p.smoothing / static_cast<float>(p.V);
    peak = scale * (1 - p.smoothing);
  }
  __device__ __forceinline__ float at(float exponential, bool is_target) const {
    const float g = exponential * factor - uniform;
    return is_target ? g - peak : g;
  }
};

template <class T, int kLanes, int kElements>
__device__ __forceinline__ void cross_entropy_rows_body(const CrossEntropyParams& p) {
  constexpr int kSlots = kElements / kLength<T>;
  const int64_t index = row_of_group<kLanes>();
  if (index >= p.rows) return;
  const int lane = threadIdx.x % kLanes;
  const CrossEntropyRow<T, kLanes> row(p, index);
  const Slots<T> slots(row.x, p.V);
  if (!row.counts) {
    if (row.dx)
      for (int slot = lane; slot < slots.size(); slot += kLanes) row.write_zeros(slots, slot);
    if (lane == 0) p.losses[index] = 0;
    return;
  }
  Slot<T> loaded[kSlots];
#pragma unroll
  for (int j = 0; j < kSlots; j++) loaded[j] = slots.load(row.x, lane + j * kLanes, from_float<T>(-INFINITY));

  float x[kSlots][kLength<T>], max = -INFINITY,
                               sums[2] = {};  // sums of exponentials and of differences from the anchor
#pragma unroll
  for (int j = 0; j < kSlots; j++) {
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) {
      x[j][e] = to_float(loaded[j].at[e]);
      max = fmaxf(max, x[j][e]);
    }
    if (p.smoothing > 0) sums[1] += row.spread(slots, lane + j * kLanes, loaded[j]);
  }
  max = group_max<kLanes>(max);
  const float reference = max == -INFINITY ? 0.0f : max;
#pragma unroll
  for (int j = 0; j < kSlots; j++)
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) sums[0] += x[j][e] = expf(x[j][e] - reference);
  group_sum<kLanes>(sums);
  if (lane == 0) p.losses[index] = row.loss(p, max, sums[0], sums[1]);
  if (!row.dx) return;
  const Gradient gradient(p, row.scale, sums[0]);
#pragma unroll
  for (int j = 0; j < kSlots; j++) {
    const int slot = lane + j * kLanes, target = row.target - slots.begin(slot);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) loaded[j].at[e] = from_float<T>(gradient.at(x[j][e], e == target));
    slots.store(row.dx, slot, loaded[j]);
  }
}

template <class T>
__device__ __forceinline__ void cross_entropy_wide_body(const CrossEntropyParams& p) {
  const int64_t index = blockIdx.x;
  const CrossEntropyRow<T, kWideThreads> row(p, index);
  const Slots<T, int64_t> slots(row.x, p.V);
  if (!row.counts) {
    if (row.dx)
      for (int64_t slot = threadIdx.x; slot < slots.size(); slot += kWideThreads) row.write_zeros(slots, slot);
    if (threadIdx.x == 0) p.losses[index] = 0;
    return;
  }
  constexpr int kKept = kKeptSlots<sizeof(T)>;
  const T lowest = from_float<T>(-INFINITY);
  Slot<T> kept[kKept + 1];  // the last is not used, because arrays cannot be empty
  Slot<T>* cache = reinterpret_cast<Slot<T>*>(dynamic_shared());
  OnlineSoftmax softmax;
  float spread = 0;
  const auto add = [&](int64_t slot, const Slot<T>& loaded) {
    float x[kLength<T>];
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) x[e] = to_float(loaded.at[e]);
    softmax.add(x);
    if (p.smoothing > 0) spread += row.spread(slots, slot, loaded);
  };
#pragma unroll
  for (int j = 0; j < kKept; j++) kept[j] = slots.load(row.x, threadIdx.x + j * kWideThreads, lowest);
#pragma unroll
  for (int j = 0; j < kKept; j++) add(threadIdx.x + j * kWideThreads, kept[j]);
  constexpr int64_t kRest = kKept * kWideThreads;
  for (int64_t slot = kRest + threadIdx.x; slot < slots.size(); slot += kWideThreads) {
    const Slot<T> loaded = slots.load(row.x, slot, lowest);
    if (p.cached) cache[slot - kRest] = loaded;
    add(slot, loaded);
  }
  softmax.combine<kWideThreads>();
  if (p.smoothing > 0) spread = group_sum<kWideThreads>(spread);
  if (threadIdx.x == 0) p.losses[index] = row.loss(p, softmax.max, softmax.sum, spread);
  if (!row.dx) return;
  const Gradient gradient(p, row.scale, softmax.sum);
  const float reference = softmax.reference();
  const auto write = [&](int64_t slot, Slot<T> result) {
    const int64_t target = row.target - slots.begin(slot);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++)
      result.at[e] = from_float<T>(gradient.at(expf(to_float(result.at[e]) - reference), e == target));
    slots.store(row.dx, slot, result);
  };
#pragma unroll
  for (int j = 0; j < kKept; j++) write(threadIdx.x + j * kWideThreads, kept[j]);
  for (int64_t slot = kRest + threadIdx.x; slot < slots.size(); slot += kWideThreads)
    write(slot, p.cached ? cache[slot - kRest] : slots.load(row.x, slot, lowest));
}

__device__ __forceinline__ void cross_entropy_mean_body(const CrossEntropyParams& p) {
  __shared__ double sums[kCountThreads];
  double sum = 0;
#pragma unroll 4
  for (int64_t row = threadIdx.x; row < p.rows; row += kCountThreads) sum += static_cast<double>(p.losses[row]);
  sums[threadIdx.x] = sum;
  for (int half = kCountThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  const double before = p.accumulate ? static_cast<double>(*p.loss) : 0;
  *p.loss = static_cast<float>(before + sums[0] / static_cast<double>(*p.count));
}

#endif

HEED_KERNEL(cross_entropy_count, CrossEntropyParams, kCountThreads, 1, cross_entropy_count_body)
HEED_KERNEL_FLOATS(cross_entropy_rows_32x8, CrossEntropyParams, kRowThreads, 4, cross_entropy_rows_body, 32, 8)
HEED_KERNEL_FLOATS(cross_entropy_rows_32x32, CrossEntropyParams, kRowThreads, 2, cross_entropy_rows_body, 32, 32)
HEED_KERNEL_FLOATS(cross_entropy_rows_256x8, CrossEntropyParams, kRowThreads, 4, cross_entropy_rows_body, 256, 8)
HEED_KERNEL_FLOATS(cross_entropy_rows_256x32, CrossEntropyParams, kRowThreads, 2, cross_entropy_rows_body, 256, 32)
HEED_KERNEL_FLOATS(cross_entropy_wide, CrossEntropyParams, kWideThreads, 1, cross_entropy_wide_body)
HEED_KERNEL(cross_entropy_mean, CrossEntropyParams, kCountThreads, 1, cross_entropy_mean_body)

#if !HEED_DEVICE_CODE

constexpr RowKernels<CrossEntropyParams> kCrossEntropy{
    {cross_entropy_rows_32x8, cross_entropy_rows_32x32, cross_entropy_rows_256x8, cross_entropy_rows_256x32}};

void host::cross_entropy(Stream& stream, Out loss, OptOut losses, OptOut dlogits, In logits, In targets, Int first,
                         Int ignore_index, Float smoothing, Float scale, Accumulate accumulate) {
  const char* op = "cross_entropy";
  check_cross_entropy(op, loss, losses, dlogits, logits, targets, first, smoothing, scale);
  const int64_t V = logits.dim(-1), rows = leading_shape(logits).numel();
  const Stream::Workspace count(stream, op, sizeof(int64_t));
  const Stream::Workspace row_losses(stream, op, losses ? 0 : static_cast<size_t>(rows) * sizeof(float));
  CrossEntropyParams p{logits.data,
                       targets.i32() + first,
                       targets.i32(),
                       dlogits ? dlogits->data : nullptr,
                       losses ? losses->f32() : row_losses.f32(),
                       loss.f32(),
                       count.as<int64_t>(),
                       rows,
                       targets.numel(),
                       V,
                       ignore_index,
                       smoothing,
                       scale,
                       accumulate,
                       false,
                       stream.fault(op)};
  stream.launch(op, cross_entropy_count, {1}, p);
  const RowPath path = row_path(row_extent(logits));
  if (rows > 0 && path != RowPath::wide) {
    stream.launch(op, kCrossEntropy.of(logits.dtype, path), {ceil_div(rows, groups(path))}, p);
  } else if (rows > 0) {
    const int slots = logits.dtype == DType::f32 ? kKeptSlots<4> : kKeptSlots<2>;
    const size_t kept = static_cast<size_t>(slots) * kWideThreads * 16, bytes = max_of(row_bytes(logits), kept) - kept;
    p.cached = bytes <= shared_for_rows(stream);
    stream.launch(op, cross_entropy_wide(logits.dtype), {rows}, p, p.cached ? bytes : 0);
  }
  stream.launch(op, cross_entropy_mean, {1}, p);
}

#endif

}  // namespace heed::cuda
