// Layer norm's backward: d = dout · weight, n = (inp - mean) · rstd, dinp = rstd · (d - mean(d) - n · mean(d · n))
// (+ dsum); dweight = Σ_rows dout · n, dbias = Σ_rows dout. `inp` is what was normalised.
//
// A warp a row up to C of 1024, a block of 256 a row up to 8192: the row stays in registers, and each block sums its
// rows' part of dweight and dbias in passing, in a fixed order. Beyond, those two have a kernel of their own, which
// reads the rows again, and a block of 1024 takes a row, kept in shared memory where it fits. Last the parts of all
// blocks are summed, in order. dinp may be an input's memory.
#include "cuda/kernels/rows.h"

#if !HEED_DEVICE_CODE
#include "core/checks/layernorm.h"
#endif

namespace heed::cuda {

struct LayernormBackwardParams {
  void* dinp;
  float* partials;  // [blocks][2][C]: dweight and dbias of a block's rows; null where neither is wanted
  const void *dout, *dsum, *inp, *weight;
  const float *mean, *rstd;
  bool weight_f32;
  bool accumulate;
  bool cached;  // wide rows: dynamic shared memory has room for inp's and dout's
  int64_t rows, rows_per_block, C;
};

struct LayernormParametersParams {
  void *dweight, *dbias;
  const float* partials;
  bool dweight_f32, dbias_f32, accumulate_dweight, accumulate_dbias;
  int64_t blocks, C;
};

constexpr int kColumnThreads = 128;  // of the wide rows' kernel for dweight and dbias: each a slot of columns
constexpr int kSumColumns = 32;      // columns of a block that sums parts; its warps take turns at the parts

#if HEED_DEVICE_CODE

// d and n of the row's elements that a slot holds: both sums of the row get their part. `w` is 0 beyond the row's end.
template <class T>
__device__ __forceinline__ void add_row_sums(float (&sums)[2], const Slot<T>& x, const Slot<T>& dy,
                                             const Vector<float, kLength<T>>& w, float mean, float rstd) {
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) {
    const float d = to_float(dy.at[e]) * w.at[e];
    sums[0] += d;
    sums[1] = fmaf(d, (to_float(x.at[e]) - mean) * rstd, sums[1]);
  }
}

// Writes dinp; `means` are those of d and d · n, `dsum` is 0 where there is none.
template <class T, class Index>
__device__ __forceinline__ void write_dinp(const LayernormBackwardParams& p, const Slots<T, Index>& slots, int64_t at,
                                           Index slot, const Slot<T>& x, const Slot<T>& dy, const Slot<T>& dsum,
                                           const Vector<float, kLength<T>>& w, float mean, float rstd,
                                           const float (&means)[2]) {
  T* dinp = static_cast<T*>(p.dinp) + at;
  Slot<T> dx;
  if (p.accumulate) dx = slots.load(dinp, slot, from_float<T>(0));
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) {
    const float n = (to_float(x.at[e]) - mean) * rstd, d = to_float(dy.at[e]) * w.at[e];
    float result = (d - means[0] - n * means[1]) * rstd + to_float(dsum.at[e]);
    if (p.accumulate) result += to_float(dx.at[e]);
    dx.at[e] = from_float<T>(result);
  }
  slots.store(dinp, slot, dx);
}

template <class T, class Index>
__device__ __forceinline__ Slot<T> load_dsum(const LayernormBackwardParams& p, const Slots<T, Index>& slots, int64_t at,
                                             Index slot) {
  if (p.dsum) return slots.load(static_cast<const T*>(p.dsum) + at, slot, from_float<T>(0));
  Slot<T> zeros;
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) zeros.at[e] = from_float<T>(0);
  return zeros;
}

template <class T, int kLanes, int kElements>
__device__ __forceinline__ void layernorm_backward_rows_body(const LayernormBackwardParams& p) {
  constexpr int kSlots = kElements / kLength<T>, kGroups = kRowThreads / kLanes;
  const int C = static_cast<int>(p.C), lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
  const T zero = from_float<T>(0);
  const SharedParameter<T> weight(reinterpret_cast<float*>(dynamic_shared()), C);
  weight.fill(p.weight, p.weight_f32, C, 1);
  __syncthreads();

  const Slots<T> slots(C);
  float dweight[kSlots][kLength<T>] = {}, dbias[kSlots][kLength<T>] = {};
  const int64_t begin = blockIdx.x * p.rows_per_block, end = min(begin + p.rows_per_block, p.rows);
  for (int64_t row = begin + group; row < end; row += kGroups) {
    const int64_t at = row * p.C;
    const float mean = p.mean[row], rstd = p.rstd[row];
    Slot<T> x[kSlots], dy[kSlots], dsum[kSlots];  // all loads are on their way before the first is waited for
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      x[j] = slots.load(static_cast<const T*>(p.inp) + at, lane + j * kLanes, zero);
      dy[j] = slots.load(static_cast<const T*>(p.dout) + at, lane + j * kLanes, zero);
      dsum[j] = load_dsum(p, slots, at, lane + j * kLanes);
    }
    float means[2] = {};
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int slot = lane + j * kLanes;
      if (slot < slots.size()) add_row_sums<T>(means, x[j], dy[j], weight.load(slot), mean, rstd);
    }
    group_sum<kLanes>(means);
    means[0] /= static_cast<float>(C);
    means[1] /= static_cast<float>(C);
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int slot = lane + j * kLanes;
      if (slot >= slots.size()) continue;
#pragma unroll
      for (int e = 0; e < kLength<T>; e++) {
        const float g = to_float(dy[j].at[e]);
        dweight[j][e] = fmaf(g, (to_float(x[j].at[e]) - mean) * rstd, dweight[j][e]);
        dbias[j][e] += g;
      }
      write_dinp(p, slots, at, slot, x[j], dy[j], dsum[j], weight.load(slot), mean, rstd, means);
    }
  }
  if (!p.partials) return;

  // The groups add their sums in shared memory one after the other; then the block's part is complete.
  const SharedParameter<T> parts[2] = {{weight.memory, C}, {weight.memory + SharedParameter<T>::size(C), C}};
  for (int turn = 0; turn < kGroups; turn++) {
    __syncthreads();
    if (group != turn) continue;
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int slot = lane + j * kLanes;
      if (slot >= slots.size()) continue;
      parts[0].store(slot, dweight[j], turn > 0);
      parts[1].store(slot, dbias[j], turn > 0);
    }
  }
  __syncthreads();
  float* partial = p.partials + static_cast<int64_t>(blockIdx.x) * 2 * C;
  for (int i = threadIdx.x; i < C; i += kRowThreads) {
    partial[i] = parts[0].at(i);
    partial[C + i] = parts[1].at(i);
  }
}

template <class T>
__device__ __forceinline__ Vector<float, kLength<T>> load_weight(const LayernormBackwardParams& p, int64_t begin) {
  Vector<float, kLength<T>> w;
#pragma unroll
  for (int e = 0; e < kLength<T>; e++) {
    w.at[e] = begin + e < p.C ? 1.0f : 0.0f;
    if (p.weight && begin + e < p.C) w.at[e] = parameter_at<T>(p.weight, p.weight_f32, begin + e);
  }
  return w;
}

template <class T>
__device__ __forceinline__ void layernorm_backward_wide_body(const LayernormBackwardParams& p) {
  const int64_t row = blockIdx.x, at = row * p.C;
  const float mean = p.mean[row], rstd = p.rstd[row];
  const T zero = from_float<T>(0);
  const Slots<T, int64_t> slots(p.C);
  const int64_t size = slots.size();
  Slot<T>* cache = reinterpret_cast<Slot<T>*>(dynamic_shared());  // inp's slots, then dout's

  float means[2] = {};
  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads) {
    const Slot<T> x = slots.load(static_cast<const T*>(p.inp) + at, slot, zero);
    const Slot<T> dy = slots.load(static_cast<const T*>(p.dout) + at, slot, zero);
    if (p.cached) {
      cache[slot] = x;
      cache[size + slot] = dy;
    }
    add_row_sums<T>(means, x, dy, load_weight<T>(p, slots.begin(slot)), mean, rstd);
  }
  group_sum<kWideThreads>(means);
  means[0] /= static_cast<float>(p.C);
  means[1] /= static_cast<float>(p.C);
  for (int64_t slot = threadIdx.x; slot < size; slot += kWideThreads) {
    const Slot<T> x = p.cached ? cache[slot] : slots.load(static_cast<const T*>(p.inp) + at, slot, zero);
    const Slot<T> dy = p.cached ? cache[size + slot] : slots.load(static_cast<const T*>(p.dout) + at, slot, zero);
    write_dinp(p, slots, at, slot, x, dy, load_dsum(p, slots, at, slot), load_weight<T>(p, slots.begin(slot)), mean,
               rstd, means);
  }
}

// Blocks (slots of columns, rows): a thread sums its columns over the block's rows.
template <class T>
__device__ __forceinline__ void layernorm_columns_body(const LayernormBackwardParams& p) {
  const Slots<T, int64_t> slots(p.C);
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (slot >= slots.size()) return;
  const T zero = from_float<T>(0);
  float dweight[kLength<T>] = {}, dbias[kLength<T>] = {};
  const int64_t begin = blockIdx.y * p.rows_per_block, end = min(begin + p.rows_per_block, p.rows);
#pragma unroll 4
  for (int64_t row = begin; row < end; row++) {
    const Slot<T> x = slots.load(static_cast<const T*>(p.inp) + row * p.C, slot, zero);
    const Slot<T> dy = slots.load(static_cast<const T*>(p.dout) + row * p.C, slot, zero);
    const float mean = p.mean[row], rstd = p.rstd[row];
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) {
      const float g = to_float(dy.at[e]);
      dweight[e] = fmaf(g, (to_float(x.at[e]) - mean) * rstd, dweight[e]);
      dbias[e] += g;
    }
  }
  float* partial = p.partials + blockIdx.y * 2 * p.C + slots.begin(slot);
#pragma unroll
  for (int e = 0; e < kLength<T>; e++)
    if (slots.holds(slots.begin(slot) + e)) {
      partial[e] = dweight[e];
      partial[p.C + e] = dbias[e];
    }
}

// Blocks (columns, dweight and dbias): gradient[C] (+)= Σ_blocks partials[block].
template <class T>
__device__ __forceinline__ void layernorm_parameters_body(const LayernormParametersParams& p) {
  constexpr int kTurns = kRowThreads / kSumColumns;
  __shared__ float parts[kTurns][kSumColumns];
  const bool bias = blockIdx.y;
  void* gradient = bias ? p.dbias : p.dweight;
  if (!gradient) return;
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
  if (bias ? p.dbias_f32 : p.dweight_f32) {
    float* to = static_cast<float*>(gradient) + c;
    *to = (bias ? p.accumulate_dbias : p.accumulate_dweight) ? *to + sum : sum;
  } else {
    T* to = static_cast<T*>(gradient) + c;
    *to = from_float<T>((bias ? p.accumulate_dbias : p.accumulate_dweight) ? to_float(*to) + sum : sum);
  }
}

#endif

HEED_ROW_KERNELS(layernorm_backward_rows, LayernormBackwardParams, 3, 1, layernorm_backward_rows_body)
HEED_KERNEL_FLOATS(layernorm_backward_wide, LayernormBackwardParams, kWideThreads, 1, layernorm_backward_wide_body)
HEED_KERNEL_FLOATS(layernorm_columns, LayernormBackwardParams, kColumnThreads, 4, layernorm_columns_body)
HEED_KERNEL_FLOATS(layernorm_parameters, LayernormParametersParams, kRowThreads, 1, layernorm_parameters_body)

#if !HEED_DEVICE_CODE

constexpr int64_t kLeastRows = 16;  // of a block that sums dweight and dbias

void layernorm_backward(Stream& stream, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                        OptIn weight, In mean, In rstd, Bool accumulate_dinp, Bool accumulate_dweight,
                        Bool accumulate_dbias) {
  const char* op = "layernorm_backward";
  check_layernorm_backward(op, dinp, dweight, dbias, dout, dsum, inp, weight, mean, rstd);
  const int64_t C = inp.dim(-1), rows = C ? inp.numel() / C : 0;
  if (C == 0) return;

  const auto data = [](OptIn view) { return view ? view->data : nullptr; };
  const auto is_f32 = [](OptIn view) { return view && view->dtype == DType::f32; };
  const RowPath path = row_path(C);
  const bool parameters = dweight || dbias, wide = path == RowPath::wide;
  // Enough blocks to fill the device, and rows enough in each for its part to be small beside what it reads.
  const int64_t columns = ceil_div(padded_row(inp), 16 / size_of(inp.dtype) * kColumnThreads);
  const int64_t most = stream.multiprocessors() * blocks_at_work(path, 3, 1);
  const int64_t wanted = wide ? ceil_div(most, columns) : most;
  const int64_t rows_per_block =
      ceil_div(max_of<int64_t>(ceil_div(rows, wanted), parameters ? kLeastRows : 1), groups(path)) * groups(path);
  const int64_t blocks = ceil_div(rows, rows_per_block);
  const Stream::Workspace workspace(stream, op, parameters ? static_cast<size_t>(blocks * 2 * C) * sizeof(float) : 0);

  LayernormBackwardParams p{dinp.data,      parameters ? workspace.f32() : nullptr,
                            dout.data,      data(dsum),
                            inp.data,       data(weight),
                            mean.f32(),     rstd.f32(),
                            is_f32(weight), accumulate_dinp,
                            false,          rows,
                            rows_per_block, C};
  if (rows > 0 && wide) {
    // First, as dinp may be the memory of what it reads.
    if (parameters) stream.launch(op, layernorm_columns(inp.dtype), {columns, blocks}, p);
    const size_t bytes = 2 * row_bytes(inp);
    p.cached = bytes <= shared_for_rows(stream);
    stream.launch(op, layernorm_backward_wide(inp.dtype), {rows}, p, p.cached ? bytes : 0);
  } else if (rows > 0) {
    const size_t shared = 2 * static_cast<size_t>(padded_row(inp)) * sizeof(float);
    stream.launch(op, layernorm_backward_rows(inp.dtype, path), {blocks}, p, shared);
  }
  if (!parameters) return;
  const LayernormParametersParams sums{data(dweight),    data(dbias),   workspace.f32(),
                                       is_f32(dweight),  is_f32(dbias), accumulate_dweight,
                                       accumulate_dbias, blocks,        C};
  stream.launch(op, layernorm_parameters(inp.dtype), {ceil_div(C, kSumColumns), 2}, sums);
}

#endif

}  // namespace heed::cuda
