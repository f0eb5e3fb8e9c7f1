// Layer norm's forward (Ba et al., "Layer normalization", 2016) over rows of C elements, a residual add fused in:
// x = inp (+ residual), out = (x - mean) · rstd · weight + bias, rstd = 1/sqrt(var + eps), biased variance.
//
// A warp a row up to C of 1024, a block of 256 a row up to 8192: the row stays in registers; blocks go over several
// rows and hold weight and bias in shared memory. Beyond, a block of 1024 a row, which is kept in shared memory where
// it fits and read again where not. x is what `sum` holds, rounded to its dtype. out and sum may be an input's memory.
#include "cuda/kernels/rows.h"

#if !HEED_DEVICE_CODE
#include "core/checks/layernorm.h"
#endif

namespace heed::cuda {

struct LayernormForwardParams {
  void *out, *sum;
  float *mean, *rstd;
  const void *inp, *residual, *weight, *bias;
  bool weight_f32, bias_f32;
  bool cached;  // wide rows: dynamic shared memory has room for one
  int64_t rows, C;
  float eps;
};

#if HEED_DEVICE_CODE

// A first mean is rounded: with a mean of 1e4 by more than the result may be off. Centring on it is exact, and the mean
// of what is left corrects both the mean and the variance (Chan, Golub and LeVeque, 1983).
struct Moments {
  float shift, delta, rstd;  // mean = shift + delta

  // From Σ (x - shift) and Σ (x - shift)².
  __device__ __forceinline__ Moments(float shift, const float (&centred)[2], float n, float eps) : shift(shift) {
    delta = centred[0] / n;
    const float variance = centred[1] / n - delta * delta;
    rstd = 1.0f / sqrtf((variance < 0 ? 0.0f : variance) + eps);  // NaN stays NaN
  }
  __device__ __forceinline__ float normalise(float x) const { return fmaf(x - shift, rstd, -delta * rstd); }
};

template <class T>
__device__ __forceinline__ float slot_total(const Slot<T>& x) {
  float total = 0;
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) total += to_float(x.at[e]);
  return total;
}

template <class T, class Index>
__device__ __forceinline__ void add_centred(float (&centred)[2], const Slots<T, Index>& slots, Index slot,
                                            const Slot<T>& x, float shift) {
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) {
    const float c = slots.holds(slots.begin(slot) + e) ? to_float(x.at[e]) - shift : 0.0f;
    centred[0] += c;
    centred[1] = fmaf(c, c, centred[1]);
  }
}

template <class T>
__device__ __forceinline__ void add_slot(Slot<T>& x, const Slot<T>& residual) {
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) x.at[e] = from_float<T>(to_float(x.at[e]) + to_float(residual.at[e]));
}

__device__ __forceinline__ void save_statistics(const LayernormForwardParams& p, int64_t row, const Moments& m) {
  if (p.mean) p.mean[row] = m.shift + m.delta;
  if (p.rstd) p.rstd[row] = m.rstd;
}

template <class T, int kLanes, int kElements>
__device__ __forceinline__ void layernorm_forward_rows_body(const LayernormForwardParams& p) {
  constexpr int kSlots = kElements / kLength<T>, kGroups = kRowThreads / kLanes;
  const int C = static_cast<int>(p.C), lane = threadIdx.x % kLanes;
  float* shared = reinterpret_cast<float*>(dynamic_shared());
  const SharedParameter<T> weight(shared, C), bias(shared + SharedParameter<T>::size(C), C);
  weight.fill(p.weight, p.weight_f32, C, 1);
  bias.fill(p.bias, p.bias_f32, C, 0);
  __syncthreads();

  const Slots<T> slots(C);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kGroups;
  for (int64_t row = row_of_group<kLanes>(); row < p.rows; row += step) {
    const int64_t at = row * p.C;
    const T zero = from_float<T>(0);
    Slot<T> x[kSlots];
#pragma unroll
    for (int j = 0; j < kSlots; j++) x[j] = slots.load(static_cast<const T*>(p.inp) + at, lane + j * kLanes, zero);
    if (p.residual) {
      Slot<T> r[kSlots];  // all loads are on their way before the first is waited for
#pragma unroll
      for (int j = 0; j < kSlots; j++)
        r[j] = slots.load(static_cast<const T*>(p.residual) + at, lane + j * kLanes, zero);
#pragma unroll
      for (int j = 0; j < kSlots; j++) {
        add_slot<T>(x[j], r[j]);
        slots.store(static_cast<T*>(p.sum) + at, lane + j * kLanes, x[j]);
      }
    }

    float total = 0;
#pragma unroll
    for (int j = 0; j < kSlots; j++) total += slot_total<T>(x[j]);
    const float shift = group_sum<kLanes>(total) / static_cast<float>(C);
    float centred[2] = {};
#pragma unroll
    for (int j = 0; j < kSlots; j++) add_centred(centred, slots, lane + j * kLanes, x[j], shift);
    group_sum<kLanes>(centred);
    const Moments m(shift, centred, static_cast<float>(C), p.eps);

#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int slot = lane + j * kLanes;
      if (slot >= slots.size()) break;
      const Vector<float, kLength<T>> w = weight.load(slot), b = bias.load(slot);
#pragma unroll
      for (int e = 0; e < kLength<T>; e++)
        x[j].at[e] = from_float<T>(m.normalise(to_float(x[j].at[e])) * w.at[e] + b.at[e]);
      slots.store(static_cast<T*>(p.out) + at, slot, x[j]);
    }
    if (lane == 0) save_statistics(p, row, m);
  }
}

template <class T>
__device__ __forceinline__ void layernorm_forward_wide_body(const LayernormForwardParams& p) {
  const int64_t row = blockIdx.x, at = row * p.C;
  const Slots<T, int64_t> slots(p.C);
  const T* source = static_cast<const T*>(p.residual ? p.sum : p.inp) + at;
  Slot<T>* cache = reinterpret_cast<Slot<T>*>(dynamic_shared());
  const int64_t size = slots.size();

  float total = 0;
  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads) {
    Slot<T> x = slots.load(static_cast<const T*>(p.inp) + at, slot, from_float<T>(0));
    if (p.residual) {
      add_slot<T>(x, slots.load(static_cast<const T*>(p.residual) + at, slot, from_float<T>(0)));
      slots.store(static_cast<T*>(p.sum) + at, slot, x);
    }
    if (p.cached) cache[slot] = x;
    total += slot_total<T>(x);
  }
  // A thread comes back to its own slots only.
  const auto again = [&](int64_t slot) { return p.cached ? cache[slot] : slots.load(source, slot, from_float<T>(0)); };
  const float n = static_cast<float>(p.C), shift = group_sum<kWideThreads>(total) / n;
  float centred[2] = {};
  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads)
    add_centred(centred, slots, slot, again(slot), shift);
  group_sum<kWideThreads>(centred);
  const Moments m(shift, centred, n, p.eps);

  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads) {
    Slot<T> x = again(slot);
    const int64_t begin = slots.begin(slot);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) {
      if (!slots.holds(begin + e)) continue;
      float y = m.normalise(to_float(x.at[e]));
      if (p.weight) y *= parameter_at<T>(p.weight, p.weight_f32, begin + e);
      if (p.bias) y += parameter_at<T>(p.bias, p.bias_f32, begin + e);
      x.at[e] = from_float<T>(y);
    }
    slots.store(static_cast<T*>(p.out) + at, slot, x);
  }
  if (threadIdx.x == 0) save_statistics(p, row, m);
}

#endif

HEED_ROW_KERNELS(layernorm_forward_rows, LayernormForwardParams, 4, 2, layernorm_forward_rows_body)
HEED_KERNEL_FLOATS(layernorm_forward_wide, LayernormForwardParams, kWideThreads, 1, layernorm_forward_wide_body)

#if !HEED_DEVICE_CODE

void layernorm_forward(Stream& stream, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                       OptIn weight, OptIn bias, Float eps) {
  const char* op = "layernorm_forward";
  check_layernorm_forward(op, out, sum, mean, rstd, inp, residual, weight, bias, eps);
  if (inp.empty()) return;

  const auto data = [](OptIn view) { return view ? view->data : nullptr; };
  const auto is_f32 = [](OptIn view) { return view && view->dtype == DType::f32; };
  const int64_t C = inp.dim(-1), rows = inp.numel() / C;
  LayernormForwardParams p{out.data,
                           data(sum),
                           static_cast<float*>(data(mean)),
                           static_cast<float*>(data(rstd)),
                           inp.data,
                           data(residual),
                           data(weight),
                           data(bias),
                           is_f32(weight),
                           is_f32(bias),
                           false,
                           rows,
                           C,
                           eps};
  const RowPath path = row_path(C);
  if (path == RowPath::wide) {
    const size_t bytes = row_bytes(inp);
    p.cached = bytes <= shared_for_rows(stream);
    stream.launch(op, layernorm_forward_wide(inp.dtype), {rows}, p, p.cached ? bytes : 0);
    return;
  }
  const Grid grid{min_of(ceil_div(rows, groups(path)), stream.multiprocessors() * blocks_at_work(path, 4, 2))};
  const size_t shared = 2 * static_cast<size_t>(padded_row(inp)) * sizeof(float);
  stream.launch(op, layernorm_forward_rows(inp.dtype, path), grid, p, shared);
}

#endif

}  // namespace heed::cuda
