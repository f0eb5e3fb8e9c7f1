#include "core/checks/lstm.h"

#include "core/checks/checks.h"

namespace heed {
namespace {

// Checks the weight [4H, H] and the gates [T, B, 4H], from which the sizes follow.
LstmSizes expect_sizes(const char* op, const char* name, const TensorView& gates, const TensorView& weight) {
  expect_float(op, name, gates);
  expect_rank(op, name, gates, 3);
  expect_contiguous(op, name, gates);
  expect_rank(op, "weight", weight, 2);
  const LstmSizes n{gates.shape[0], gates.shape[1], weight.shape[1]};
  expect_shape(op, "weight", weight, {4 * n.H, n.H});
  expect_shape(op, name, gates, {n.T, n.B, 4 * n.H});
  expect_same_dtype(op, "weight", weight, name, gates);
  return n;
}

void expect_tensor(const char* op, const char* name, const TensorView& x, const char* other_name,
                   const TensorView& other, std::initializer_list<int64_t> shape) {
  expect_same_dtype(op, name, x, other_name, other);
  expect_shape(op, name, x, shape);
  expect_contiguous(op, name, x);
}

}  // namespace

LstmSizes check_lstm_forward(Out gates, AnyInOut h, AnyInOut c, In x, In weight, OptMixedIn bias) {
  const char* op = "lstm_forward";
  const LstmSizes n = expect_sizes(op, "x", x, weight);
  expect_tensor(op, "gates", gates, "x", x, {n.T, n.B, 4 * n.H});
  expect_tensor(op, "h", h, "x", x, {n.T + 1, n.B, n.H});
  expect_tensor(op, "c", c, "x", x, {n.T + 1, n.B, n.H});
  if (bias) {
    expect_parameter_dtype(op, "bias", *bias, x.dtype);
    expect_shape(op, "bias", *bias, {4 * n.H});
    expect_contiguous(op, "bias", *bias);
  }
  return n;
}

LstmSizes check_lstm_backward(Out dgates, In dout, In gates, In c, In weight) {
  const char* op = "lstm_backward";
  const LstmSizes n = expect_sizes(op, "gates", gates, weight);
  expect_tensor(op, "dgates", dgates, "gates", gates, {n.T, n.B, 4 * n.H});
  expect_tensor(op, "dout", dout, "gates", gates, {n.T, n.B, n.H});
  expect_tensor(op, "c", c, "gates", gates, {n.T + 1, n.B, n.H});
  return n;
}

}  // namespace heed
