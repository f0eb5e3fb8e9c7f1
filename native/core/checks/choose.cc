#include "core/checks/choose.h"

#include "core/checks/rows.h"
#include "core/error.h"
#include "core/sampling.h"

namespace heed {
namespace {

// Checks that the tensor is contiguous and has at least one dimension.
void expect_rows(const char* op, const char* name, const TensorView& view) {
  if (view.rank < 1) fail(Code::shape, "%s: expected %s with at least 1 dimension, got shape []", op, name);
  expect_float(op, name, view);
  expect_contiguous(op, name, view);
}

void expect_i32(const char* op, const char* name, const TensorView& view, const TensorView& shape) {
  expect_dtype(op, name, view, DType::i32);
  expect_contiguous(op, name, view);
  expect_same_shape(op, name, view, shape);
}

void expect_columns(const char* op, const char* name, const TensorView& view) {
  if (leading_shape(view).numel() > 0 && view.dim(-1) == 0)
    fail(Code::shape, "%s: expected %s with at least 1 column, got 0", op, name);
}

// [B, V], with at least one column.
void expect_logits(const char* op, const TensorView& logits) {
  expect_float(op, "logits", logits);
  expect_contiguous(op, "logits", logits);
  expect_rank(op, "logits", logits, 2);
  expect_columns(op, "logits", logits);
}

// A contiguous matrix; -1 stands for any number of columns.
void expect_row_table(const char* op, const char* name, const TensorView& view, DType dtype, int64_t rows,
                      int64_t columns) {
  expect_dtype(op, name, view, dtype);
  expect_contiguous(op, name, view);
  expect_rank(op, name, view, 2);
  TensorView expected = view;
  expected.shape[0] = rows;
  if (columns >= 0) expected.shape[1] = columns;
  expect_same_shape(op, name, view, expected);
}

}  // namespace

void check_argmax(Out ids, In inp) {
  const char* op = "argmax";
  expect_rows(op, "inp", inp);
  expect_i32(op, "ids", ids, leading_shape(inp));
  expect_columns(op, "inp", inp);
}

void check_topk(Out values, Out ids, In inp) {
  const char* op = "topk";
  expect_rows(op, "inp", inp);
  expect_rows(op, "values", values);
  expect_same_dtype(op, "values", values, "inp", inp);
  const int64_t V = inp.dim(-1), k = values.dim(-1);
  TensorView expected = inp;
  expected.shape[expected.rank - 1] = k;
  expect_same_shape(op, "values", values, expected);
  expect_i32(op, "ids", ids, values);
  if (k > V)
    fail(Code::shape, "%s: expected at most %lld values per row, got %lld", op, static_cast<long long>(V),
         static_cast<long long>(k));
}

void check_sample(Out ids, OptOut inputs, In logits, OptIn history, OptIn generated, OptIn bias, OptIn allowed,
                  In offsets, In numbers, In integers) {
  const char* op = "sample";
  expect_logits(op, logits);
  const TensorView rows = leading_shape(logits);
  expect_i32(op, "ids", ids, rows);
  if (inputs) expect_i32(op, "inputs", *inputs, rows);
  expect_i32(op, "offsets", offsets, rows);
  const int64_t B = logits.dim(0), V = logits.dim(1);
  if (history) expect_row_table(op, "history", *history, DType::i32, B, -1);
  if (generated) expect_row_table(op, "generated", *generated, DType::i32, B, -1);
  if (bias) expect_row_table(op, "bias", *bias, DType::f32, B, V);
  if (allowed) expect_row_table(op, "allowed", *allowed, DType::i32, B, (V + kTokensPerWord - 1) / kTokensPerWord);
  expect_row_table(op, "numbers", numbers, DType::f32, B, kSamplingNumbers);
  expect_row_table(op, "integers", integers, DType::i32, B, kSamplingIntegers);
}

void check_log_probabilities(Out out, In logits, In ids) {
  const char* op = "log_probabilities";
  expect_logits(op, logits);
  expect_row_table(op, "ids", ids, DType::i32, logits.dim(0), -1);
  expect_row_table(op, "out", out, DType::f32, logits.dim(0), ids.dim(1));
}

}  // namespace heed
