// The forward pass of layer norm (Ba et al., "Layer normalization", 2016) and of the RMS norm (Zhang and Sennrich,
// "Root mean square layer normalization", 2019) over rows of C elements, with a fused residual addition: x = inp (+
// residual), out = (x - mean) · rstd · weight + bias, rstd = 1/sqrt(var + eps), with the biased variance. The RMS norm
// has no mean: out = x · rstd · weight + bias, rstd = 1/sqrt(mean(x²) + eps).
//
// A row stays in registers: a warp handles a row up to C of 1024, and a block of 256 threads up to 8192. Blocks go over
// several rows and hold weight and bias in shared memory. Beyond that, a block of 1024 threads handles a row; it keeps
// the row in shared memory if it fits, and reads it again otherwise. x is the content of `sum`, rounded to its dtype.
// out and sum may be an input's memory.
#include "cuda/kernels/columns.h"
#include "cuda/kernels/rows.h"

#if !HEED_DEVICE_CODE
#include "core/checks/layernorm.h"
#endif

namespace heed::cuda {

struct LayernormForwardParams {
  void *out, *sum;
  float *mean, *rstd;
  const void *inp, *residual;
  Parameter weight, bias;
  bool rms;
  bool cached;  // wide rows: dynamic shared memory has room for one
  int64_t rows, C;
  float eps;
};

// Least numbers of blocks per multiprocessor if a thread's part of a row is 8 elements, or 32.
constexpr int kForwardBlocks8 = 4, kForwardBlocks32 = 2;

#if HEED_DEVICE_CODE

// A first mean is rounded: with a mean of 1e4, its error exceeds the error that the result may have. Centring on it is
// exact, and the mean of the rest corrects both the mean and the variance (Chan, Golub and LeVeque, 1983).
struct Moments {
  float shift, delta, rstd;  // mean = shift + delta

  // Computes the moments from Σ (x - shift) and Σ (x - shift)²; in the RMS norm the shift is 0.
  __device__ __forceinline__ Moments(const LayernormForwardParams& p, float shift, const float (&centred)[2])
      : shift(shift) {
    const float n = static_cast<float>(p.C);
    delta = p.rms ? 0.0f : centred[0] / n;
    const float variance = centred[1] / n - delta * delta;
    rstd = 1.0f / sqrtf((variance < 0 ? 0.0f : variance) + p.eps);  // a NaN stays NaN
  }
  __device__ __forceinline__ float normalise(float x) const { return fmaf(x - shift, rstd, -delta * rstd); }
};

template <class T, int V>
__device__ __forceinline__ float total_of(const Vector<T, V>& x) {
  float total = 0;
#pragma unroll
  for (int e = 0; e < V; e++) total += to_float(x.at[e]);
  return total;
}

template <class T, int V>
__device__ __forceinline__ void add_centred(float (&centred)[2], const Vector<T, V>& x, float shift) {
#pragma unroll
  for (int e = 0; e < V; e++) {
    const float c = to_float(x.at[e]) - shift;
    centred[0] += c;
    centred[1] = fmaf(c, c, centred[1]);
  }
}

template <class T, int V>
__device__ __forceinline__ void add_residual(Vector<T, V>& x, const Vector<T, V>& residual) {
#pragma unroll
  for (int e = 0; e < V; e++) x.at[e] = from_float<T>(to_float(x.at[e]) + to_float(residual.at[e]));
}

template <class T, int V>
__device__ __forceinline__ void store_normalised(T* out, const Vector<T, V>& x, const Moments& m, const Floats<V>& w,
                                                 const Floats<V>& b) {
  Vector<T, V> y;
#pragma unroll
  for (int e = 0; e < V; e++) y.at[e] = from_float<T>(m.normalise(to_float(x.at[e])) * w.at[e] + b.at[e]);
  store_vector(out, y);
}

__device__ __forceinline__ void save_statistics(const LayernormForwardParams& p, int64_t row, const Moments& m) {
  if (p.mean) p.mean[row] = m.shift + m.delta;
  if (p.rstd) p.rstd[row] = m.rstd;
}

template <class T, bool kInVectors, int kLanes, int kElements>
__device__ __forceinline__ void layernorm_forward_rows_body(const LayernormForwardParams& p) {
  constexpr int V = kVectorLength<T, kInVectors>, kVectors = kElements / V, kGroups = kRowThreads / kLanes;
  const int C = static_cast<int>(p.C), vectors = C / V, lane = threadIdx.x % kLanes;
  float* shared = reinterpret_cast<float*>(dynamic_shared());
  const SharedRow<V> weight(shared, C), bias(shared + C, C);
  weight.template fill<T>(p.weight, 1);
  bias.template fill<T>(p.bias, 0);
  __syncthreads();

  const int64_t step = static_cast<int64_t>(gridDim.x) * kGroups;
  for (int64_t row = row_of_group<kLanes>(); row < p.rows; row += step) {
    const int64_t at = row * p.C;
    Vector<T, V> x[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; j++) x[j] = load_vector<T, V>(p.inp, at, lane + j * kLanes, vectors);
    if (p.residual) {
      Vector<T, V> r[kVectors];  // all loads are in flight before the first is waited for
#pragma unroll
      for (int j = 0; j < kVectors; j++) r[j] = load_vector<T, V>(p.residual, at, lane + j * kLanes, vectors);
#pragma unroll
      for (int j = 0; j < kVectors; j++) {
        const int vector = lane + j * kLanes;
        add_residual(x[j], r[j]);
        if (vector < vectors) store_vector(static_cast<T*>(p.sum) + at + vector * V, x[j]);
      }
    }

    float shift = 0;
    if (!p.rms) {
      float total = 0;
#pragma unroll
      for (int j = 0; j < kVectors; j++) total += total_of(x[j]);
      shift = group_sum<kLanes>(total) / static_cast<float>(C);
    }
    float centred[2] = {};
#pragma unroll
    for (int j = 0; j < kVectors; j++)
      if (lane + j * kLanes < vectors) add_centred(centred, x[j], shift);
    group_sum<kLanes>(centred);
    const Moments m(p, shift, centred);

#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      const int vector = lane + j * kLanes;
      if (vector < vectors)
        store_normalised(static_cast<T*>(p.out) + at + vector * V, x[j], m, weight.load(vector), bias.load(vector));
    }
    if (lane == 0) save_statistics(p, row, m);
  }
}

template <class T, bool kInVectors>
__device__ __forceinline__ void layernorm_forward_wide_body(const LayernormForwardParams& p) {
  constexpr int V = kVectorLength<T, kInVectors>;
  const int64_t row = blockIdx.x, at = row * p.C, vectors = p.C / V;
  const T* source = static_cast<const T*>(p.residual ? p.sum : p.inp) + at;
  Vector<T, V>* cache = reinterpret_cast<Vector<T, V>*>(dynamic_shared());

  float total = 0, centred[2] = {};
  for (int64_t vector = threadIdx.x; vector < vectors; vector += kWideThreads) {
    Vector<T, V> x = load_vector<T, V>(p.inp, at, vector, vectors);
    if (p.residual) {
      add_residual(x, load_vector<T, V>(p.residual, at, vector, vectors));
      store_vector(static_cast<T*>(p.sum) + at + vector * V, x);
    }
    if (p.cached) cache[vector] = x;
    if (p.rms)
      add_centred(centred, x, 0);
    else
      total += total_of(x);
  }
  // A thread reads only its own vectors again.
  const auto again = [&](int64_t vector) { return p.cached ? cache[vector] : Vector<T, V>::load(source + vector * V); };
  float shift = 0;
  if (!p.rms) {
    shift = group_sum<kWideThreads>(total) / static_cast<float>(p.C);
    for (int64_t vector = threadIdx.x; vector < vectors; vector += kWideThreads)
      add_centred(centred, again(vector), shift);
  }
  group_sum<kWideThreads>(centred);
  const Moments m(p, shift, centred);
  for (int64_t vector = threadIdx.x; vector < vectors; vector += kWideThreads) {
    const int64_t c = vector * V;
    store_normalised(static_cast<T*>(p.out) + at + c, again(vector), m, load_parameter<T, V>(p.weight, c, 1),
                     load_parameter<T, V>(p.bias, c, 0));
  }
  if (threadIdx.x == 0) save_statistics(p, row, m);
}

#endif

HEED_KERNEL_FLOATS(layernorm_forward_rows_32x8, LayernormForwardParams, kRowThreads, kForwardBlocks8,
                   layernorm_forward_rows_body, true, 32, 8)
HEED_KERNEL_FLOATS(layernorm_forward_rows_32x32, LayernormForwardParams, kRowThreads, kForwardBlocks32,
                   layernorm_forward_rows_body, true, 32, 32)
HEED_KERNEL_FLOATS(layernorm_forward_rows_256x8, LayernormForwardParams, kRowThreads, kForwardBlocks8,
                   layernorm_forward_rows_body, true, 256, 8)
HEED_KERNEL_FLOATS(layernorm_forward_rows_256x32, LayernormForwardParams, kRowThreads, kForwardBlocks32,
                   layernorm_forward_rows_body, true, 256, 32)
HEED_KERNEL_FLOATS(layernorm_forward_rows_scalar_32x32, LayernormForwardParams, kRowThreads, kForwardBlocks32,
                   layernorm_forward_rows_body, false, 32, 32)
HEED_KERNEL_FLOATS(layernorm_forward_rows_scalar_256x32, LayernormForwardParams, kRowThreads, kForwardBlocks32,
                   layernorm_forward_rows_body, false, 256, 32)
HEED_KERNEL_FLOATS(layernorm_forward_wide, LayernormForwardParams, kWideThreads, 1, layernorm_forward_wide_body, true)
HEED_KERNEL_FLOATS(layernorm_forward_wide_scalar, LayernormForwardParams, kWideThreads, 1, layernorm_forward_wide_body,
                   false)

#if !HEED_DEVICE_CODE

constexpr RowKernels<LayernormForwardParams> kLayernormForward{
    {layernorm_forward_rows_32x8, layernorm_forward_rows_32x32, layernorm_forward_rows_256x8,
     layernorm_forward_rows_256x32}};
// Rows that are not in vectors take the paths with room for 32 elements.
constexpr RowKernels<LayernormForwardParams> kLayernormForwardScalar{
    {layernorm_forward_rows_scalar_32x32, layernorm_forward_rows_scalar_32x32, layernorm_forward_rows_scalar_256x32,
     layernorm_forward_rows_scalar_256x32}};

void host::layernorm_forward(Stream& stream, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                             OptIn weight, OptIn bias, Float eps, Bool rms) {
  const char* op = "layernorm_forward";
  check_layernorm_forward(op, out, sum, mean, rstd, inp, residual, weight, bias, eps, rms);
  if (inp.empty()) return;

  const auto data = [](OptIn view) { return view ? view->data : nullptr; };
  const int64_t C = inp.dim(-1), rows = inp.numel() / C;
  LayernormForwardParams p{out.data,
                           data(sum),
                           static_cast<float*>(data(mean)),
                           static_cast<float*>(data(rstd)),
                           inp.data,
                           data(residual),
                           parameter_of(weight),
                           parameter_of(bias),
                           rms,
                           false,
                           rows,
                           C,
                           eps};
  const RowPath path = row_path(C);
  const bool vectors = in_vectors(C, &out, sum, &inp, residual, weight, bias);
  if (path == RowPath::wide) {
    const size_t bytes = row_bytes(inp);
    p.cached = bytes <= shared_for_rows(stream);
    stream.launch(op, (vectors ? layernorm_forward_wide : layernorm_forward_wide_scalar)(inp.dtype), {rows}, p,
                  p.cached ? bytes : 0);
    return;
  }
  const Grid grid{min_of(ceil_div(rows, groups(path)),
                         stream.multiprocessors() * blocks_at_work(path, kForwardBlocks8, kForwardBlocks32))};
  const size_t shared = 2 * static_cast<size_t>(C) * sizeof(float);
  stream.launch(op, (vectors ? kLayernormForward : kLayernormForwardScalar).of(inp.dtype, path), grid, p, shared);
}

#endif

}  // namespace heed::cuda
