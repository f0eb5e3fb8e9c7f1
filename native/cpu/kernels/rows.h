// Tensors as rows: the last dimension is a row of C elements, and all other dimensions count the rows. The loops go
// over a row in vectors, including its tail.
#pragma once
#include "core/checks/rows.h"
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

inline vi lane_index() {
  vi lane{};
  for (int i = 0; i < kWidth; i++) lane[i] = i;
  return lane;
}

// The lanes of one step of over_row: all of them, or the first n.
struct WholeVector {
  template <class T>
  static vf load(const T* p) {
    return HEED_ISA::load(p);
  }
  template <class T>
  static void store(T* p, vf v) {
    HEED_ISA::store(p, v);
  }
  static vf keep(vf v, float = 0) { return v; }
};
struct PartVector {
  int64_t n;
  template <class T>
  vf load(const T* p) const {
    return load_n(p, n);
  }
  template <class T>
  void store(T* p, vf v) const {
    store_n(p, v, n);
  }
  vf keep(vf v, float other = 0) const { return select(lane_index() < set1i(static_cast<int32_t>(n)), v, set1(other)); }
};

// Calls body(i, lanes, u). `lanes` loads and stores the elements from i on, and lanes.keep(v, other) replaces lanes
// beyond the row, for a sum or a maximum. u = 0..3 numbers the steps that run side by side, so that a sum kept in four
// parts does not wait for itself.
template <class Body>
__attribute__((flatten, always_inline)) inline void over_row(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    body(i, WholeVector{}, 0);
    body(i + kWidth, WholeVector{}, 1);
    body(i + 2 * kWidth, WholeVector{}, 2);
    body(i + 3 * kWidth, WholeVector{}, 3);
  }
  for (; i + kWidth <= n; i += kWidth) body(i, WholeVector{}, 0);
  if (i < n) body(i, PartVector{n - i}, 0);
}

// The same with one vector after the other, for bodies that are long or have several sums of their own.
template <class Body>
__attribute__((flatten, always_inline)) inline void over_vectors(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(i, WholeVector{});
  if (i < n) body(i, PartVector{n - i});
}

inline float hsum(const vf (&parts)[4]) { return hsum((parts[0] + parts[1]) + (parts[2] + parts[3])); }
inline float hmax(const vf (&parts)[4]) { return hmax(vmax(vmax(parts[0], parts[1]), vmax(parts[2], parts[3]))); }

template <class To, class From>
inline void convert_row(To* out, const From* in, int64_t n) {
  over_row(n, [&](int64_t i, auto lanes, int) { lanes.store(out + i, lanes.load(in + i)); });
}

// Returns the number of rows of a task, for about 64 KB of one operand.
inline int64_t rows_per_task(int64_t C) { return max_of<int64_t>(1, 16384 / max_of<int64_t>(C, 1)); }

}  // namespace
}  // namespace heed::cpu::HEED_ISA
