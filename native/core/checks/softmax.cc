#include "core/checks/softmax.h"

#include "core/checks/checks.h"
#include "core/checks/elementwise.h"
#include "core/error.h"

namespace heed {
namespace {

void expect_output(const char* op, const char* name, const TensorView& view) {
  if (view.rank < 1) fail(Code::shape, "%s: expected %s with at least 1 dimension, got shape []", op, name);
  expect_float(op, name, view);
  expect_no_broadcast(op, name, view);
}

void expect_rows(const char* op, const char* name, const TensorView& view) {
  char given[160];
  if (view.dim(-1) > 1 && view.stride(-1) != 1)
    fail(Code::shape, "%s: expected %s to be contiguous in its last dimension, got a stride of %lld in shape %s", op,
         name, static_cast<long long>(view.stride(-1)), shape_string(view, given, sizeof given));
}

}  // namespace

void check_softmax_forward(const char* op, Out out, In inp) {
  expect_output(op, "out", out);
  expect_operand(op, "inp", inp, out);
  expect_rows(op, "out", out);
  expect_rows(op, "inp", inp);
}

void check_softmax_backward(const char* op, Out dinp, In dout, In out) {
  expect_output(op, "dinp", dinp);
  expect_operand(op, "dout", dout, dinp);
  expect_operand(op, "out", out, dinp);
  expect_rows(op, "dinp", dinp);
  expect_rows(op, "dout", dout);
  expect_rows(op, "out", out);
}

}  // namespace heed
