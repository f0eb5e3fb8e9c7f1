#include "core/checks/gemm.h"

#include "core/checks/checks.h"
#include "core/error.h"

namespace heed {

namespace {

constexpr const char* kOp = "gemm";

void check_shapes(Out out, In a, In b) {
  char a_shape[160], b_shape[160];
  if (out.rank < 2)
    fail(Code::shape, "%s: expected out with at least 2 dimensions, got shape %s", kOp,
         shape_string(out, a_shape, sizeof a_shape));
  expect_rank(kOp, "a", a, out.rank);
  expect_rank(kOp, "b", b, out.rank);
  bool fits = a.dim(-2) == out.dim(-2) && a.dim(-1) == b.dim(-2) && b.dim(-1) == out.dim(-1);
  for (int i = 0; i < out.rank - 2; i++) fits = fits && a.shape[i] == out.shape[i] && b.shape[i] == out.shape[i];
  if (!fits)
    fail(Code::shape, "%s: expected a [..., %lld, K] and b [..., K, %lld] with the leading sizes of out, got %s and %s",
         kOp, static_cast<long long>(out.dim(-2)), static_cast<long long>(out.dim(-1)),
         shape_string(a, a_shape, sizeof a_shape), shape_string(b, b_shape, sizeof b_shape));
}

// Checks a matrix that is read or written in rows.
void check_rows(const char* name, const TensorView& view, const TensorView& out) {
  expect_same_shape(kOp, name, view, out);
  if (out.dim(-1) > 1 && view.stride(-1) != 1)
    fail(Code::shape, "%s: expected %s to be contiguous in its last dimension, got a stride of %lld", kOp, name,
         static_cast<long long>(view.stride(-1)));
}

}  // namespace

void check_gemm(Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact, OptIn dact_preact,
                Int activation, Bool sum_of_a) {
  check_shapes(out, a, b);
  expect_float(kOp, "a", a);
  expect_parameter_dtype(kOp, "b", b, a.dtype);
  check_rows("out", out, out);
  expect_parameter_dtype(kOp, "out", out, a.dtype);
  if (residual) {
    check_rows("residual", *residual, out);
    expect_parameter_dtype(kOp, "residual", *residual, a.dtype);
  }
  if (preact) {
    check_rows("preact", *preact, out);
    expect_same_dtype(kOp, "preact", *preact, "a", a);
  }
  if (dact_preact) {
    check_rows("dact_preact", *dact_preact, out);
    expect_same_dtype(kOp, "dact_preact", *dact_preact, "a", a);
  }
  if (bias) {
    expect_shape(kOp, "bias", *bias, {out.dim(-1)});
    expect_parameter_dtype(kOp, "bias", *bias, a.dtype);
    expect_contiguous(kOp, "bias", *bias);
  }
  if (sum) {
    char shape[160];
    if (out.rank != 2 || out.empty())
      fail(Code::shape, "%s: expected out with 2 dimensions and elements if sum is given, got shape %s", kOp,
           shape_string(out, shape, sizeof shape));
    if (!sum_of_a) expect_same_dtype(kOp, "b", b, "a", a);
    expect_shape(kOp, "sum", *sum, {out.dim(sum_of_a ? -2 : -1)});
    expect_parameter_dtype(kOp, "sum", *sum, a.dtype);
    expect_contiguous(kOp, "sum", *sum);
  }
  expect_activation(kOp, activation);
}

void check_bias_backward(Out dbias, In dout) {
  constexpr const char* op = "bias_backward";
  if (dout.rank < 1) fail(Code::shape, "%s: expected dout with at least 1 dimension, got shape []", op);
  expect_float(op, "dout", dout);
  expect_contiguous(op, "dout", dout);
  expect_parameter_dtype(op, "dbias", dbias, dout.dtype);
  expect_contiguous(op, "dbias", dbias);
  expect_shape(op, "dbias", dbias, {dout.dim(-1)});
}

}  // namespace heed
