// Chooses the next token of each of B rows of V logits. Each row has options of its own. The steps are:
//   1. repetition penalty (Keskar et al., "CTRL", 2019)
//   2. presence and frequency penalties: x -= presence + frequency · count, if the token was generated count > 0 times
//   3. bias; tokens that are not allowed get -inf
//   4. temperature; 0 takes the likeliest token
//   5. top-k
//   6. top-p: the smallest set of the likeliest tokens with a mass of p (Holtzman et al., "The curious case of neural
//      text degeneration", 2020)
//   7. min-p: tokens with at least that share of the highest probability (Nguyen et al., "Turning up the heat", 2024)
//   8. typical-p: the smallest set with a mass of p of the tokens whose -log p is nearest to the entropy of the tokens
//      that are left (Meister et al., "Locally typical sampling", 2023)
//   9. a draw from what is left
//
// w = e^{(x - max)/T} is the row's distribution without its normalisation; a filter sets the weights that it drops to
// 0. The sets are prefixes of an order (falling value, then rising index), which are found without sorting the row. The
// draw goes through the weights by index with u in [0, 1) of 53 bits, words 0 and 1 of Philox block offsets[b]. Sums
// are in f64. Logits of -inf have no weight. A row has no softmax if one of its logits is NaN or +inf or all are -inf;
// it gets the id -1. Rows run in parallel, in at most 32 tasks with buffers of their own.
#include "core/checks/choose.h"
#include "core/sampling.h"
#include "cpu/kernels/elementary.h"
#include "cpu/kernels/philox.h"
#include "cpu/kernels/select.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// The operands of one row. All but the logits, the numbers and the integers may be null.
struct Row {
  int64_t V, L, G;  // sizes of the vocabulary, of the history and of the generated tokens
  const int32_t* history;
  const int32_t* generated;
  const float* bias;
  const int32_t* allowed;
  int32_t offset;
  SamplingNumbers numbers;
  SamplingIntegers integers;
};

// Buffers of one task, each of V elements. `counts` is zero between rows.
struct Scratch {
  float *x, *w;
  int32_t* counts;
  Candidate* kept;
};

inline double sum_of(const float* w, int64_t n) {
  vf sum[4] = {};
  over_row(n, [&](int64_t i, auto lanes, int u) { sum[u] += lanes.load(w + i); });
  return hsum(sum);
}

constexpr int64_t kBlock = 256;

inline double mass_of(const float* w, int64_t V) {
  double mass = 0;
  for (int64_t begin = 0; begin < V; begin += kBlock) mass += sum_of(w + begin, min_of(kBlock, V - begin));
  return mass;
}

// Each penalised logit is computed from the original one, so that an id that occurs twice is penalised once.
template <class T>
inline void penalise_repetition(float* x, const T* logits, const Row& r) {
  const float penalty = r.numbers.repetition_penalty;
  for (int64_t l = 0; l < r.L; l++) {
    const int32_t id = r.history[l];
    if (id < 0) continue;
    const float logit = load_one(logits + id);
    x[id] = logit > 0 ? logit / penalty : logit * penalty;
  }
}

inline void penalise_generated(float* x, int32_t* counts, const Row& r) {
  for (int64_t g = 0; g < r.G; g++)
    if (r.generated[g] >= 0) counts[r.generated[g]]++;
  for (int64_t g = 0; g < r.G; g++) {
    const int32_t id = r.generated[g];
    if (id < 0 || counts[id] == 0) continue;
    x[id] -= r.numbers.presence_penalty + r.numbers.frequency_penalty * static_cast<float>(counts[id]);
    counts[id] = 0;
  }
}

inline void allow(float* x, const Row& r) {
  for (int64_t i = 0; i < r.V; i += kTokensPerWord) {
    const uint32_t word = static_cast<uint32_t>(r.allowed[i / kTokensPerWord]);
    if (word == ~uint32_t{0}) continue;
    for (int64_t j = i; j < min_of(i + kTokensPerWord, r.V); j++)
      if (!(word >> (j - i) & 1)) x[j] = -INFINITY;
  }
}

// Returns the row's logits after steps 1 to 3: the logits themselves if nothing changes them, else scratch.x.
template <class T>
inline const float* adjusted(const T* logits, const Row& r, const Scratch& scratch) {
  const bool repetition = r.history && r.numbers.repetition_penalty != 1;
  const bool generated = r.generated && (r.numbers.presence_penalty != 0 || r.numbers.frequency_penalty != 0);
  if constexpr (std::is_same_v<T, float>) {
    if (!repetition && !generated && !r.bias && !r.allowed) return logits;
  }
  float* x = scratch.x;
  convert_row(x, logits, r.V);
  if (repetition) penalise_repetition(x, logits, r);
  if (generated) penalise_generated(x, scratch.counts, r);
  if (r.bias)
    over_row(r.V, [&](int64_t i, auto lanes, int) { lanes.store(x + i, lanes.load(x + i) + lanes.load(r.bias + i)); });
  if (r.allowed) allow(x, r);
  return x;
}

inline void weigh(float* w, const float* x, float max, float temperature, int64_t V) {
  over_row(V, [&](int64_t i, auto lanes, int) {
    lanes.store(w + i, vexp_normal((lanes.load(x + i) - set1(max)) / set1(temperature)));
  });
}

// Returns how many of the first candidates in the order have a mass of `target`, and moves them to the front. It halves
// the range that is left until it has found the candidate that reaches the target.
inline int64_t smallest_prefix(Candidate* kept, int64_t n, const float* w, double target) {
  int64_t low = 0, high = n;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    std::nth_element(kept + low, kept + middle, kept + high, ComesFirst{});
    double mass = 0;
    for (int64_t j = low; j < middle; j++) mass += w[kept[j].index()];
    if (mass >= target) {
      high = middle;
    } else {
      target -= mass;
      low = middle;
    }
  }
  return high;
}

// Drops the tokens that come after `last` in the order.
inline void drop_after(float* w, const float* x, int64_t last, int64_t V) {
  const vf limit = set1(x[last]);
  over_row(last + 1, [&](int64_t i, auto lanes, int) {
    lanes.store(w + i, select(lanes.load(x + i) >= limit, lanes.load(w + i), vf{}));
  });
  over_row(V - last - 1, [&](int64_t i, auto lanes, int) {
    const int64_t at = last + 1 + i;
    lanes.store(w + at, select(lanes.load(x + at) > limit, lanes.load(w + at), vf{}));
  });
}

// Applies top-k and top-p.
inline void keep_top(float* w, const float* x, Candidate* kept, const Row& r) {
  const auto [V, top_k, top_p] = std::tuple(r.V, static_cast<int64_t>(r.integers.top_k), r.numbers.top_p);
  const bool limited = top_k > 0 && top_k < V;
  int64_t n = 0;
  if (limited) n = select_top(kept, x, V, top_k);
  if (top_p < 1) {
    double mass = 0;
    if (limited) {
      for (int64_t j = 0; j < n; j++) mass += w[kept[j].index()];
    } else {
      // All weights up to (1-p) · mass / V have together at most 1-p of the mass, so the set is among the others. The
      // limit is a little lower, so that rounding takes none of them.
      mass = mass_of(w, V);
      const float floor = static_cast<float>(0.999999 * (1 - top_p) * mass / static_cast<double>(V));
      for_above(w, V, floor, [&](int64_t i) { kept[n++] = candidate(x[i], i); });
    }
    n = smallest_prefix(kept, n, w, top_p * mass);
  }
  if (n > 0) drop_after(w, x, std::max_element(kept, kept + n, ComesFirst{})->index(), V);
}

inline void drop_below(float* w, float least, int64_t V) {
  over_row(V, [&](int64_t i, auto lanes, int) {
    const vf v = lanes.load(w + i);
    lanes.store(w + i, select(v >= set1(least), v, vf{}));
  });
}

// Applies typical-p. With l = (x - max)/T = log w and M = Σ w, -log p = log M - l and the entropy is
// log M - Σ w·l / M. So |-log p - entropy| = |l - Σ w·l / M|.
inline void keep_typical(float* w, const float* x, float max, Candidate* kept, const Row& r) {
  const float temperature = r.numbers.temperature;
  double mass = 0, weighted = 0;
  for_above(w, r.V, 0.0f, [&](int64_t i) {
    mass += w[i];
    weighted += static_cast<double>(w[i]) * ((x[i] - max) / temperature);
  });
  const float mean = static_cast<float>(weighted / mass);
  int64_t n = 0;
  for_above(w, r.V, 0.0f, [&](int64_t i) { kept[n++] = candidate(-std::abs((x[i] - max) / temperature - mean), i); });
  const int64_t typical = smallest_prefix(kept, n, w, r.numbers.typical_p * mass);
  for (int64_t j = typical; j < n; j++) w[kept[j].index()] = 0;
}

inline int64_t draw(const float* w, int64_t V, double u) {
  double target = u * mass_of(w, V), rest = 0;
  int64_t block = 0;  // the block that reaches the target or, if rounding leaves none, the last block with any mass
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const double mass = sum_of(w + begin, min_of(kBlock, V - begin));
    if (mass == 0) continue;
    block = begin;
    rest = target;
    if (target < mass) break;
    target -= mass;
  }
  int64_t chosen = block;
  for (int64_t i = block; i < min_of(block + kBlock, V); i++) {
    if (w[i] == 0) continue;
    chosen = i;
    rest -= w[i];
    if (rest < 0) break;
  }
  return chosen;
}

template <class T>
inline int64_t choose(const T* logits, const Row& r, const Scratch& scratch) {
  const SamplingNumbers& numbers = r.numbers;
  const float* x = adjusted(logits, r, scratch);
  const int64_t best = argmax_row<true>(x, r.V);
  if (best < 0 || !std::isfinite(x[best])) return -1;
  if (numbers.temperature == 0) return best;
  float* w = scratch.w;
  weigh(w, x, x[best], numbers.temperature, r.V);
  keep_top(w, x, scratch.kept, r);
  if (numbers.min_p > 0) drop_below(w, numbers.min_p, r.V);
  if (numbers.typical_p < 1) keep_typical(w, x, x[best], scratch.kept, r);
  const uint64_t seed = static_cast<uint64_t>(r.integers.seed_high) << 32 | r.integers.seed_low;
  const PhiloxBlock random = philox(seed, static_cast<uint32_t>(r.offset), kSamplingDraws);
  const uint64_t bits = static_cast<uint64_t>(random.word[0]) << 32 | random.word[1];
  return draw(w, r.V, static_cast<double>(bits >> 11) * 0x1p-53);
}

inline void check_ids(const int32_t* ids, int64_t B, int64_t L, int64_t V) {
  for (int64_t i = 0; ids && i < B * L; i++)
    if (ids[i] >= V)
      fail(Code::range, "expected ids of earlier tokens below %lld, got %d at position %lld of row %lld",
           static_cast<long long>(V), ids[i], static_cast<long long>(i % L), static_cast<long long>(i / L));
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::sample(Stream& stream, Out ids, OptOut inputs, In logits, OptIn history, OptIn generated, OptIn bias,
                      OptIn allowed, In offsets, In numbers, In integers) {
  const char* op = "sample";
  check_sample(ids, inputs, logits, history, generated, bias, allowed, offsets, numbers, integers);
  const int64_t B = logits.dim(0), V = logits.dim(1);
  if (B == 0) return;

  const int64_t grain = ceil_div(B, 32), tasks = ceil_div(B, grain);
  const int64_t stride = ceil_div(V, 16) * 16;  // keeps each row's buffers on cache lines of their own
  constexpr size_t kBytes = sizeof(Candidate) + 2 * sizeof(float) + sizeof(int32_t);
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(tasks * stride) * kBytes);
  Candidate* candidates = static_cast<Candidate*>(workspace.data());
  float* floats = reinterpret_cast<float*>(candidates + tasks * stride);
  int32_t* counts = reinterpret_cast<int32_t*>(floats + 2 * tasks * stride);
  int32_t *out = ids.i32(), *input = inputs ? inputs->i32() : nullptr;
  const auto optional = [](OptIn view) { return view ? view->i32() : nullptr; };
  const int32_t *past = optional(history), *own = optional(generated), *bits = optional(allowed);
  const int64_t L = history ? history->dim(1) : 0, G = generated ? generated->dim(1) : 0;
  const int32_t* offset = offsets.i32();
  const float* biases = bias ? bias->f32() : nullptr;
  const auto* number = reinterpret_cast<const SamplingNumbers*>(numbers.f32());
  const auto* integer = reinterpret_cast<const SamplingIntegers*>(integers.i32());
  with_float_type(logits.dtype, [&](auto type) {
    const auto* x = logits.ptr<decltype(type)>();
    stream.launch(op, [=] {
      check_ids(past, B, L, V);
      check_ids(own, B, G, V);
      parallel_for(B, grain, [=](int64_t begin, int64_t end) {
        const int64_t task = begin / grain;
        const Scratch scratch{floats + 2 * task * stride, floats + (2 * task + 1) * stride, counts + task * stride,
                              candidates + task * stride};
        if (own) std::memset(scratch.counts, 0, static_cast<size_t>(V) * sizeof(int32_t));
        for (int64_t b = begin; b < end; b++) {
          const Row row{V,
                        L,
                        G,
                        past ? past + b * L : nullptr,
                        own ? own + b * G : nullptr,
                        biases ? biases + b * V : nullptr,
                        bits ? bits + b * ceil_div(V, kTokensPerWord) : nullptr,
                        offset[b],
                        number[b],
                        integer[b]};
          out[b] = static_cast<int32_t>(choose(x + b * V, row, scratch));
          if (input) input[b] = max_of(out[b], 0);
        }
      });
    });
  });
}

}  // namespace heed::cpu
