#include "core/checks/quantized.h"

#include <cstdint>

#include "core/checks/checks.h"
#include "core/error.h"

namespace heed {
namespace {

// Checks the alignment that CUDA's kernels need, which read four words of codes and four scales at a time.
void expect_aligned(const char* op, const char* name, In x, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(x.data) % bytes)
    fail(Code::argument, "%s: expected %s to begin at a multiple of %zu bytes", op, name, bytes);
}

// Returns the layout of a weight [K, N] that has these codes and scales.
QuantizedLayout check_weight(const char* op, In codes, In scales, int64_t K, int64_t N, Int bits) {
  expect_dtype(op, "codes", codes, DType::u8);
  expect_dtype(op, "scales", scales, DType::bf16);
  expect_contiguous(op, "codes", codes);
  expect_contiguous(op, "scales", scales);
  expect_rank(op, "codes", codes, 3);
  expect_rank(op, "scales", scales, 3);
  if (bits != 8 && bits != 4)
    fail(Code::argument, "%s: expected bits of 8 or 4, got %lld", op, static_cast<long long>(bits));
  // The shapes determine the group. If the weight has no K or no N, any group will do.
  const int64_t groups = scales.dim(1), words = codes.dim(1);
  QuantizedLayout layout{K, N, bits, groups > 0 ? words * 32 / bits / groups : 32};
  const int64_t group = layout.group;
  if (group != 32 && group != 64 && group != 128 && group != 256)
    fail(Code::shape, "%s: expected codes and scales of groups of 32, 64, 128 or 256, got %lld words and %lld groups",
         op, static_cast<long long>(words), static_cast<long long>(groups));
  expect_shape(op, "scales", scales, {layout.panels(), layout.groups(), kPanelColumns});
  expect_shape(op, "codes", codes, {layout.panels(), layout.words(), kPanelBytes});
  expect_aligned(op, "codes", codes, 16);
  expect_aligned(op, "scales", scales, 8);
  return layout;
}

}  // namespace

QuantizedLayout check_quantize(Out codes, Out scales, In weight, Int bits) {
  const char* op = "quantize";
  expect_float(op, "weight", weight);
  expect_rank(op, "weight", weight, 2);
  return check_weight(op, codes, scales, weight.dim(0), weight.dim(1), bits);
}

void check_rows(const char* op, Out out, OptIn ids, int64_t rows) {
  expect_float(op, "out", out);
  expect_contiguous(op, "out", out);
  if (!ids) return expect_shape(op, "out", out, {rows, out.dim(-1)});
  expect_dtype(op, "ids", *ids, DType::i32);
  expect_contiguous(op, "ids", *ids);
  if (ids->rank == kMaxRank) fail(Code::shape, "%s: expected ids with at most %d dimensions", op, kMaxRank - 1);
  TensorView expected = *ids;
  expected.shape[expected.rank++] = out.dim(-1);
  expect_same_shape(op, "out", out, expected);
}

QuantizedLayout check_dequantize(Out out, OptIn ids, In codes, In scales, Int columns, Int bits) {
  const char* op = "dequantize";
  if (out.rank < 1) fail(Code::shape, "%s: expected out with at least 1 dimension, got shape []", op);
  const QuantizedLayout layout = check_weight(op, codes, scales, out.dim(-1), columns, bits);
  check_rows(op, out, ids, columns);
  return layout;
}

void check_product(const char* op, Out out, In a, OptIn bias, OptIn residual, OptOut preact, Int activation,
                   Int precision) {
  expect_float(op, "a", a);
  expect_rank(op, "a", a, 2);
  expect_contiguous(op, "a", a);
  expect_rank(op, "out", out, 2);
  expect_parameter_dtype(op, "out", out, a.dtype);
  expect_contiguous(op, "out", out);
  const int64_t N = out.dim(1);
  expect_shape(op, "out", out, {a.dim(0), N});
  if (bias) {
    expect_parameter_dtype(op, "bias", *bias, a.dtype);
    expect_contiguous(op, "bias", *bias);
    expect_shape(op, "bias", *bias, {N});
  }
  if (residual) {
    expect_parameter_dtype(op, "residual", *residual, a.dtype);
    expect_contiguous(op, "residual", *residual);
    expect_same_shape(op, "residual", *residual, out);
  }
  if (preact) {
    expect_same_dtype(op, "preact", *preact, "a", a);
    expect_contiguous(op, "preact", *preact);
    expect_same_shape(op, "preact", *preact, out);
  }
  expect_activation(op, activation);
  if (precision != 8 && precision != 16 && precision != 24)
    fail(Code::argument, "%s: expected a precision of 8, 16 or 24 bits, got %lld", op,
         static_cast<long long>(precision));
}

void check_product_backward(const char* op, Out dinp, In dout) {
  expect_float(op, "dout", dout);
  expect_rank(op, "dout", dout, 2);
  expect_contiguous(op, "dout", dout);
  expect_rank(op, "dinp", dinp, 2);
  expect_parameter_dtype(op, "dinp", dinp, dout.dtype);
  expect_contiguous(op, "dinp", dinp);
  expect_shape(op, "dinp", dinp, {dout.dim(0), dinp.dim(1)});
}

QuantizedLayout check_gemm_quantized(Out out, In a, In codes, In scales, OptIn bias, OptIn residual, OptOut preact,
                                     Int activation, Int precision, Int bits) {
  const char* op = "gemm_quantized";
  check_product(op, out, a, bias, residual, preact, activation, precision);
  return check_weight(op, codes, scales, a.dim(1), out.dim(1), bits);
}

QuantizedLayout check_gemm_quantized_backward(Out dinp, In dout, In codes, In scales, Int bits) {
  const char* op = "gemm_quantized_backward";
  check_product_backward(op, dinp, dout);
  return check_weight(op, codes, scales, dinp.dim(1), dout.dim(1), bits);
}

}  // namespace heed
