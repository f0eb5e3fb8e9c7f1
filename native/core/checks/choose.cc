#include "core/checks/choose.h"

#include <cmath>

#include "core/checks/rows.h"
#include "core/error.h"

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

void check_sample(Out ids, OptOut inputs, In logits, OptIn history, In offsets, const SampleNumbers& x) {
  const char* op = "sample";
  expect_float(op, "logits", logits);
  expect_contiguous(op, "logits", logits);
  expect_rank(op, "logits", logits, 2);
  expect_i32(op, "ids", ids, leading_shape(logits));
  if (inputs) expect_i32(op, "inputs", *inputs, leading_shape(logits));
  expect_i32(op, "offsets", offsets, leading_shape(logits));
  if (history) {
    expect_rank(op, "history", *history, 2);
    TensorView expected = *history;
    expected.shape[0] = logits.dim(0);
    expect_i32(op, "history", *history, expected);
  }
  const auto expect = [op](const char* name, double value, bool good, const char* wanted) {
    if (!good) fail(Code::range, "%s: expected %s %s, got %g", op, name, wanted, value);
  };
  expect("temperature", x.temperature, x.temperature >= 0 && x.temperature < INFINITY, "of at least 0 and finite");
  expect("top_k", static_cast<double>(x.top_k), x.top_k >= 0, "of at least 0");
  expect("top_p", x.top_p, x.top_p > 0 && x.top_p <= 1, "in (0, 1]");
  expect("min_p", x.min_p, x.min_p >= 0 && x.min_p <= 1, "in [0, 1]");
  expect("repetition_penalty", x.repetition_penalty, x.repetition_penalty > 0 && x.repetition_penalty < INFINITY,
         "above 0 and finite");
  expect_columns(op, "logits", logits);
}

}  // namespace heed
