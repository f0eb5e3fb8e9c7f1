// out = Σ, mean or max of inp over the dimensions in which out's size is 1, written or, with `accumulate`, added. It
// takes one float dtype, any strides and any subset of dimensions. max is NaN if an element is; the sum of no elements
// is 0.
//
// If the dimension in which inp is packed most closely is reduced (rows), a group of 1 to 256 threads has one output
// and runs along rows of inp. If that dimension is kept (columns), the threads of a block lie along columns of inp, in
// as many rows as fit, and run down. Both read up to 16 bytes per access, and add in f32 over 16 steps and in f64
// across them. If there are few outputs over many elements, these are cut into segments, whose f64 results a second
// kernel combines in order. The cut depends on shapes and strides only, so the bits are the same on every card.
#include <algorithm>

#include "core/checks/elementwise.h"
#include "core/kinds.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

constexpr int kReduceThreads = 256;

// `kept` covers inp and out, and `reduced` covers inp. Outputs are the elements of `kept`, in its order. The elements
// of each output are cut into `segments` segments of `segment` elements. The result of segment s of output i goes to
// partial[i · partial_stride + s].
struct ReduceParams {
  Elements<2> kept;
  Elements<1> reduced;
  const void* inp;
  void* out;
  double* partial;  // if null, results go straight to out
  int64_t partial_stride;
  double divisor;
  uint32_t segments, segment;
  uint32_t group;  // rows: threads per output; columns: threads along columns
  uint32_t tiles;  // columns: tiles per row of kept
  int32_t max, accumulate;
};

struct ReduceCombineParams {
  Elements<2> kept;
  void* out;
  const double* partial;
  int64_t partial_stride;
  double divisor;
  int32_t max, accumulate;
};

#if HEED_DEVICE_CODE

struct Add {
  __device__ static float identity() { return 0; }
  template <class A>
  __device__ static A combine(A sum, A x) {
    return sum + x;
  }
};
struct Max {
  __device__ static float identity() { return -INFINITY; }
  template <class A>
  __device__ static A combine(A m, A x) {
    return x > m || x != x ? x : m;
  }
};

constexpr int kBlockSteps = 16;  // f32 additions before f64 takes over

template <class T, class Params>
__device__ __forceinline__ void write_result(const Params& p, uint32_t offset, double value) {
  T* to = static_cast<T*>(p.out) + offset;
  const float result = static_cast<float>(value / p.divisor);
  *to = from_float<T>(p.accumulate ? to_float(*to) + result : result);
}

// Returns the result of this thread's group, which has a power of two of threads, in the group's first thread. `warps`
// is shared memory for a group that is the whole block.
template <class Op>
__device__ __forceinline__ double combine_group(double value, uint32_t group, double* warps) {
  for (uint32_t offset = min(group, 32u) / 2; offset > 0; offset /= 2)
    value = Op::combine(value, __shfl_down_sync(kFullWarp, value, offset));
  if (group <= 32) return value;
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[0];
  for (uint32_t w = 1; w < kReduceThreads / 32; w++) value = Op::combine(value, warps[w]);
  return value;
}

// Reduces elements first, first + step, … < end of the reduced dimensions, V at a time: neighbours if they are vectors,
// and otherwise `step` apart.
template <class Op, class T>
__device__ __forceinline__ double reduce_elements(const ReduceParams& p, const T* inp, uint32_t lane, uint32_t begin,
                                                  uint32_t end) {
  constexpr uint32_t V = 16 / sizeof(T);
  const uint32_t step = p.group;
  double total = static_cast<double>(Op::identity());
  for (uint32_t base = begin; base < end;) {
    float sum[V];
#pragma unroll
    for (uint32_t k = 0; k < V; k++) sum[k] = Op::identity();
#pragma unroll 2
    for (int s = 0; s < kBlockSteps && base < end; s++, base += step * V) {
      const uint32_t first = p.reduced.vector ? base + lane * V : base + lane;
      if (p.reduced.vector && first + V <= end) {
        uint32_t offset[1];
        locate(p.reduced, first, offset);
        const Vector<T, V> x = Vector<T, V>::load(inp + offset[0]);
#pragma unroll
        for (uint32_t k = 0; k < V; k++) sum[k] = Op::combine(sum[k], to_float(x.at[k]));
      } else {
        uint32_t element[V], offset[1][V];
#pragma unroll
        for (uint32_t k = 0; k < V; k++) element[k] = first + (p.reduced.vector ? k : k * step);
        locate(p.reduced, element, offset);
#pragma unroll
        for (uint32_t k = 0; k < V; k++)
          if (element[k] < end) sum[k] = Op::combine(sum[k], to_float(inp[offset[0][k]]));
      }
    }
#pragma unroll
    for (uint32_t half = V / 2; half > 0; half /= 2)
#pragma unroll
      for (uint32_t k = 0; k < half; k++) sum[k] = Op::combine(sum[k], sum[k + half]);
    total = Op::combine(total, static_cast<double>(sum[0]));
  }
  return total;
}

template <class Op, class T>
__device__ __forceinline__ void reduce_rows(const ReduceParams& p, double* warps) {
  const uint32_t group = blockIdx.x * (kReduceThreads / p.group) + threadIdx.x / p.group;
  const uint32_t lane = threadIdx.x % p.group;
  const uint32_t output = group / p.segments, segment = group % p.segments;
  const bool live = output < p.kept.size;
  uint32_t offset[2] = {};
  double value = static_cast<double>(Op::identity());
  if (live) {
    locate(p.kept, output, offset);
    const uint32_t begin = segment * p.segment, end = min(begin + p.segment, p.reduced.size);
    value = reduce_elements<Op>(p, static_cast<const T*>(p.inp) + offset[0], lane, begin, end);
  }
  value = combine_group<Op>(value, p.group, warps);
  if (!live || lane != 0) return;
  if (p.partial)
    p.partial[output * p.partial_stride + segment] = value;
  else
    write_result<T>(p, offset[1], value);
}

template <class Op, class T>
__device__ __forceinline__ void reduce_columns(const ReduceParams& p, double (*parts)[kReduceThreads]) {
  constexpr uint32_t V = 16 / sizeof(T);
  const uint32_t rows = kReduceThreads / p.group, x = threadIdx.x % p.group, y = threadIdx.x / p.group;
  const uint32_t segment = blockIdx.x % p.segments, tile = blockIdx.x / p.segments;
  const uint32_t width = p.kept.shape[0].divisor, column = tile % p.tiles * p.group * V;
  const uint32_t first = tile / p.tiles * width;  // first output of the row
  uint32_t start[2];
  locate(p.kept, first, start);
  const T* inp = static_cast<const T*>(p.inp) + start[0];
  const uint32_t stride = p.kept.strides[0][0];
  const bool whole = p.kept.vector && column + (x + 1) * V <= width;
  uint32_t columns[V];
#pragma unroll
  for (uint32_t k = 0; k < V; k++) columns[k] = column + (p.kept.vector ? x * V + k : k * p.group + x);

  double total[V];
#pragma unroll
  for (uint32_t k = 0; k < V; k++) total[k] = static_cast<double>(Op::identity());
  const uint32_t begin = segment * p.segment, end = min(begin + p.segment, p.reduced.size);
  for (uint32_t row = begin + y; row < end;) {
    float sum[V];
#pragma unroll
    for (uint32_t k = 0; k < V; k++) sum[k] = Op::identity();
#pragma unroll 4
    for (int s = 0; s < kBlockSteps && row < end; s++, row += rows) {
      uint32_t offset[1];
      locate(p.reduced, row, offset);
      const T* at = inp + offset[0];
      if (whole) {
        const Vector<T, V> v = Vector<T, V>::load(at + columns[0]);
#pragma unroll
        for (uint32_t k = 0; k < V; k++) sum[k] = Op::combine(sum[k], to_float(v.at[k]));
      } else {
#pragma unroll
        for (uint32_t k = 0; k < V; k++)
          if (columns[k] < width) sum[k] = Op::combine(sum[k], to_float(at[columns[k] * stride]));
      }
    }
#pragma unroll
    for (uint32_t k = 0; k < V; k++) total[k] = Op::combine(total[k], static_cast<double>(sum[k]));
  }

#pragma unroll
  for (uint32_t k = 0; k < V; k++) parts[k][threadIdx.x] = total[k];
  __syncthreads();
  // The block's columns, one per thread. There are at most as many columns as threads, or some threads have several.
  for (uint32_t c = threadIdx.x; c < p.group * V; c += kReduceThreads) {
    const uint32_t k = c / p.group, lane = c % p.group;
    const uint32_t at = column + (p.kept.vector ? lane * V + k : c);
    if (at >= width) continue;
    double value = parts[k][lane];
    for (uint32_t r = 1; r < rows; r++) value = Op::combine(value, parts[k][r * p.group + lane]);
    if (p.partial)
      p.partial[(first + at) * p.partial_stride + segment] = value;
    else
      write_result<T>(p, start[1] + at * p.kept.strides[1][0], value);
  }
}

template <class T>
__device__ void reduce_rows_body(const ReduceParams& p) {
  __shared__ double warps[kReduceThreads / 32];
  if (p.max)
    reduce_rows<Max, T>(p, warps);
  else
    reduce_rows<Add, T>(p, warps);
}
template <class T>
__device__ void reduce_columns_body(const ReduceParams& p) {
  __shared__ double parts[16 / sizeof(T)][kReduceThreads];
  if (p.max)
    reduce_columns<Max, T>(p, parts);
  else
    reduce_columns<Add, T>(p, parts);
}

// One warp per output.
template <class Op, class T>
__device__ __forceinline__ void combine_segments(const ReduceCombineParams& p) {
  const uint32_t output = blockIdx.x * (kReduceThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (output >= p.kept.size) return;
  double value = static_cast<double>(Op::identity());
  for (int64_t s = lane; s < p.partial_stride; s += 32)
    value = Op::combine(value, p.partial[output * p.partial_stride + s]);
  value = combine_group<Op>(value, 32, nullptr);
  uint32_t offset[2];
  locate(p.kept, output, offset);
  if (lane == 0) write_result<T>(p, offset[1], value);
}

template <class T>
__device__ void reduce_combine_body(const ReduceCombineParams& p) {
  if (p.max)
    combine_segments<Max, T>(p);
  else
    combine_segments<Add, T>(p);
}

#endif

HEED_KERNEL_FLOATS(reduce_rows_kernel, ReduceParams, kReduceThreads, 1, reduce_rows_body)
HEED_KERNEL_FLOATS(reduce_columns_kernel, ReduceParams, kReduceThreads, 1, reduce_columns_body)
HEED_KERNEL_FLOATS(reduce_combine_kernel, ReduceCombineParams, kReduceThreads, 1, reduce_combine_body)

#if !HEED_DEVICE_CODE

namespace {

constexpr int64_t kFill = 512;  // blocks that keep a large card busy
constexpr int64_t kLeastElements =
    16;  // least elements of a thread; combining smaller segments would cost more than they save

// Returns the loop of inp alone.
Loop<1> inp_of(const Loop<2>& loop) {
  Loop<1> inp;
  inp.rank = loop.rank;
  inp.size = loop.size;
  for (int d = 0; d < loop.rank; d++) {
    inp.shape[d] = loop.shape[d];
    inp.strides[0][d] = loop.strides[0][d];
  }
  return inp;
}

bool keeps_alignment(const Loop<1>& loop, int V) {
  for (int d = 0; d < loop.rank; d++)
    if (loop.strides[0][d] % V != 0) return false;
  return true;
}

struct Cut {
  bool columns;
  int64_t group, segments;
};

int64_t power_of_two(int64_t at_least, int64_t at_most) {
  int64_t power = 1;
  while (power < at_least && power < at_most) power *= 2;
  return power;
}

Cut make_cut(const Loop<2>& kept, const Loop<1>& reduced, int64_t V) {
  Cut cut;
  const int64_t count = reduced.size;
  cut.columns = kept.size > 1 && count > 1 && kept.stride(0) < reduced.stride(0);
  int64_t blocks, steps;  // `steps` of a thread
  if (cut.columns) {
    const int64_t row = kept.row();
    cut.group = power_of_two(ceil_div(row, V), 32);
    blocks = kept.size / row * ceil_div(row, cut.group * V);
    steps = ceil_div(count, kReduceThreads / cut.group);
  } else {
    cut.group = power_of_two(ceil_div(count, V), 32);
    // One block per output if warps would have much to do, or would be too few.
    if (count > 32 * V * 4 && (kept.size < 8 * kFill || count > 32 * V * 32)) cut.group = kReduceThreads;
    blocks = ceil_div(kept.size * cut.group, kReduceThreads);
    steps = ceil_div(count, cut.group * V);
  }
  cut.segments = std::max<int64_t>(1, std::min(ceil_div(kFill, blocks), steps / kLeastElements));
  return cut;
}

// Reduces one piece of the kept dimensions.
void reduce_piece(Stream& stream, const TensorView& out, const TensorView& inp, const Loop<2>& kept,
                  const Loop<1>& reduced, ReduceKind kind, bool accumulate) {
  const char* op = "reduce";
  const int V = vector_width(inp.dtype);
  const bool max = kind == ReduceKind::max;
  const double divisor = kind == ReduceKind::mean ? static_cast<double>(reduced.size) : 1;
  void* to = element_at(out, kept.offset[1]);
  const char* from = element_at(inp, kept.offset[0]);

  int64_t partials = 0;  // partials of an output
  for_pieces(reduced, [&](const Loop<1>& piece) { partials += make_cut(kept, piece, V).segments; });
  const bool direct = partials == 1;
  const Stream::Workspace workspace(stream, op,
                                    direct ? 0 : static_cast<size_t>(kept.size * partials) * sizeof(double));
  int64_t done = 0;
  for_pieces(reduced, [&](const Loop<1>& piece) {
    const Cut cut = make_cut(kept, piece, V);
    ReduceParams p{};
    p.kept = elements_of(kept);
    p.reduced = elements_of(piece);
    p.inp = from + piece.offset[0] * static_cast<int64_t>(size_of(inp.dtype));
    p.out = to;
    p.partial = direct ? nullptr : workspace.as<double>() + done;
    p.partial_stride = partials;
    p.divisor = divisor;
    const int64_t least = ceil_div(piece.size, cut.segments);
    p.segment = static_cast<uint32_t>(ceil_div(least, V) * V);  // so that vectors are aligned in each segment
    p.segments = static_cast<uint32_t>(cut.segments);
    p.group = static_cast<uint32_t>(cut.group);
    p.max = max;
    p.accumulate = accumulate;

    // Vectors lie along the reduced dimensions in rows, and along the kept ones in columns; the other dimensions must
    // keep them aligned.
    const Loop<1> kept_inp = inp_of(kept);
    if (cut.columns) {
      p.tiles = static_cast<uint32_t>(ceil_div(kept.row(), cut.group * V));
      p.kept.vector = fits_vectors<1>(kept_inp, {p.inp}, {inp.dtype}, V) && keeps_alignment(piece, V);
      const int64_t blocks = kept.size / kept.row() * p.tiles * cut.segments;
      stream.launch(op, reduce_columns_kernel(inp.dtype), {blocks}, p);
    } else {
      p.reduced.vector = fits_vectors<1>(piece, {p.inp}, {inp.dtype}, V) && keeps_alignment(kept_inp, V);
      const int64_t blocks = ceil_div(kept.size * cut.segments * cut.group, kReduceThreads);
      stream.launch(op, reduce_rows_kernel(inp.dtype), {blocks}, p);
    }
    done += cut.segments;
  });
  if (direct) return;
  const ReduceCombineParams p{elements_of(kept), to, workspace.as<double>(), partials, divisor, max, accumulate};
  stream.launch(op, reduce_combine_kernel(out.dtype), {ceil_div(kept.size, kReduceThreads / 32)}, p);
}

}  // namespace

void host::reduce(Stream& stream, Out out, In inp, Int kind, Bool accumulate) {
  check_reduce(out, inp, kind);
  if (out.empty()) return;
  if (inp.empty()) {
    if (!accumulate) fill(stream, out, 0);
    return;
  }
  TensorView kept = inp, reduced = inp;
  for (int d = 0; d < inp.rank; d++) (out.shape[d] == inp.shape[d] ? reduced : kept).shape[d] = 1;
  const Loop<1> within = make_loop<1>({&reduced});
  for_pieces(make_loop<2>({&kept, &out}), [&](const Loop<2>& piece) {
    reduce_piece(stream, out, inp, piece, within, static_cast<ReduceKind>(kind), accumulate);
  });
}

#endif

}  // namespace heed::cuda
