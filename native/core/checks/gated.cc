#include "core/checks/gated.h"

#include "core/checks/checks.h"
#include "core/checks/elementwise.h"

namespace heed {

void check_gated(Out out, In gate, In up, Int activation) {
  const char* op = "gated";
  expect_float(op, "out", out);
  expect_no_broadcast(op, "out", out);
  expect_operand(op, "gate", gate, out);
  expect_operand(op, "up", up, out);
  expect_activation(op, activation);
}

void check_gated_backward(Out dgate, Out dup, In dout, In gate, In up, Int activation) {
  const char* op = "gated_backward";
  expect_float(op, "dgate", dgate);
  expect_no_broadcast(op, "dgate", dgate);
  expect_operand(op, "dup", dup, dgate);
  expect_no_broadcast(op, "dup", dup);
  expect_operand(op, "dout", dout, dgate);
  expect_operand(op, "gate", gate, dgate);
  expect_operand(op, "up", up, dgate);
  expect_activation(op, activation);
}

}  // namespace heed
