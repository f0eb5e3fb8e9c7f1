// Tensors as rows: the last dimension is a row of C elements, all others count the rows. And the loop over a row in
// vectors, its tail included.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// f32, contiguous and of at least one dimension.
inline void expect_rows(const char* op, const char* name, const TensorView& view) {
  if (view.rank < 1) fail(Code::shape, "%s: expected %s with at least 1 dimension, got shape []", op, name);
  expect_f32(op, name, view);
}

// The shapes of a value per row and of a value per column, as views of which only the shape means anything.
inline TensorView leading(TensorView view) {
  view.rank--;
  return view;
}
inline TensorView last(const TensorView& view) {
  TensorView column;
  column.rank = 1;
  column.shape[0] = view.dim(-1);
  return column;
}

// If given: f32, contiguous, and of the shape of `other`.
inline void expect_f32_like(const char* op, const char* name, const TensorView* view, const TensorView& other) {
  if (!view) return;
  expect_f32(op, name, *view);
  expect_same_shape(op, name, *view, other);
}
inline void expect_i32_like(const char* op, const char* name, const TensorView& view, const TensorView& other) {
  expect_dtype(op, name, view, DType::i32);
  expect_contiguous(op, name, view);
  expect_same_shape(op, name, view, other);
}
inline void expect_scalar(const char* op, const char* name, const TensorView& view) {
  expect_f32(op, name, view);
  if (view.numel() != 1) expect_shape(op, name, view, {1});
}

inline vi lane_index() {
  vi lane{};
  for (int i = 0; i < kWidth; i++) lane[i] = i;
  return lane;
}

// The lanes of one step of over_row: all of them, or the first n.
struct WholeVector {
  static vf load(const float* p) { return HEED_ISA::load(p); }
  static void store(float* p, vf v) { HEED_ISA::store(p, v); }
  static vf keep(vf v, float = 0) { return v; }
};
struct PartVector {
  int64_t n;
  vf load(const float* p) const { return load_n(p, n); }
  void store(float* p, vf v) const { store_n(p, v, n); }
  vf keep(vf v, float other = 0) const { return select(lane_index() < set1i(static_cast<int32_t>(n)), v, set1(other)); }
};

// body(i, lanes, u): `lanes` loads and stores the elements from i on; lanes.keep(v, other) replaces what is beyond the
// row, for a sum or a maximum. u = 0..3 numbers the steps that run side by side, so that a sum kept in four parts does
// not wait for itself.
template <class Body>
__attribute__((flatten)) inline void over_row(int64_t n, const Body& body) {
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

inline float hsum(const vf (&parts)[4]) { return hsum((parts[0] + parts[1]) + (parts[2] + parts[3])); }
inline float hmax(const vf (&parts)[4]) { return hmax(vmax(vmax(parts[0], parts[1]), vmax(parts[2], parts[3]))); }

// Rows a task takes, for about 64 KB of one operand.
inline int64_t rows_per_task(int64_t C) { return max_of<int64_t>(1, 16384 / max_of<int64_t>(C, 1)); }

}  // namespace
}  // namespace heed::cpu::HEED_ISA
