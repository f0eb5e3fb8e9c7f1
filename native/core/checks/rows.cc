#include "core/checks/rows.h"

#include "core/error.h"

namespace heed {

TensorView leading_shape(const TensorView& view) {
  TensorView rows = view;
  rows.rank--;
  return rows;
}

TensorView last_shape(const TensorView& view) {
  TensorView column;
  column.rank = 1;
  column.shape[0] = view.dim(-1);
  return column;
}

void expect_contiguous_rows(const char* op, const char* name, const TensorView& view) {
  if (view.rank < 1) fail(Code::shape, "%s: expected %s with at least 1 dimension, got shape []", op, name);
  expect_float(op, name, view);
  expect_contiguous(op, name, view);
}

void expect_like(const char* op, const char* name, const TensorView* view, const TensorView& other) {
  if (!view) return;
  expect_dtype(op, name, *view, other.dtype);
  expect_contiguous(op, name, *view);
  expect_same_shape(op, name, *view, other);
}

void expect_per_row(const char* op, const char* name, const TensorView* view, const TensorView& rows, DType dtype) {
  if (!view) return;
  expect_dtype(op, name, *view, dtype);
  expect_contiguous(op, name, *view);
  expect_same_shape(op, name, *view, leading_shape(rows));
}

void expect_per_column(const char* op, const char* name, const TensorView* view, const TensorView& rows) {
  if (!view) return;
  expect_parameter_dtype(op, name, *view, rows.dtype);
  expect_contiguous(op, name, *view);
  expect_same_shape(op, name, *view, last_shape(rows));
}

}  // namespace heed
