// The largest elements of a row: the order, argmax, and the k largest without sorting the rest.
//
// The order is the same everywhere: descending value, ascending index among equals (0 and -0 are equal), and NaN after
// every number.
#pragma once
#include <algorithm>

#include "cpu/kernels/rows.h"

namespace heed::cpu::HEED_ISA {
namespace {

// An element that is not NaN, as one number: the higher number comes first.
struct Candidate {
  uint64_t key;
  int64_t index() const { return static_cast<uint32_t>(~key); }
};
struct ComesFirst {
  bool operator()(Candidate a, Candidate b) const { return a.key > b.key; }
};

inline Candidate candidate(float x, int64_t index) {
  const float value = x + 0.0f;  // -0 becomes 0
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
  return {static_cast<uint64_t>(bits) << 32 | static_cast<uint32_t>(~static_cast<uint32_t>(index))};
}

inline bool any(vi mask) {
  int32_t lanes = 0;
  for (int i = 0; i < kWidth; i++) lanes |= mask[i];
  return lanes != 0;
}

// Returns the index of the largest element; with kWithoutNan, -1 if there is a NaN.
template <bool kWithoutNan = false, class T>
inline int64_t argmax_row(const T* x, int64_t n) {
  constexpr int64_t kBlock = 512;
  float best = -INFINITY;
  vi nan[4] = {};
  int64_t first = 0;  // beginning of the first block that has the maximum
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    vf top[4] = {set1(best), set1(best), set1(best), set1(best)};
    over_row(min_of(kBlock, n - begin), [&](int64_t i, auto lanes, int u) {
      const vf v = lanes.load(x + begin + i);
      if constexpr (kWithoutNan) nan[u] |= v != v;
      top[u] = vmax(lanes.keep(v, -INFINITY), top[u]);  // a NaN never wins
    });
    const float highest = hmax(top);
    if (highest > best) {
      best = highest;
      first = begin;
    }
  }
  if (kWithoutNan && any((nan[0] | nan[1]) | (nan[2] | nan[3]))) return -1;
  for (int64_t i = first; i < n; i++)
    if (load_one(x + i) == best) return i;
  return 0;  // all elements are NaN
}

// Calls sink(i) for every x[i] > threshold, in order; the sink may raise the threshold.
template <class T, class Sink>
inline void for_above(const T* x, int64_t n, const float& threshold, const Sink& sink) {
  constexpr int64_t kStep = 4 * kWidth;
  for (int64_t begin = 0; begin < n; begin += kStep) {
    const int64_t end = min_of(begin + kStep, n);
    if (end - begin == kStep) {
      vf top = set1(threshold);
      for (int64_t i = begin; i < end; i += kWidth) top = vmax(load(x + i), top);
      if (!(hmax(top) > threshold)) continue;
    }
    for (int64_t i = begin; i < end; i++)
      if (load_one(x + i) > threshold) sink(i);
  }
}

inline int64_t top_capacity(int64_t n, int64_t k) { return min_of(n, max_of<int64_t>(2 * k, 256)); }

// Puts the first k <= n of the order that are above -inf, in any order, into kept[top_capacity(n, k)], and returns
// their number. Candidates are collected until the buffer is full; it is then cut to its best k, the last of which is
// the new threshold.
template <class T>
inline int64_t select_top(Candidate* kept, const T* x, int64_t n, int64_t k) {
  const int64_t capacity = top_capacity(n, k);
  int64_t count = 0;
  float threshold = -INFINITY;
  if (k == 0) return 0;
  for_above(x, n, threshold, [&](int64_t i) {
    kept[count++] = candidate(load_one(x + i), i);
    if (count < capacity || capacity == k) return;
    std::nth_element(kept, kept + k - 1, kept + count, ComesFirst{});
    threshold = load_one(x + kept[k - 1].index());
    count = k;
  });
  if (count <= k) return count;
  std::nth_element(kept, kept + k - 1, kept + count, ComesFirst{});
  return k;
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
