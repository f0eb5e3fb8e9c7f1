// Rotary position embedding (Su et al., "RoFormer", 2021): in each head of the token at position p, pair i of
// dimensions is rotated by the angle whose cosine and sine are table[p, i]: (a, b) → (a · cos - b · sin, a · sin + b ·
// cos). With `inverse` it is rotated by the negative angle, which is the gradient. RotaryPairs are the neighbours (2i,
// 2i+1) or, among R dimensions, (i, i + R/2); dimensions beyond R are copied.
//
// inp and out are [B, T, H, D] with any strides and D contiguous; out may be inp. A thread has the same two pairs, one
// access of 16 bytes to the table, in all heads of a token, or in as many heads as leave enough threads. It has one
// pair if addresses do not allow vectors. If a position is outside the table, nothing of its token is written.
#include "cuda/kernels/strided.h"

#if !HEED_DEVICE_CODE
#include "core/checks/rotary.h"
#endif

namespace heed::cuda {

constexpr int kRotaryThreads = 256;
constexpr int kHeadsAhead = 4;  // heads whose loads are in flight together

struct RotaryParams {
  void* out;
  const void* inp;
  const float* table;
  const int32_t *starts, *positions;       // [B] or null, [B, T] or null
  int64_t out_strides[3], inp_strides[3];  // strides of sequences, tokens and heads
  int64_t limit;                           // number of positions in the table
  int64_t H, heads;                        // heads in all, and heads of a block
  uint32_t first, threads;                 // the first token of this launch; the number of its threads that have work
  Division length, units;  // T; the number of threads that share a head: first those with pairs, then those with copies
  int32_t pair_units, R;
  bool inverse, accumulate;
  FaultSink fault;
};

#if HEED_DEVICE_CODE

// kPairs pairs of a head: runs of elements that lie side by side.
template <class T, int kPairs, bool interleaved>
struct RotaryPairs {
  static constexpr int kRun = kPairs == 1 ? 1 : interleaved ? 2 * kPairs : kPairs, kRuns = 2 * kPairs / kRun;
  Vector<T, kRun> runs[kRuns];

  // `apart` is the distance from one run to the next.
  __device__ __forceinline__ void load(const T* from, int apart) {
#pragma unroll
    for (int r = 0; r < kRuns; r++) runs[r] = Vector<T, kRun>::load(from + r * apart);
  }
  __device__ __forceinline__ void store(T* to, int apart) const {
#pragma unroll
    for (int r = 0; r < kRuns; r++) runs[r].store_global(to + r * apart);
  }
  __device__ __forceinline__ T& first(int pair) { return kRuns == 1 ? runs[0].at[2 * pair] : runs[0].at[pair]; }
  __device__ __forceinline__ T& second(int pair) {
    return kRuns == 1 ? runs[0].at[2 * pair + 1] : runs[kRuns - 1].at[pair];
  }
};

// Calls f(out, inp, heads) for up to kHeadsAhead of this block's heads at once.
template <class T, class F>
__device__ __forceinline__ void for_heads(const RotaryParams& p, int64_t b, int64_t t, int64_t element, const F& f) {
  const int64_t begin = blockIdx.y * p.heads, end = min(begin + p.heads, p.H);
  T* out = static_cast<T*>(p.out) + b * p.out_strides[0] + t * p.out_strides[1] + element;
  const T* inp = static_cast<const T*>(p.inp) + b * p.inp_strides[0] + t * p.inp_strides[1] + element;
  for (int64_t h = begin; h < end; h += kHeadsAhead)
    f(out + h * p.out_strides[2], inp + h * p.inp_strides[2], static_cast<int>(min(end - h, int64_t{kHeadsAhead})));
}

template <class T, int kPairs, bool interleaved>
__device__ __forceinline__ void turn_pairs(const RotaryParams& p, int64_t b, int64_t t, int64_t position, int unit) {
  using Runs = RotaryPairs<T, kPairs, interleaved>;
  const int pair = unit * kPairs, apart = interleaved ? 1 : p.R / 2;
  const auto angles = Vector<float, 2 * kPairs>::load(p.table + position * p.R + 2 * pair);
  for_heads<T>(p, b, t, interleaved ? 2 * pair : pair, [&](T* out, const T* inp, int heads) {
    Runs x[kHeadsAhead];
#pragma unroll
    for (int h = 0; h < kHeadsAhead; h++)
      if (h < heads) x[h].load(inp + h * p.inp_strides[2], apart);
#pragma unroll
    for (int h = 0; h < kHeadsAhead; h++) {
      if (h >= heads) continue;
      T* const to = out + h * p.out_strides[2];
      Runs before;
      if (p.accumulate) before.load(to, apart);
#pragma unroll
      for (int k = 0; k < kPairs; k++) {
        const float cosine = angles.at[2 * k], sine = p.inverse ? -angles.at[2 * k + 1] : angles.at[2 * k + 1];
        const float first = to_float(x[h].first(k)), second = to_float(x[h].second(k));
        float turned_first = fmaf(first, cosine, -(second * sine)), turned_second = fmaf(second, cosine, first * sine);
        if (p.accumulate) {
          turned_first += to_float(before.first(k));
          turned_second += to_float(before.second(k));
        }
        x[h].first(k) = from_float<T>(turned_first);
        x[h].second(k) = from_float<T>(turned_second);
      }
      x[h].store(to, apart);
    }
  });
}

template <class T, int V>
__device__ __forceinline__ void copy_rest(const RotaryParams& p, int64_t b, int64_t t, int unit) {
  for_heads<T>(p, b, t, p.R + unit * V, [&](T* out, const T* inp, int heads) {
    Vector<T, V> x[kHeadsAhead];
#pragma unroll
    for (int h = 0; h < kHeadsAhead; h++)
      if (h < heads) x[h] = Vector<T, V>::load(inp + h * p.inp_strides[2]);
#pragma unroll
    for (int h = 0; h < kHeadsAhead; h++) {
      if (h >= heads) continue;
      T* const to = out + h * p.out_strides[2];
      if (p.accumulate) {
        const auto before = Vector<T, V>::load(to);
#pragma unroll
        for (int e = 0; e < V; e++) x[h].at[e] = from_float<T>(to_float(before.at[e]) + to_float(x[h].at[e]));
      }
      x[h].store_global(to);
    }
  });
}

template <class T, int kPairs, bool interleaved>
__device__ __forceinline__ void rotary_body(const RotaryParams& p) {
  const uint32_t thread = blockIdx.x * kRotaryThreads + threadIdx.x;
  if (thread >= p.threads) return;
  const uint32_t index = divide(thread, p.units), token = p.first + index, b = divide(token, p.length);
  const int unit = static_cast<int>(thread - index * p.units.divisor);
  const int64_t t = token - b * p.length.divisor;
  const int64_t position = p.positions ? p.positions[token] : (p.starts ? p.starts[b] : 0) + t;
  if (position < 0 || position >= p.limit) {
    if (unit == 0 && blockIdx.y == 0)
      report_fault(p.fault, FaultKind::position, position, p.limit, token, p.length.divisor);
    return;
  }
  if (unit < p.pair_units)
    turn_pairs<T, kPairs, interleaved>(p, b, t, position, unit);
  else
    copy_rest<T, RotaryPairs<T, kPairs, interleaved>::kRun>(p, b, t, unit - p.pair_units);
}

template <class T>
__device__ void rotary_halves_body(const RotaryParams& p) {
  rotary_body<T, 2, false>(p);
}
template <class T>
__device__ void rotary_halves_scalar_body(const RotaryParams& p) {
  rotary_body<T, 1, false>(p);
}
template <class T>
__device__ void rotary_interleaved_body(const RotaryParams& p) {
  rotary_body<T, 2, true>(p);
}
template <class T>
__device__ void rotary_interleaved_scalar_body(const RotaryParams& p) {
  rotary_body<T, 1, true>(p);
}

#endif

HEED_KERNEL_FLOATS(rotary_halves, RotaryParams, kRotaryThreads, 3, rotary_halves_body)
HEED_KERNEL_FLOATS(rotary_halves_scalar, RotaryParams, kRotaryThreads, 3, rotary_halves_scalar_body)
HEED_KERNEL_FLOATS(rotary_interleaved, RotaryParams, kRotaryThreads, 3, rotary_interleaved_body)
HEED_KERNEL_FLOATS(rotary_interleaved_scalar, RotaryParams, kRotaryThreads, 3, rotary_interleaved_scalar_body)

#if !HEED_DEVICE_CODE

namespace {

// Returns true if the pairs of all heads lie in runs of `run` elements on boundaries of that size.
bool in_runs(const TensorView& view, int64_t run) {
  bool aligned = is_aligned(view.data, run * static_cast<int64_t>(size_of(view.dtype)));
  for (int d = 0; d < 3; d++) aligned = aligned && (view.shape[d] == 1 || view.strides[d] % run == 0);
  return aligned;
}

}  // namespace

void host::rotary(Stream& stream, Out out, In inp, F32In table, OptI32In starts, OptI32In positions, Bool interleaved,
                  Bool inverse, Accumulate accumulate) {
  const char* op = "rotary";
  const RotarySizes n = check_rotary(op, out, inp, table, starts, positions);
  if (inp.empty()) return;

  const int64_t run = interleaved ? 4 : 2;
  const bool vectors =
      n.R % 4 == 0 && (n.D - n.R) % run == 0 && is_aligned(table.data, 16) && in_runs(inp, run) && in_runs(out, run);
  const int64_t pair_units = n.R / (vectors ? 4 : 2), units = pair_units + (n.D - n.R) / (vectors ? run : 1);
  Kernel<RotaryParams>& kernel = interleaved ? (vectors ? rotary_interleaved : rotary_interleaved_scalar)(inp.dtype)
                                             : (vectors ? rotary_halves : rotary_halves_scalar)(inp.dtype);
  RotaryParams p{out.data,
                 inp.data,
                 table.f32(),
                 starts ? starts->i32() : nullptr,
                 positions ? positions->i32() : nullptr,
                 {},
                 {},
                 n.positions,
                 n.H,
                 n.H,
                 0,
                 0,
                 division_by(n.T),
                 division_by(units),
                 static_cast<int32_t>(pair_units),
                 static_cast<int32_t>(n.R),
                 inverse,
                 accumulate,
                 stream.fault(op)};
  for (int d = 0; d < 3; d++) {
    p.out_strides[d] = out.strides[d];
    p.inp_strides[d] = inp.strides[d];
  }
  // All heads share one reading of the table, unless that leaves multiprocessors without blocks.
  const int64_t tokens = n.B * n.T, blocks = ceil_div(tokens * units, int64_t{kRotaryThreads});
  while (p.heads > kHeadsAhead && blocks * ceil_div(n.H, p.heads) < 4 * stream.multiprocessors())
    p.heads = ceil_div(p.heads, int64_t{2});
  while (ceil_div(n.H, p.heads) > 65535) p.heads *= 2;

  const int64_t most = INT32_MAX / units;  // tokens of a launch
  for (int64_t first = 0; first < tokens; first += most) {
    const int64_t threads = (tokens - first < most ? tokens - first : most) * units;
    p.first = static_cast<uint32_t>(first);
    p.threads = static_cast<uint32_t>(threads);
    stream.launch(op, kernel, {ceil_div(threads, int64_t{kRotaryThreads}), ceil_div(n.H, p.heads)}, p);
  }
}

#endif

}  // namespace heed::cuda
