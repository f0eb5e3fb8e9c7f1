// Chooses the next token of each of B rows of V logits. Each row has options of its own. cpu/kernels/sample.cc lists
// the steps, their order and their sources, and how typical-p is computed.
//
// w = e^{(x - max)/T} is the row's distribution without its normalisation. The sets of top-k and top-p are prefixes of
// one order (select.h), and the set of typical-p is a prefix of another one: the last key of each is found, and the
// weights after it count as 0. The draw goes through the weights by index with u in [0, 1) of 53 bits, words 0 and 1 of
// Philox block offsets[b]. Sums are in f64, of a fixed shape. Logits of -inf have no weight. A row has no softmax if
// one of its logits is NaN or +inf or all are -inf; it gets the id -1.
//
// Each row has one block, of 128 threads up to V = 4096 and of 1024 beyond. Weights are computed anew in each of the
// few passes. If penalties, a bias or a mask change the logits, or the logits have 16 bits, a first kernel writes the
// changed logits as f32.
#include <algorithm>

#include "core/checks/choose.h"
#include "core/sampling.h"
#include "cuda/kernels/philox.h"
#include "cuda/kernels/select.h"

namespace heed::cuda {

constexpr int kSampleThreads = 128, kSampleLongThreads = 1024;
constexpr int kAdjustThreads = 1024;
constexpr uint32_t kSamplePiece = 256;  // weights whose mass is kept for the draw

// All pointers but out, logits and numbers may be null. `counts` is scratch memory of [B, V], for `generated`.
struct AdjustParams {
  float* out;
  const void* logits;
  const int32_t* history;
  const int32_t* generated;
  int32_t* counts;
  const float* bias;
  const int32_t* allowed;
  const SamplingNumbers* numbers;
  int64_t history_length, generated_length;
  uint32_t V;
  FaultSink fault;
};

// Scratch memory of a block: `masses` has `pieces` numbers, `keys` V.
struct SampleParams {
  int32_t* ids;
  int32_t* inputs;  // or null
  const float* logits;
  const int32_t* offsets;
  const SamplingNumbers* numbers;
  const SamplingIntegers* integers;
  double* masses;
  Key* keys;
  int64_t rows;
  uint32_t V, pieces;
};

#if HEED_DEVICE_CODE

// Calls f(id) for this thread's share of the row's ids. Ids outside the vocabulary are reported.
template <class F>
__device__ __forceinline__ void over_ids(const AdjustParams& p, const int32_t* ids, int64_t length, const F& f) {
  for (int64_t l = threadIdx.x; l < length; l += kAdjustThreads) {
    const int64_t at = blockIdx.x * length + l;
    const int32_t id = ids[at];
    if (id < 0) continue;
    if (id < p.V)
      f(id);
    else
      report_fault(p.fault, FaultKind::history, id, p.V, at, length);
  }
}

template <class T>
__device__ void adjust_body(const AdjustParams& p) {
  const int64_t row = blockIdx.x;
  const SamplingNumbers numbers = p.numbers[row];
  const T* logits = static_cast<const T*>(p.logits) + row * p.V;
  float* out = p.out + row * p.V;
  int32_t* counts = p.generated ? p.counts + row * p.V : nullptr;
  for (uint32_t i = threadIdx.x; i < p.V; i += kAdjustThreads) {
    out[i] = to_float(logits[i]);
    if (counts) counts[i] = 0;
  }
  __syncthreads();
  // Each penalised logit is computed from the original one, so that an id that occurs twice is penalised once.
  if (p.history && numbers.repetition_penalty != 1)
    over_ids(p, p.history, p.history_length, [&](int32_t id) {
      const float x = to_float(logits[id]);
      out[id] = x > 0 ? x / numbers.repetition_penalty : x * numbers.repetition_penalty;
    });
  if (counts) over_ids(p, p.generated, p.generated_length, [&](int32_t id) { atomicAdd(&counts[id], 1); });
  if (!counts && !p.bias && !p.allowed) return;
  __syncthreads();
  const int32_t* allowed = p.allowed ? p.allowed + row * ((p.V + kTokensPerWord - 1) / kTokensPerWord) : nullptr;
  for (uint32_t i = threadIdx.x; i < p.V; i += kAdjustThreads) {
    float x = out[i];
    if (counts && counts[i] > 0) x -= numbers.presence_penalty + numbers.frequency_penalty * counts[i];
    if (p.bias) x += p.bias[row * p.V + i];
    if (allowed && !(static_cast<uint32_t>(allowed[i / kTokensPerWord]) >> i % kTokensPerWord & 1)) x = -INFINITY;
    out[i] = x;
  }
}

struct Weights {
  float max, temperature, min_p;
  Key last;          // the last key in the order of logits that is kept
  float mean;        // Σ w · log w / Σ w, for typical-p
  Key last_typical;  // the last key in the order of typical tokens that is kept; 0 keeps all

  __device__ float of(float x) const { return expf((x - max) / temperature); }
  __device__ float of(Key key) const { return key >= last ? of(value_of(key)) : 0.0f; }
  __device__ float kept(float x, uint32_t index) const {
    const float w = of(x);
    if (w < min_p || key_of(x, index) < last) return 0.0f;
    return last_typical == 0 || typical_key(x, index) >= last_typical ? w : 0.0f;
  }
  // |-log p - entropy| = |log w - mean|; the tokens where it is least come first.
  __device__ Key typical_key(float x, uint32_t index) const {
    return key_of(-fabsf((x - max) / temperature - mean), index);
  }
};

// Returns the last key that top-k and top-p keep.
template <int kThreads>
__device__ __forceinline__ Key last_kept(const SampleParams& p, const float* x, Weights w, uint32_t top_k, float top_p,
                                         Key highest, Key* list, Key* shared) {
  uint32_t n = 0;
  double mass = 0;
  if (top_k < p.V) {
    w.last = max(floor_of_top<kThreads>(highest, top_k, shared), kAboveInfinity);
    n = collect<kThreads>(list, x, p.V, [&](float, Key key) { return key >= w.last; });
    if (n > top_k) w.last = last_of_prefix<kThreads>(list, n, static_cast<double>(top_k), [](Key) { return 1.0; });
  }
  if (top_p >= 1) return w.last;
  if (top_k < p.V) {
    for (uint32_t j = threadIdx.x; j < n; j += kThreads) mass += w.of(list[j]);
    mass = block_combine<kThreads, Sum>(mass);
  } else {
    over_row(x, p.V, threadIdx.x, kThreads, [&](float v, uint32_t) { mass += w.of(v); });
    mass = block_combine<kThreads, Sum>(mass);
    // All weights up to (1-p) · mass / V have together at most 1-p of the mass, so the set is among the others. The
    // limit is a little lower, so that rounding takes none of them.
    const float floor = static_cast<float>(0.999999 * (1 - top_p) * mass / p.V);
    n = collect<kThreads>(list, x, p.V, [&](float v, Key) { return w.of(v) > floor; });
  }
  const Key last = last_of_prefix<kThreads>(list, n, top_p * mass, [&](Key key) { return double{w.of(key)}; });
  return max(last, w.last);
}

// Adds to the weights what typical-p keeps of those that are left.
template <int kThreads>
__device__ __forceinline__ void keep_typical(const SampleParams& p, const float* x, Weights& w, float typical_p,
                                             Key* list) {
  double mass = 0, weighted = 0;
  over_row(x, p.V, threadIdx.x, kThreads, [&](float v, uint32_t i) {
    const float weight = w.kept(v, i);
    if (weight == 0) return;
    mass += weight;
    weighted += double{weight} * ((v - w.max) / w.temperature);
  });
  mass = block_combine<kThreads, Sum>(mass);
  weighted = block_combine<kThreads, Sum>(weighted);
  w.mean = static_cast<float>(weighted / mass);
  const uint32_t n = collect_as<kThreads>(
      list, x, p.V, [&](float v, uint32_t i) { return w.kept(v, i) > 0 ? w.typical_key(v, i) : Key{0}; });
  w.last_typical =
      last_of_prefix<kThreads>(list, n, typical_p * mass, [&](Key key) { return double{w.of(x[index_of(key)])}; });
}

// Returns the first weight of piece `piece` at which the sum exceeds `rest`, or its last one that is not 0. One warp
// runs this.
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

// Finds the first piece at which the sum exceeds u · mass, or the last one with any mass if rounding leaves none. The
// shared `found` becomes this piece, and the shared `found_rest` what is left of u · mass there.
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
  const SamplingNumbers numbers = p.numbers[row];
  const SamplingIntegers integers = p.integers[row];
  Key highest = 0;
  // NaN is the highest here, so that a row that contains any is recognised.
  over_row(x, p.V, threadIdx.x, kThreads,
           [&](float v, uint32_t i) { highest = max(highest, v == v ? key_of(v, i) : ~Key{0}); });
  const Key best = block_combine<kThreads, Highest>(highest);
  const float most = value_of(best);
  if (!isfinite(most)) return -1;
  if (numbers.temperature == 0) return static_cast<int32_t>(index_of(best));

  const uint32_t top_k = integers.top_k > 0 && integers.top_k < p.V ? integers.top_k : p.V;
  Key* list = p.keys + static_cast<int64_t>(blockIdx.x) * p.V;
  Weights w{most, numbers.temperature, numbers.min_p, 0, 0, 0};
  if (top_k < p.V || numbers.top_p < 1)
    w.last = last_kept<kThreads>(p, x, w, top_k, numbers.top_p, highest, list, shared);
  if (numbers.typical_p < 1) keep_typical<kThreads>(p, x, w, numbers.typical_p, list);

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

  const uint64_t seed = static_cast<uint64_t>(integers.seed_high) << 32 | integers.seed_low;
  const PhiloxBlock random = philox(seed, static_cast<uint32_t>(p.offsets[row]), kSamplingDraws);
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

HEED_KERNEL_FLOATS(adjust_logits_kernel, AdjustParams, kAdjustThreads, 1, adjust_body)
HEED_KERNEL(sample_kernel, SampleParams, kSampleThreads, 1, sample_rows<kSampleThreads>)
HEED_KERNEL(sample_long_kernel, SampleParams, kSampleLongThreads, 1, sample_rows<kSampleLongThreads>)

#if !HEED_DEVICE_CODE

constexpr int64_t kSampleLong = 4096;

void host::sample(Stream& stream, Out ids, OptOut inputs, In logits, OptIn history, OptIn generated, OptIn bias,
                  OptIn allowed, In offsets, In numbers, In integers) {
  const char* op = "sample";
  check_sample(ids, inputs, logits, history, generated, bias, allowed, offsets, numbers, integers);
  const int64_t B = logits.dim(0), V = logits.dim(1);
  if (B == 0) return;

  const auto* number = reinterpret_cast<const SamplingNumbers*>(numbers.f32());
  const bool adjusts = history || generated || bias || allowed || logits.dtype != DType::f32, is_long = V > kSampleLong;
  const size_t elements = static_cast<size_t>(B * V);
  const Stream::Workspace adjusted(stream, op, adjusts ? elements * sizeof(float) : 0);
  const Stream::Workspace counts(stream, op, generated ? elements * sizeof(int32_t) : 0);
  if (adjusts) {
    const auto ids_of = [](OptIn view) { return view ? view->i32() : nullptr; };
    const AdjustParams p{adjusted.f32(),
                         logits.data,
                         ids_of(history),
                         ids_of(generated),
                         generated ? counts.as<int32_t>() : nullptr,
                         bias ? bias->f32() : nullptr,
                         ids_of(allowed),
                         number,
                         history ? history->dim(1) : 0,
                         generated ? generated->dim(1) : 0,
                         static_cast<uint32_t>(V),
                         history || generated ? stream.fault(op) : FaultSink{}};
    stream.launch(op, adjust_logits_kernel(logits.dtype), {B}, p);
  }

  // As many blocks as the card runs at once. Each takes rows one after the other, and has scratch memory of its own.
  const int64_t blocks = std::min<int64_t>(B, stream.multiprocessors() * (is_long ? 2 : 16));
  const int64_t pieces = (V + kSamplePiece - 1) / kSamplePiece;
  const Stream::Workspace keys(stream, op, static_cast<size_t>(blocks * V) * sizeof(Key));
  const Stream::Workspace masses(stream, op, static_cast<size_t>(blocks * pieces) * sizeof(double));
  const SampleParams p{ids.i32(),
                       inputs ? inputs->i32() : nullptr,
                       adjusts ? adjusted.f32() : logits.f32(),
                       offsets.i32(),
                       number,
                       reinterpret_cast<const SamplingIntegers*>(integers.i32()),
                       masses.as<double>(),
                       keys.as<Key>(),
                       B,
                       static_cast<uint32_t>(V),
                       static_cast<uint32_t>(pieces)};
  stream.launch(op, is_long ? sample_long_kernel : sample_kernel, {blocks}, p);
}

#endif

}  // namespace heed::cuda
