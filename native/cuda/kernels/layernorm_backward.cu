// The backward pass of layer norm: d = dout · weight, n = (inp - mean) · rstd, dinp = rstd · (d - mean(d) - n · mean(d
// · n)) (+ dsum); dweight = Σ_rows dout · n, dbias = Σ_rows dout. `inp` is the tensor that was normalised. Without
// `mean` it is the backward pass of the RMS norm: n = inp · rstd and dinp = rstd · (d - n · mean(d · n)).
//
// A row stays in registers: a warp handles a row up to C of 1024, and a block of 256 threads up to 8192. Each block
// also sums its rows' part of dweight and dbias, in a fixed order. Beyond that, those two have a kernel of their own,
// which reads the rows again, and a block of 1024 threads handles a row, kept in shared memory if it fits. At last the
// parts of all blocks are summed in order. dinp may be an input's memory.
#include "cuda/kernels/columns.h"
#include "cuda/kernels/rows.h"

#if !HEED_DEVICE_CODE
#include "core/checks/layernorm.h"
#endif

namespace heed::cuda {

struct LayernormBackwardParams {
  void* dinp;
  float* partials;  // [blocks][2][C]: dweight and dbias of a block's rows; null if neither is requested
  const void *dout, *dsum, *inp;
  Parameter weight;
  const float *mean, *rstd;  // mean is null for the RMS norm
  bool accumulate;
  bool cached;  // wide rows: dynamic shared memory has room for rows of inp and dout
  int64_t rows, rows_per_block, C;
};

struct LayernormParametersParams {
  Parameter dweight, dbias;
  const float* partials;
  bool accumulate_dweight, accumulate_dbias;
  int64_t blocks, C;
};

// Least numbers of blocks per multiprocessor if a thread's part of a row is 8 elements, or 32.
constexpr int kBackwardBlocks8 = 3, kBackwardBlocks32 = 1;
constexpr int kColumnThreads =
    128;                         // of the wide rows' kernel for dweight and dbias; each thread has a vector of columns
constexpr int kSumColumns = 32;  // columns of a block that sums parts; its warps take turns at the parts

#if HEED_DEVICE_CODE

// Adds Σ d and Σ d · n over some elements.
template <class T, int V>
__device__ __forceinline__ void add_sums(float (&sums)[2], const Vector<T, V>& x, const Vector<T, V>& dy,
                                         const Floats<V>& w, float mean, float rstd) {
#pragma unroll
  for (int e = 0; e < V; e++) {
    const float d = to_float(dy.at[e]) * w.at[e];
    sums[0] += d;
    sums[1] = fmaf(d, (to_float(x.at[e]) - mean) * rstd, sums[1]);
  }
}

template <class T, int V>
__device__ __forceinline__ void add_gradients(Floats<V>& dweight, Floats<V>& dbias, const Vector<T, V>& x,
                                              const Vector<T, V>& dy, float mean, float rstd) {
#pragma unroll
  for (int e = 0; e < V; e++) {
    const float g = to_float(dy.at[e]);
    dweight.at[e] = fmaf(g, (to_float(x.at[e]) - mean) * rstd, dweight.at[e]);
    dbias.at[e] += g;
  }
}

// `means` are the means of d and d · n; `dsum` is 0 if there is none.
template <class T, int V>
__device__ __forceinline__ void store_dinp(const LayernormBackwardParams& p, int64_t at, const Vector<T, V>& x,
                                           const Vector<T, V>& dy, const Vector<T, V>& dsum, const Floats<V>& w,
                                           float mean, float rstd, const float (&means)[2]) {
  T* dinp = static_cast<T*>(p.dinp) + at;
  Vector<T, V> dx;
  if (p.accumulate) dx = Vector<T, V>::load(dinp);
#pragma unroll
  for (int e = 0; e < V; e++) {
    const float n = (to_float(x.at[e]) - mean) * rstd, d = to_float(dy.at[e]) * w.at[e];
    float result = (d - means[0] - n * means[1]) * rstd + to_float(dsum.at[e]);
    if (p.accumulate) result += to_float(dx.at[e]);
    dx.at[e] = from_float<T>(result);
  }
  store_vector(dinp, dx);
}

template <class T, bool kInVectors, int kLanes, int kElements>
__device__ __forceinline__ void layernorm_backward_rows_body(const LayernormBackwardParams& p) {
  constexpr int V = kVectorLength<T, kInVectors>, kVectors = kElements / V, kGroups = kRowThreads / kLanes;
  const int C = static_cast<int>(p.C), vectors = C / V, lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
  float* shared = reinterpret_cast<float*>(dynamic_shared());
  const SharedRow<V> weight(shared, C);
  weight.template fill<T>(p.weight, 1);
  __syncthreads();

  Floats<V> dweight[kVectors], dbias[kVectors];
#pragma unroll
  for (int j = 0; j < kVectors; j++) dweight[j] = dbias[j] = splat<float, V>(0);
  const int64_t rows = p.rows_per_block / kGroups, begin = blockIdx.x * p.rows_per_block + group * rows;
  const int64_t end = min(begin + rows, p.rows);
  float means_ahead = 0, rstds_ahead = 0;  // for 32 rows, one per lane of the warp
  for (int64_t row = begin; row < end; row++) {
    const int64_t at = row * p.C, mine = row + threadIdx.x % 32;
    const int ahead = static_cast<int>((row - begin) % 32);
    if (ahead == 0 && mine < end) {
      means_ahead = p.mean ? p.mean[mine] : 0.0f;
      rstds_ahead = p.rstd[mine];
    }
    const float mean = __shfl_sync(kFullWarp, means_ahead, ahead), rstd = __shfl_sync(kFullWarp, rstds_ahead, ahead);
    Vector<T, V> x[kVectors], dy[kVectors], dsum[kVectors];  // all loads are in flight before the first is waited for
#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      const int vector = lane + j * kLanes;
      x[j] = load_vector<T, V>(p.inp, at, vector, vectors);
      dy[j] = load_vector<T, V>(p.dout, at, vector, vectors);
      dsum[j] = p.dsum ? load_vector<T, V>(p.dsum, at, vector, vectors) : splat<T, V>(0);
    }
    float means[2] = {};
#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      const int vector = lane + j * kLanes;
      if (vector < vectors) add_sums(means, x[j], dy[j], weight.load(vector), mean, rstd);
    }
    group_sum<kLanes>(means);
    means[0] = p.mean ? means[0] / static_cast<float>(C) : 0.0f;
    means[1] /= static_cast<float>(C);
#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      const int vector = lane + j * kLanes;
      if (vector >= vectors) continue;
      add_gradients(dweight[j], dbias[j], x[j], dy[j], mean, rstd);
      store_dinp(p, at + vector * V, x[j], dy[j], dsum[j], weight.load(vector), mean, rstd, means);
    }
  }
  if (!p.partials) return;

  // The groups add their sums in shared memory one after the other.
  const SharedRow<V> parts[2] = {{shared, C}, {shared + C, C}};
  for (int turn = 0; turn < kGroups; turn++) {
    __syncthreads();
    if (group != turn) continue;
#pragma unroll
    for (int j = 0; j < kVectors; j++) {
      const int vector = lane + j * kLanes;
      if (vector >= vectors) continue;
      if (turn > 0) {
        const Floats<V> w = parts[0].load(vector), b = parts[1].load(vector);
#pragma unroll
        for (int e = 0; e < V; e++) {
          dweight[j].at[e] += w.at[e];
          dbias[j].at[e] += b.at[e];
        }
      }
      parts[0].store(vector, dweight[j]);
      parts[1].store(vector, dbias[j]);
    }
  }
  __syncthreads();
  float* partial = p.partials + static_cast<int64_t>(blockIdx.x) * 2 * C;
  parts[0].copy_to(partial);
  parts[1].copy_to(partial + C);
}

template <class T, bool kInVectors>
__device__ __forceinline__ void layernorm_backward_wide_body(const LayernormBackwardParams& p) {
  constexpr int V = kVectorLength<T, kInVectors>;
  const int64_t row = blockIdx.x, at = row * p.C, vectors = p.C / V;
  const float mean = p.mean ? p.mean[row] : 0.0f, rstd = p.rstd[row];
  Vector<T, V>* cache = reinterpret_cast<Vector<T, V>*>(dynamic_shared());  // rows of inp, then of dout

  float means[2] = {};
  for (int64_t vector = threadIdx.x; vector < vectors; vector += kWideThreads) {
    const Vector<T, V> x = load_vector<T, V>(p.inp, at, vector, vectors);
    const Vector<T, V> dy = load_vector<T, V>(p.dout, at, vector, vectors);
    if (p.cached) {
      cache[vector] = x;
      cache[vectors + vector] = dy;
    }
    add_sums(means, x, dy, load_parameter<T, V>(p.weight, vector * V, 1), mean, rstd);
  }
  group_sum<kWideThreads>(means);
  means[0] = p.mean ? means[0] / static_cast<float>(p.C) : 0.0f;
  means[1] /= static_cast<float>(p.C);
  for (int64_t vector = threadIdx.x; vector < vectors; vector += kWideThreads) {
    const Vector<T, V> x = p.cached ? cache[vector] : load_vector<T, V>(p.inp, at, vector, vectors);
    const Vector<T, V> dy = p.cached ? cache[vectors + vector] : load_vector<T, V>(p.dout, at, vector, vectors);
    const Vector<T, V> dsum = p.dsum ? load_vector<T, V>(p.dsum, at, vector, vectors) : splat<T, V>(0);
    store_dinp(p, at + vector * V, x, dy, dsum, load_parameter<T, V>(p.weight, vector * V, 1), mean, rstd, means);
  }
}

// Blocks (vectors of columns, rows): a thread sums its columns over the block's rows.
template <class T, bool kInVectors>
__device__ __forceinline__ void layernorm_columns_body(const LayernormBackwardParams& p) {
  constexpr int V = kVectorLength<T, kInVectors>;
  const int64_t vectors = p.C / V, vector = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (vector >= vectors) return;
  Floats<V> dweight = splat<float, V>(0), dbias = splat<float, V>(0);
  const int64_t begin = blockIdx.y * p.rows_per_block, end = min(begin + p.rows_per_block, p.rows);
#pragma unroll 4
  for (int64_t row = begin; row < end; row++)
    add_gradients(dweight, dbias, load_vector<T, V>(p.inp, row * p.C, vector, vectors),
                  load_vector<T, V>(p.dout, row * p.C, vector, vectors), p.mean ? p.mean[row] : 0.0f, p.rstd[row]);
  float* partial = p.partials + blockIdx.y * 2 * p.C + vector * V;
  store_floats(partial, dweight);
  store_floats(partial + p.C, dbias);
}

// Blocks (columns, dweight and dbias): gradient[C] (+)= Σ_blocks partials[block].
template <class T>
__device__ __forceinline__ void layernorm_parameters_body(const LayernormParametersParams& p) {
  constexpr int kTurns = kRowThreads / kSumColumns;
  __shared__ float parts[kTurns][kSumColumns];
  const bool bias = blockIdx.y;
  const Parameter& gradient = bias ? p.dbias : p.dweight;
  if (!gradient.data) return;
  const int column = threadIdx.x % kSumColumns, turn = threadIdx.x / kSumColumns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kSumColumns + column;
  float sum = 0;
  if (c < p.C)
#pragma unroll 4
    for (int64_t block = turn; block < p.blocks; block += kTurns) sum += p.partials[(block * 2 + bias) * p.C + c];
  parts[turn][column] = sum;
  __syncthreads();
  if (turn > 0 || c >= p.C) return;
#pragma unroll
  for (int t = 1; t < kTurns; t++) sum += parts[t][column];
  store_gradient<T, 1>(gradient, c, {sum}, bias ? p.accumulate_dbias : p.accumulate_dweight);
}

#endif

HEED_KERNEL_FLOATS(layernorm_backward_rows_32x8, LayernormBackwardParams, kRowThreads, kBackwardBlocks8,
                   layernorm_backward_rows_body, true, 32, 8)
HEED_KERNEL_FLOATS(layernorm_backward_rows_32x32, LayernormBackwardParams, kRowThreads, kBackwardBlocks32,
                   layernorm_backward_rows_body, true, 32, 32)
HEED_KERNEL_FLOATS(layernorm_backward_rows_256x8, LayernormBackwardParams, kRowThreads, kBackwardBlocks8,
                   layernorm_backward_rows_body, true, 256, 8)
HEED_KERNEL_FLOATS(layernorm_backward_rows_256x32, LayernormBackwardParams, kRowThreads, kBackwardBlocks32,
                   layernorm_backward_rows_body, true, 256, 32)
HEED_KERNEL_FLOATS(layernorm_backward_rows_scalar_32x32, LayernormBackwardParams, kRowThreads, kBackwardBlocks32,
                   layernorm_backward_rows_body, false, 32, 32)
HEED_KERNEL_FLOATS(layernorm_backward_rows_scalar_256x32, LayernormBackwardParams, kRowThreads, kBackwardBlocks32,
                   layernorm_backward_rows_body, false, 256, 32)
HEED_KERNEL_FLOATS(layernorm_backward_wide, LayernormBackwardParams, kWideThreads, 1, layernorm_backward_wide_body,
                   true)
HEED_KERNEL_FLOATS(layernorm_backward_wide_scalar, LayernormBackwardParams, kWideThreads, 1,
                   layernorm_backward_wide_body, false)
HEED_KERNEL_FLOATS(layernorm_columns, LayernormBackwardParams, kColumnThreads, 4, layernorm_columns_body, true)
HEED_KERNEL_FLOATS(layernorm_columns_scalar, LayernormBackwardParams, kColumnThreads, 4, layernorm_columns_body, false)
HEED_KERNEL_FLOATS(layernorm_parameters, LayernormParametersParams, kRowThreads, 1, layernorm_parameters_body)

#if !HEED_DEVICE_CODE

constexpr RowKernels<LayernormBackwardParams> kLayernormBackward{
    {layernorm_backward_rows_32x8, layernorm_backward_rows_32x32, layernorm_backward_rows_256x8,
     layernorm_backward_rows_256x32}};
// Rows that are not in vectors take the paths with room for 32 elements.
constexpr RowKernels<LayernormBackwardParams> kLayernormBackwardScalar{
    {layernorm_backward_rows_scalar_32x32, layernorm_backward_rows_scalar_32x32, layernorm_backward_rows_scalar_256x32,
     layernorm_backward_rows_scalar_256x32}};

constexpr int64_t kLeastRows = 16;  // least rows of a block that sums dweight and dbias

void host::layernorm_backward(Stream& stream, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                              OptIn weight, OptIn mean, In rstd, Bool accumulate_dinp, Bool accumulate_dweight,
                              Bool accumulate_dbias) {
  const char* op = "layernorm_backward";
  check_layernorm_backward(op, dinp, dweight, dbias, dout, dsum, inp, weight, mean, rstd);
  const int64_t C = inp.dim(-1), rows = C ? inp.numel() / C : 0;
  if (C == 0) return;

  const auto data = [](OptIn view) { return view ? view->data : nullptr; };
  const RowPath path = row_path(C);
  const bool parameters = dweight || dbias, wide = path == RowPath::wide;
  // There are enough blocks to fill the device, and each has enough rows for its part to be small compared with its
  // reads.
  const bool vectors = in_vectors(C, &dinp, &dout, dsum, &inp, weight);
  const int64_t columns = ceil_div(C, (vectors ? 16 / static_cast<int64_t>(size_of(inp.dtype)) : 1) * kColumnThreads);
  const int64_t most = stream.multiprocessors() * blocks_at_work(path, kBackwardBlocks8, kBackwardBlocks32);
  const int64_t wanted = wide ? ceil_div(most, columns) : most;
  const int64_t rows_per_block =
      ceil_div(max_of<int64_t>(ceil_div(rows, wanted), parameters ? kLeastRows : 1), groups(path)) * groups(path);
  const int64_t blocks = ceil_div(rows, rows_per_block);
  const Stream::Workspace workspace(stream, op, parameters ? static_cast<size_t>(blocks * 2 * C) * sizeof(float) : 0);

  LayernormBackwardParams p{dinp.data,
                            parameters ? workspace.f32() : nullptr,
                            dout.data,
                            data(dsum),
                            inp.data,
                            parameter_of(weight),
                            mean ? mean->f32() : nullptr,
                            rstd.f32(),
                            accumulate_dinp,
                            false,
                            rows,
                            rows_per_block,
                            C};
  if (rows > 0 && wide) {
    // This kernel runs first, because dinp may be the memory of what it reads.
    if (parameters)
      stream.launch(op, (vectors ? layernorm_columns : layernorm_columns_scalar)(inp.dtype), {columns, blocks}, p);
    const size_t bytes = 2 * row_bytes(inp);
    p.cached = bytes <= shared_for_rows(stream);
    stream.launch(op, (vectors ? layernorm_backward_wide : layernorm_backward_wide_scalar)(inp.dtype), {rows}, p,
                  p.cached ? bytes : 0);
  } else if (rows > 0) {
    const size_t shared = 2 * static_cast<size_t>(C) * sizeof(float);
    stream.launch(op, (vectors ? kLayernormBackward : kLayernormBackwardScalar).of(inp.dtype, path), {blocks}, p,
                  shared);
  }
  if (!parameters) return;
  const LayernormParametersParams sums{
      parameter_of(dweight), parameter_of(dbias), workspace.f32(), accumulate_dweight, accumulate_dbias, blocks, C};
  stream.launch(op, layernorm_parameters(inp.dtype), {ceil_div(C, kSumColumns), 2}, sums);
}

#endif

}  // namespace heed::cuda
