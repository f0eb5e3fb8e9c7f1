#include "core/checks/blocks.h"

#include <cstdint>

#include "core/checks/checks.h"
#include "core/checks/quantized.h"
#include "core/error.h"

namespace heed {
namespace {

// Returns the layout of a weight [K, N] that has these blocks.
BlockLayout check_weight(const char* op, In blocks, int64_t K, int64_t N, Int format) {
  if (format < 0 || format >= kBlockKinds)
    fail(Code::argument, "%s: expected a format from 0 to %lld, got %lld", op, static_cast<long long>(kBlockKinds - 1),
         static_cast<long long>(format));
  const BlockLayout layout{K, N, static_cast<BlockKind>(format)};
  if (K % layout.numbers() != 0)
    fail(Code::shape, "%s: expected rows of whole blocks of %lld numbers, got %lld", op,
         static_cast<long long>(layout.numbers()), static_cast<long long>(K));
  expect_dtype(op, "blocks", blocks, DType::u8);
  expect_contiguous(op, "blocks", blocks);
  expect_shape(op, "blocks", blocks, {N, layout.row_bytes()});
  return layout;
}

}  // namespace

BlockLayout check_dequantize_blocks(Out out, OptIn ids, In blocks, Int format) {
  const char* op = "dequantize_blocks";
  expect_rank(op, "blocks", blocks, 2);
  if (out.rank < 1) fail(Code::shape, "%s: expected out with at least 1 dimension, got shape []", op);
  check_rows(op, out, ids, blocks.dim(0));
  return check_weight(op, blocks, out.dim(-1), blocks.dim(0), format);
}

BlockLayout check_gemm_blocks(Out out, In a, In blocks, OptIn bias, OptIn residual, OptOut preact, Int activation,
                              Int precision, Int format) {
  const char* op = "gemm_blocks";
  check_product(op, out, a, bias, residual, preact, activation, precision);
  return check_weight(op, blocks, a.dim(1), out.dim(1), format);
}

BlockLayout check_gemm_blocks_backward(Out dinp, In dout, In blocks, Int format) {
  const char* op = "gemm_blocks_backward";
  check_product_backward(op, dinp, dout);
  return check_weight(op, blocks, dinp.dim(1), dout.dim(1), format);
}

}  // namespace heed
