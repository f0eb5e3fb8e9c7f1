#include "core/checks/gemm.h"

#include <utility>

#include "core/checks/checks.h"
#include "core/error.h"

namespace heed {

namespace {

constexpr const char* kOp = "gemm";

// The ranks are the same.
void check_shapes(Out out, In a, In b) {
  char a_shape[160], b_shape[160];
  if (out.rank < 2)
    fail(Code::shape, "%s: expected out with at least 2 dimensions, got shape %s", kOp,
         shape_string(out, a_shape, sizeof a_shape));
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

GemmOperands::GemmOperands(Out out, In a, In b, OptIn residual, OptOut preact, OptIn dact_preact, Bool transpose_a,
                           Bool transpose_b)
    : out(&out), a(&a), b(&b), residual(residual), preact(preact), dact_preact(dact_preact) {
  if (out.rank != a.rank || out.rank != b.rank) {
    flatten("out", this->out);
    flatten("a", this->a);
    flatten("b", this->b);
    flatten("residual", this->residual);
    flatten("preact", this->preact);
    flatten("dact_preact", this->dact_preact);
  }
  if (transpose_a) transpose(this->a);
  if (transpose_b) transpose(this->b);
}

// Makes [..., columns] one matrix [rows, columns]. Its rows must lie at equal distances.
void GemmOperands::flatten(const char* name, const TensorView*& operand) {
  if (!operand || operand->rank == 2) return;
  const TensorView& whole = *operand;
  if (whole.rank == 0) fail(Code::shape, "%s: expected %s with at least 1 dimension, got shape []", kOp, name);
  int64_t rows = 1, distance = whole.dim(-1);
  bool even = true;
  for (int d = whole.rank - 2; d >= 0; d--) {
    if (whole.shape[d] == 1) continue;
    if (rows == 1) distance = whole.strides[d];
    even = even && whole.strides[d] == distance * rows;
    rows *= whole.shape[d];
  }
  char shape[160];
  if (!even && !whole.empty())
    fail(Code::shape, "%s: expected the rows of %s, of shape %s, at equal distances", kOp, name,
         shape_string(whole, shape, sizeof shape));
  TensorView& matrix = own_[owned_++];
  matrix.data = whole.data;
  matrix.dtype = whole.dtype;
  matrix.rank = 2;
  matrix.shape[0] = rows;
  matrix.shape[1] = whole.dim(-1);
  matrix.strides[0] = distance;
  matrix.strides[1] = whole.stride(-1);
  operand = &matrix;
}

void GemmOperands::transpose(const TensorView*& operand) {
  TensorView& transposed = own_[owned_++];
  transposed = *operand;
  const int last = transposed.rank - 1;
  // check_gemm refuses fewer dimensions.
  if (last > 0) {
    std::swap(transposed.shape[last], transposed.shape[last - 1]);
    std::swap(transposed.strides[last], transposed.strides[last - 1]);
  }
  operand = &transposed;
}

void check_gemm(const GemmOperands& operands, OptOut sum, OptIn bias, Int activation, Bool sum_of_a) {
  const TensorView &out = *operands.out, &a = *operands.a, &b = *operands.b;
  const TensorView *residual = operands.residual, *preact = operands.preact, *dact_preact = operands.dact_preact;
  check_shapes(out, a, b);
  expect_float(kOp, "a", a);
  expect_weight_dtype(kOp, "b", b, a.dtype);
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
