#include "core/checks/gated.h"

#include "core/checks/checks.h"
#include "core/checks/elementwise.h"
#include "core/error.h"

namespace heed {
namespace {

void expect_output(const char* op, const char* name, const TensorView& view, const TensorView& like) {
  expect_float(op, name, view);
  expect_operand(op, name, view, like);
  expect_no_broadcast(op, name, view);
}

}  // namespace

void check_gated(Out out, In gate, In up, Int activation) {
  const char* op = "gated";
  expect_output(op, "out", out, out);
  expect_operand(op, "gate", gate, out);
  expect_operand(op, "up", up, out);
  expect_activation(op, activation);
}

void check_gated_backward(Out dgate, Out dup, In dout, In gate, In up, Int activation) {
  const char* op = "gated_backward";
  expect_output(op, "dgate", dgate, dgate);
  expect_output(op, "dup", dup, dgate);
  expect_operand(op, "dout", dout, dgate);
  expect_operand(op, "gate", gate, dgate);
  expect_operand(op, "up", up, dgate);
  expect_activation(op, activation);
}

}  // namespace heed
