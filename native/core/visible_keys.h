// The keys that each query of a sequence sees in attention (ops.def), for the kernels of every device. Each query sees
// an interval of keys; a block mask, which may hide some of them, is not considered here.
//
// The functions have internal linkage, because the kernels of the CPU are compiled once for each instruction set
// (cpu/kernels/kernel.h).
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define HEED_ANY_DEVICE __device__ __forceinline__
#else
#define HEED_ANY_DEVICE inline
#endif

namespace heed {
namespace {

// A window that is as good as none and with which no sum of positions overflows.
constexpr int64_t kMostWindow = int64_t{1} << 40;

// Keys [first, end). There are none unless first < end.
struct KeyInterval {
  int first, end;
};

struct SequenceKeys {
  int64_t start;          // position of query 0
  int64_t window;         // 0 if there is no window
  const int32_t* ranges;  // [queries, 2] or null
  int64_t queries;
  int length;  // number of keys
  bool causal;

  HEED_ANY_DEVICE int64_t position(int64_t query) const { return start + query; }

  // Returns the keys of a query, with 0 <= first, end <= length. Without ranges, neither bound falls from one query to
  // the next.
  HEED_ANY_DEVICE KeyInterval of(int64_t query) const {
    KeyInterval keys = by_position(query);
    if (ranges) {
      keys.first = largest(keys.first, ranges[query * 2]);
      keys.end = least(keys.end, ranges[query * 2 + 1]);
    }
    return keys;
  }

  // Ignores the ranges; 0 <= first, end <= length.
  HEED_ANY_DEVICE KeyInterval by_position(int64_t query) const {
    const int64_t p = position(query), most = length;
    int64_t first = 0, end = most;
    if (causal) end = least(end, p + 1);
    if (window > 0) {
      first = least(most, largest(first, p - window + 1));
      if (!causal) end = least(end, p + window);
    }
    return {static_cast<int>(first), static_cast<int>(largest(int64_t{0}, end))};
  }

  // The inverse relation, which ignores the ranges: queries that see any of the keys [first, last] lie in
  // [first_query(first), end_query(last)).
  HEED_ANY_DEVICE int64_t first_query(int first) const {
    if (first >= length) return queries;
    return clamped(causal ? first - start : window > 0 ? first - start - window + 1 : 0);
  }
  HEED_ANY_DEVICE int64_t end_query(int last) const {
    return clamped(window > 0 ? least(last, length - 1) - start + window : queries);
  }

 private:
  HEED_ANY_DEVICE int64_t clamped(int64_t query) const { return largest(int64_t{0}, least(queries, query)); }
#if defined(__CUDACC__)  // a single instruction; the comparison does not always become one
  template <class T>
  HEED_ANY_DEVICE static T least(T a, T b) {
    return min(a, b);
  }
  template <class T>
  HEED_ANY_DEVICE static T largest(T a, T b) {
    return max(a, b);
  }
#else
  template <class T>
  static T least(T a, T b) {
    return b < a ? b : a;
  }
  template <class T>
  static T largest(T a, T b) {
    return a < b ? b : a;
  }
#endif
};

}  // namespace
}  // namespace heed
