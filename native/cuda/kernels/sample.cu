// Chooses the next token of each of B rows of V logits:
//   repetition penalty (Keskar et al., "CTRL", 2019) → temperature → top-k → top-p, the smallest set of the likeliest
//   tokens with a mass of p (Holtzman et al., "The curious case of neural text degeneration", 2020) → min-p, at least
//   that part of the likeliest token's probability → a draw from the rest.
//
// w = e^{(x - max)/T} is the row's distribution before its normalisation. The sets of top-k and top-p are prefixes of
// one order (select.h): the kernel finds their last key, and the weights after it count as 0. The draw goes through the
// weights by index with u in [0, 1) of 53 bits, words 0 and 1 of Philox block offsets[b]. Sums are in f64 and have a
// fixed shape. Logits of -inf have no weight. A row without a softmax (one of its logits is NaN or +inf, or all are
// -inf) gets the id -1.
//
// A block handles a row, with 128 threads up to V = 4096 and 1024 beyond; weights are computed anew in each of the few
// passes. With a history, or with 16-bit logits, a first kernel writes the penalised logits as f32.
#include <algorithm>

#include "core/checks/choose.h"
#include "cuda/kernels/philox.h"
#include "cuda/kernels/select.h"

namespace heed::cuda {

constexpr int kSampleThreads = 128, kSampleLongThreads = 1024;
constexpr int kPenaliseThreads = 1024;
constexpr uint32_t kSamplePiece = 256;  // weights of a piece, whose mass is kept for the draw

struct PenaliseParams {
  float* out;
  const void* logits;
  const int32_t* history;  // or null
  int64_t length;
  uint32_t V;
  float penalty;
  FaultSink fault;
};

// Scratch memory of a block: `masses` has `pieces` numbers, and `keys` has V (null if no set is requested).
struct SampleParams {
  int32_t* ids;
  int32_t* inputs;  // or null
  const float* logits;
  const int32_t* offsets;
  double* masses;
  Key* keys;
  int64_t rows;
  uint64_t seed;
  uint32_t V, pieces, top_k;  // if top_k = V it is off
  float temperature, top_p, min_p;
};

#if HEED_DEVICE_CODE

// Computed from the original logit, so that an id that occurs twice is penalised once.
template <class T>
__device__ void penalise_body(const PenaliseParams& p) {
  const int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(p.logits) + row * p.V;
  float* out = p.out + row * p.V;
  for (uint32_t i = threadIdx.x; i < p.V; i += kPenaliseThreads) out[i] = to_float(logits[i]);
  if (!p.history) return;
  __syncthreads();
  for (int64_t l = threadIdx.x; l < p.length; l += kPenaliseThreads) {
    const int32_t id = p.history[row * p.length + l];
    if (id < 0) continue;
    if (id >= p.V) {
      report_fault(p.fault, FaultKind::history, id, p.V, row * p.length + l, p.length);
      continue;
    }
    const float x = to_float(logits[id]);
    out[id] = x > 0 ? x / p.penalty : x * p.penalty;
  }
}

struct Weights {
  float max, temperature, min_p;
  Key last;  // last key that is kept

  __device__ float of(float x) const { return expf((x - max) / temperature); }
  __device__ float of(Key key) const { return key >= last ? of(value_of(key)) : 0.0f; }
  __device__ float kept(float x, uint32_t index) const {
    const float w = of(x);
    return w >= min_p && key_of(x, index) >= last ? w : 0.0f;
  }
};

// Returns the last key that top-k and top-p keep.
template <int kThreads>
__device__ __forceinline__ Key last_kept(const SampleParams& p, const float* x, Weights w, Key highest, Key* list,
                                         Key* shared) {
  uint32_t n = 0;
  double mass = 0;
  if (p.top_k < p.V) {
    w.last = max(floor_of_top<kThreads>(highest, p.top_k, shared), kAboveInfinity);
    n = collect<kThreads>(list, x, p.V, [&](float, Key key) { return key >= w.last; });
    if (n > p.top_k) w.last = last_of_prefix<kThreads>(list, n, static_cast<double>(p.top_k), [](Key) { return 1.0; });
  }
  if (p.top_p >= 1) return w.last;
  if (p.top_k < p.V) {
    for (uint32_t j = threadIdx.x; j < n; j += kThreads) mass += w.of(list[j]);
    mass = block_combine<kThreads, Sum>(mass);
  } else {
    over_row(x, p.V, threadIdx.x, kThreads, [&](float v, uint32_t) { mass += w.of(v); });
    mass = block_combine<kThreads, Sum>(mass);
    // All weights up to (1-p) · mass / V have together at most 1-p of the mass, so the set is among the others. The
    // bound is a little less, so that rounding removes none of them.
    const float floor = static_cast<float>(0.999999 * (1 - p.top_p) * mass / p.V);
    n = collect<kThreads>(list, x, p.V, [&](float v, Key) { return w.of(v) > floor; });
  }
  const Key last = last_of_prefix<kThreads>(list, n, p.top_p * mass, [&](Key key) { return double{w.of(key)}; });
  return max(last, w.last);
}

// Returns the first weight of piece `piece` at which the sum exceeds `rest`, or its last one that is not 0. One warp
// must call it.
__device__ __forceinline__ uint32_t draw_in_piece(const SampleParams& p, const float* x, const Weights& w,
                                                  uint32_t piece, double rest) {
  const uint32_t lane = threadIdx.x % 32, begin = piece * kSamplePiece;
  const uint32_t end = min(begin + kSamplePiece, p.V);
  double before = 0;
  uint32_t chosen = begin;
  for (uint32_t start = begin; start < end; start += 32) {
    const uint32_t i = start + lane;
    const double weight = i < end ? w.kept(x[i], i) : 0.0f, sum = before + warp_scan(weight);
    const unsigned some = __ballot_sync(kFullWarp, weight > 0);
    const unsigned reached = __ballot_sync(kFullWarp, weight > 0 && rest < sum);
    if (reached) return start + __ffs(reached) - 1;
    if (some) chosen = start + 31 - __clz(some);
    before = __shfl_sync(kFullWarp, sum, 31);
  }
  return chosen;
}

// Finds the first piece at which the sum exceeds u · mass, or the last piece with any mass if rounding leaves none.
// `found` is shared: the piece and the rest of u · mass there.
template <int kThreads>
__device__ __forceinline__ void find_piece(const SampleParams& p, const double* masses, double u, uint32_t& found,
                                           double& found_rest) {
  const uint32_t each = (p.pieces + kThreads - 1) / kThreads;
  const uint32_t begin = threadIdx.x * each, end = min(begin + each, p.pieces);
  double own = 0, total;
  for (uint32_t c = begin; c < end; c++) own += masses[c];
  const double sum = block_scan<kThreads>(own, total), target = u * total;
  // The complement ~thread makes the highest value that of the first thread; then comes the last thread with any mass.
  const uint32_t first = block_combine<kThreads, Highest>(own > 0 && target < sum ? ~threadIdx.x : 0u);
  const uint32_t last = block_combine<kThreads, Highest>(own > 0 ? threadIdx.x + 1 : 0u) - 1;
  if (threadIdx.x == (first ? ~first : last)) {
    double left = target - (sum - own);
    for (uint32_t c = begin; c < end; c++) {
      if (masses[c] == 0) continue;
      found = c;
      found_rest = left;
      if (left < masses[c]) break;
      left -= masses[c];
    }
  }
  __syncthreads();
}

template <int kThreads>
__device__ __forceinline__ int32_t choose(const SampleParams& p, int64_t row, Key* shared) {
  const float* x = p.logits + row * p.V;
  Key highest = 0;
  // NaN is the highest here, so that a row that contains any is recognised.
  over_row(x, p.V, threadIdx.x, kThreads,
           [&](float v, uint32_t i) { highest = max(highest, v == v ? key_of(v, i) : ~Key{0}); });
  const Key best = block_combine<kThreads, Highest>(highest);
  const float most = value_of(best);
  if (!isfinite(most)) return -1;
  if (p.temperature == 0) return static_cast<int32_t>(index_of(best));

  Weights w{most, p.temperature, p.min_p, 0};
  if (p.keys) w.last = last_kept<kThreads>(p, x, w, highest, p.keys + static_cast<int64_t>(blockIdx.x) * p.V, shared);

  double* masses = p.masses + static_cast<int64_t>(blockIdx.x) * p.pieces;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (uint32_t piece = warp; piece < p.pieces; piece += kThreads / 32) {
    double mass = 0;
#pragma unroll 4
    for (uint32_t k = 0; k < kSamplePiece / 32; k++) {
      const uint32_t i = piece * kSamplePiece + k * 32 + lane;
      if (i < p.V) mass += w.kept(x[i], i);
    }
    mass = warp_combine<Sum>(mass);
    if (lane == 0) masses[piece] = mass;
  }
  __syncthreads();

  const PhiloxBlock random = philox(p.seed, static_cast<uint32_t>(p.offsets[row]), kSamplingDraws);
  const uint64_t bits = static_cast<uint64_t>(random.word[0]) << 32 | random.word[1];
  __shared__ uint32_t piece;
  __shared__ double rest;
  find_piece<kThreads>(p, masses, static_cast<double>(bits >> 11) * 0x1p-53, piece, rest);
  return static_cast<int32_t>(draw_in_piece(p, x, w, piece, rest));  // every warp gets the same result
}

template <int kThreads>
__device__ void sample_rows(const SampleParams& p) {
  __shared__ Key shared[kThreads];
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const int32_t id = choose<kThreads>(p, row, shared);
    if (threadIdx.x == 0) {
      p.ids[row] = id;
      if (p.inputs) p.inputs[row] = max(id, 0);
    }
    __syncthreads();  // before the next row
  }
}

#endif

HEED_KERNEL_FLOATS(penalise_kernel, PenaliseParams, kPenaliseThreads, 1, penalise_body)
HEED_KERNEL(sample_kernel, SampleParams, kSampleThreads, 1, sample_rows<kSampleThreads>)
HEED_KERNEL(sample_long_kernel, SampleParams, kSampleLongThreads, 1, sample_rows<kSampleLongThreads>)

#if !HEED_DEVICE_CODE

constexpr int64_t kSampleLong = 4096;

void host::sample(Stream& stream, Out ids, OptOut inputs, In logits, OptIn history, In offsets, Float temperature,
                  Int top_k, Float top_p, Float min_p, Float repetition_penalty, Int seed) {
  const char* op = "sample";
  check_sample(ids, inputs, logits, history, offsets, {temperature, top_k, top_p, min_p, repetition_penalty});
  const int64_t B = logits.dim(0), V = logits.dim(1);
  if (B == 0) return;

  const bool prepares = history || logits.dtype != DType::f32, is_long = V > kSampleLong;
  const Stream::Workspace prepared(stream, op, prepares ? static_cast<size_t>(B * V) * sizeof(float) : 0);
  if (prepares) {
    const PenaliseParams p{prepared.f32(),
                           logits.data,
                           history ? history->i32() : nullptr,
                           history ? history->dim(1) : 0,
                           static_cast<uint32_t>(V),
                           repetition_penalty,
                           history ? stream.fault(op) : FaultSink{}};
    stream.launch(op, penalise_kernel(logits.dtype), {B}, p);
  }

  const bool selects = temperature > 0 && ((top_k > 0 && top_k < V) || top_p < 1);
  // As many blocks as the card can run at once. Each handles rows one after the other and has scratch memory of its
  // own.
  const int64_t blocks = std::min<int64_t>(B, stream.multiprocessors() * (is_long ? 2 : 16));
  const int64_t pieces = (V + kSamplePiece - 1) / kSamplePiece;
  const Stream::Workspace keys(stream, op, selects ? static_cast<size_t>(blocks * V) * sizeof(Key) : 0);
  const Stream::Workspace masses(stream, op, static_cast<size_t>(blocks * pieces) * sizeof(double));
  const SampleParams p{ids.i32(),
                       inputs ? inputs->i32() : nullptr,
                       prepares ? prepared.f32() : logits.f32(),
                       offsets.i32(),
                       masses.as<double>(),
                       selects ? keys.as<Key>() : nullptr,
                       B,
                       static_cast<uint64_t>(seed),
                       static_cast<uint32_t>(V),
                       static_cast<uint32_t>(pieces),
                       static_cast<uint32_t>(top_k > 0 ? std::min(top_k, V) : V),
                       temperature,
                       top_p,
                       min_p};
  stream.launch(op, is_long ? sample_long_kernel : sample_kernel, {blocks}, p);
}

#endif

}  // namespace heed::cuda
