// Chooses the next token of each of B rows of V logits:
//   repetition penalty (Keskar et al., "CTRL", 2019) → temperature → top-k → top-p, the smallest set of the likeliest
//   tokens with a mass of p (Holtzman et al., "The curious case of neural text degeneration", 2020) → min-p, at least
//   that part of the likeliest token's probability → a draw from the rest.
//
// w = e^{(x - max)/T} is the row's distribution before its normalisation; a filter sets the weights that it drops to 0.
// The sets are prefixes of one order (descending logit, then ascending index), which are found without sorting the row.
// The draw goes through the weights by index with u in [0, 1) of 53 bits, words 0 and 1 of Philox block offsets[b].
// Sums are in f64. Logits of -inf have no weight. A row without a softmax (one of its logits is NaN or +inf, or all are
// -inf) gets the id -1. Rows run in parallel, in at most 32 tasks with buffers of their own.
#include "core/checks/choose.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/philox.h"
#include "cpu/kernels/select.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Settings {
  int64_t V, L, top_k;
  float temperature, top_p, min_p, repetition_penalty;
  uint64_t seed;
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

// Computed from the original logit, so that an id that occurs twice is penalised once.
template <class T>
inline void penalise(float* x, const T* logits, const int32_t* history, const Settings& s) {
  for (int64_t l = 0; l < s.L; l++) {
    const int32_t id = history[l];
    if (id < 0) continue;
    const float logit = load_one(logits + id);
    x[id] = logit > 0 ? logit / s.repetition_penalty : logit * s.repetition_penalty;
  }
}

inline void weigh(float* w, const float* x, float max, float temperature, int64_t V) {
  over_row(V, [&](int64_t i, auto lanes, int) {
    lanes.store(w + i, vexp((lanes.load(x + i) - set1(max)) / set1(temperature)));
  });
}

// Returns how many of the first in order have a mass of `target`, and moves them to the front. It halves the rest until
// it finds the one that reaches the mass.
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

// Drops all weights after `last` in the order.
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

inline void keep_top(float* w, const float* x, Candidate* kept, const Settings& s) {
  const bool top_k = s.top_k > 0 && s.top_k < s.V;
  int64_t n = 0;
  if (top_k) n = select_top(kept, x, s.V, s.top_k);
  if (s.top_p < 1) {
    double mass = 0;
    if (top_k) {
      for (int64_t j = 0; j < n; j++) mass += w[kept[j].index()];
    } else {
      // All weights up to (1-p) · mass / V have together at most 1-p of the mass, so the set is among the others. The
      // bound is a little less, so that rounding removes none of them.
      mass = mass_of(w, s.V);
      const float floor = static_cast<float>(0.999999 * (1 - s.top_p) * mass / static_cast<double>(s.V));
      for_above(w, s.V, floor, [&](int64_t i) { kept[n++] = candidate(x[i], i); });
    }
    n = smallest_prefix(kept, n, w, s.top_p * mass);
  }
  if (n > 0) drop_after(w, x, std::max_element(kept, kept + n, ComesFirst{})->index(), s.V);
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

struct Scratch {
  float *x, *w;
  Candidate* kept;
};

template <class T>
inline int64_t choose(const T* logits, const int32_t* history, int32_t offset, const Settings& s,
                      const Scratch& scratch) {
  const bool penalises = history && s.repetition_penalty != 1;
  const float* x = scratch.x;
  if constexpr (std::is_same_v<T, float>) {
    if (!penalises) x = logits;
  }
  if (x == scratch.x) convert_row(scratch.x, logits, s.V);
  if (penalises) penalise(scratch.x, logits, history, s);
  const int64_t best = argmax_row<true>(x, s.V);
  if (best < 0 || !std::isfinite(x[best])) return -1;
  if (s.temperature == 0) return best;
  float* w = scratch.w;
  weigh(w, x, x[best], s.temperature, s.V);
  keep_top(w, x, scratch.kept, s);
  if (s.min_p > 0) {
    over_row(s.V, [&](int64_t i, auto lanes, int) {
      const vf v = lanes.load(w + i);
      lanes.store(w + i, select(v >= set1(s.min_p), v, vf{}));
    });
  }
  const PhiloxBlock random = philox(s.seed, static_cast<uint32_t>(offset), kSamplingDraws);
  const uint64_t bits = static_cast<uint64_t>(random.word[0]) << 32 | random.word[1];
  return draw(w, s.V, static_cast<double>(bits >> 11) * 0x1p-53);
}

inline void check_history(const int32_t* history, int64_t B, int64_t L, int64_t V) {
  for (int64_t i = 0; i < B * L; i++)
    if (history[i] >= V)
      fail(Code::range, "expected history ids below %lld, got %d at position %lld of row %lld",
           static_cast<long long>(V), history[i], static_cast<long long>(i % L), static_cast<long long>(i / L));
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::sample(Stream& stream, Out ids, OptOut inputs, In logits, OptIn history, In offsets, Float temperature,
                      Int top_k, Float top_p, Float min_p, Float repetition_penalty, Int seed) {
  const char* op = "sample";
  check_sample(ids, inputs, logits, history, offsets, {temperature, top_k, top_p, min_p, repetition_penalty});
  const int64_t B = logits.dim(0), V = logits.dim(1);
  if (B == 0) return;

  const int64_t grain = ceil_div(B, 32), tasks = ceil_div(B, grain);
  const int64_t stride = ceil_div(V, 16) * 16;  // keeps each row's buffers on cache lines of their own
  const Stream::Workspace workspace(stream, op,
                                    static_cast<size_t>(tasks * stride) * (2 * sizeof(float) + sizeof(Candidate)));
  Candidate* candidates = static_cast<Candidate*>(workspace.data());
  float* floats = reinterpret_cast<float*>(candidates + tasks * stride);
  const Settings settings{V,
                          history ? history->dim(1) : 0,
                          top_k,
                          temperature,
                          top_p,
                          min_p,
                          repetition_penalty,
                          static_cast<uint64_t>(seed)};
  int32_t *out = ids.i32(), *input = inputs ? inputs->i32() : nullptr;
  const int32_t *past = history ? history->i32() : nullptr, *offset = offsets.i32();
  with_float_type(logits.dtype, [&](auto type) {
    const auto* x = logits.ptr<decltype(type)>();
    stream.launch(op, [=] {
      if (past) check_history(past, B, settings.L, V);
      parallel_for(B, grain, [=](int64_t begin, int64_t end) {
        const int64_t task = begin / grain;
        const Scratch scratch{floats + 2 * task * stride, floats + (2 * task + 1) * stride, candidates + task * stride};
        for (int64_t b = begin; b < end; b++) {
          out[b] = static_cast<int32_t>(
              choose(x + b * V, past ? past + b * settings.L : nullptr, offset[b], settings, scratch));
          if (input) input[b] = max_of(out[b], 0);
        }
      });
    });
  });
}

}  // namespace heed::cpu
