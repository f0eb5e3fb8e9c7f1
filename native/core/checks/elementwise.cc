#include "core/checks/elementwise.h"

#include <cmath>

#include "core/checks/checks.h"
#include "core/error.h"
#include "core/kinds.h"

namespace heed {
namespace {

void expect_output(const char* op, const char* name, const TensorView& view) {
  expect_float(op, name, view);
  expect_no_broadcast(op, name, view);
}

void expect_kind(const char* op, int64_t kind, int64_t kinds) {
  if (kind < 0 || kind >= kinds)
    fail(Code::argument, "%s: expected kind from 0 to %d, got %lld", op, static_cast<int>(kinds - 1),
         static_cast<long long>(kind));
}

void check_binary_integers(Out out, MixedIn a, MixedIn b, Int kind) {
  expect_no_broadcast("binary", "out", out);
  expect_operand("binary", "a", a, out);
  expect_operand("binary", "b", b, out);
  expect_kind("binary", kind, kBinaryKinds);
  const BinaryKind named = static_cast<BinaryKind>(kind);
  if (named == BinaryKind::div || named == BinaryKind::pow || named == BinaryKind::atan2)
    fail(Code::dtype, "binary: expected floats for a quotient, a power or an angle, got %s", name_of(out.dtype));
}

}  // namespace

void expect_no_broadcast(const char* op, const char* name, const TensorView& view) {
  char given[160];
  if (view.empty()) return;
  for (int d = 0; d < view.rank; d++)
    if (view.strides[d] == 0 && view.shape[d] > 1)
      fail(Code::shape, "%s: expected %s without broadcast dimensions, got a stride of 0 in shape %s", op, name,
           shape_string(view, given, sizeof given));
}

void expect_operand(const char* op, const char* name, const TensorView& view, const TensorView& out) {
  expect_dtype(op, name, view, out.dtype);
  expect_same_shape(op, name, view, out);
}

void check_fill(Out out) { expect_no_broadcast("fill", "out", out); }

void check_copy(Out out, In inp, Bool accumulate) {
  expect_no_broadcast("copy", "out", out);
  expect_same_shape("copy", "inp", inp, out);
  if (accumulate) expect_float("copy", "out to accumulate into", out);
}

void check_unary(Out out, In inp, Int kind) {
  expect_output("unary", "out", out);
  expect_operand("unary", "inp", inp, out);
  expect_kind("unary", kind, kUnaryKinds);
}

void check_unary_backward(Out dinp, In dout, In inp, Int kind) {
  expect_output("unary_backward", "dinp", dinp);
  expect_operand("unary_backward", "dout", dout, dinp);
  expect_operand("unary_backward", "inp", inp, dinp);
  expect_kind("unary_backward", kind, kUnaryKinds);
}

bool is_number(const TensorView& view, const TensorView& out) {
  bool one = view.dtype == DType::f32 && out.dtype != DType::f32;
  for (int d = 0; d < view.rank; d++) one = one && (view.strides[d] == 0 || view.shape[d] <= 1);
  return one;
}

uint32_t condition_bits(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x7fffffff;
    case DType::bf16:
    case DType::f16:
      return 0x7fff;
    case DType::i32:
      return 0xffffffff;
    case DType::u8:
      return 0xff;
  }
  return 0;
}

void check_where(Out out, AnyIn condition, AnyIn a, AnyIn b) {
  const char* op = "where";
  expect_no_broadcast(op, "out", out);
  expect_same_shape(op, "condition", condition, out);
  expect_operand(op, "a", a, out);
  expect_operand(op, "b", b, out);
}

void check_binary(Out out, MixedIn a, MixedIn b, Int kind) {
  if (!is_float(out.dtype)) return check_binary_integers(out, a, b, kind);
  expect_output("binary", "out", out);
  expect_parameter_dtype("binary", "a", a, out.dtype);
  expect_parameter_dtype("binary", "b", b, out.dtype);
  if (!is_number(a, out)) expect_dtype("binary", "a", a, out.dtype);
  if (!is_number(b, out) || is_number(a, out)) expect_dtype("binary", "b", b, out.dtype);
  expect_same_shape("binary", "a", a, out);
  expect_same_shape("binary", "b", b, out);
  expect_kind("binary", kind, kBinaryKinds);
}

void check_reduce(Out out, In inp, Int kind) {
  expect_output("reduce", "out", out);
  expect_dtype("reduce", "inp", inp, out.dtype);
  bool fits = out.rank == inp.rank;
  for (int d = 0; fits && d < inp.rank; d++) fits = out.shape[d] == inp.shape[d] || out.shape[d] == 1;
  char wanted[160], given[160];
  if (!fits)
    fail(Code::shape, "reduce: expected out of shape %s with any sizes replaced by 1, got %s",
         shape_string(inp, wanted, sizeof wanted), shape_string(out, given, sizeof given));
  expect_kind("reduce", kind, kReduceKinds);
  const ReduceKind reduction = static_cast<ReduceKind>(kind);
  if (!out.empty() && inp.empty() && reduction != ReduceKind::sum)
    fail(Code::argument, "reduce: expected at least one element to take the %s of, got shape %s",
         reduction == ReduceKind::mean ? "mean" : "max", shape_string(inp, given, sizeof given));
}

void check_dropout(Out out, In inp, Float p) {
  expect_output("dropout", "out", out);
  expect_operand("dropout", "inp", inp, out);
  if (!(p >= 0 && p <= 1)) fail(Code::argument, "dropout: expected p from 0 to 1, got %g", static_cast<double>(p));
}

void check_random_normal(Out out, Float mean, Float stddev) {
  expect_float("random_normal", "out", out);
  expect_contiguous("random_normal", "out", out);
  if (!std::isfinite(mean) || !std::isfinite(stddev) || stddev < 0)
    fail(Code::argument, "random_normal: expected a finite mean and a stddev of at least 0, got %g and %g",
         static_cast<double>(mean), static_cast<double>(stddev));
}

void check_random_uniform(Out out, Float low, Float high) {
  expect_float("random_uniform", "out", out);
  expect_contiguous("random_uniform", "out", out);
  if (!std::isfinite(low) || !std::isfinite(high) || low > high)
    fail(Code::argument, "random_uniform: expected finite low <= high, got %g and %g", static_cast<double>(low),
         static_cast<double>(high));
}

}  // namespace heed
