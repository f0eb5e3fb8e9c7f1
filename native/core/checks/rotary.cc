#include "core/checks/rotary.h"

#include "core/checks/checks.h"
#include "core/checks/elementwise.h"
#include "core/checks/heads.h"
#include "core/error.h"

namespace heed {

RotarySizes check_rotary(const char* op, Out out, In inp, In table, OptIn starts, OptIn positions) {
  char given[160];
  expect_rank(op, "inp", inp, 4);
  expect_float(op, "inp", inp);
  expect_dtype(op, "out", out, inp.dtype);
  expect_same_shape(op, "out", out, inp);
  expect_no_broadcast(op, "out", out);
  expect_contiguous_heads(op, "inp", inp);
  expect_contiguous_heads(op, "out", out);
  const RotarySizes sizes{inp.shape[0], inp.shape[1], inp.shape[2], inp.shape[3], 2 * table.shape[1], table.shape[0]};
  if (sizes.B * sizes.T > INT32_MAX || sizes.D > INT32_MAX)
    fail(Code::shape, "%s: expected at most %d tokens, and as many dimensions, got inp of shape %s", op, INT32_MAX,
         shape_string(inp, given, sizeof given));
  expect_f32(op, "table", table);
  expect_rank(op, "table", table, 3);
  if (table.shape[2] != 2 || sizes.R > sizes.D)
    fail(Code::shape, "%s: expected table of shape [positions, at most %lld, 2], got %s", op,
         static_cast<long long>(sizes.D / 2), shape_string(table, given, sizeof given));
  if (starts && positions) fail(Code::argument, "%s: expected one of starts and positions, got both", op);
  expect_optional(op, "starts", starts, DType::i32, {sizes.B});
  expect_optional(op, "positions", positions, DType::i32, {sizes.B, sizes.T});
  if (!starts && !positions && sizes.T > sizes.positions)
    fail(Code::range, "%s: expected table to have the %lld positions of inp, got %lld", op,
         static_cast<long long>(sizes.T), static_cast<long long>(sizes.positions));
  return sizes;
}

}  // namespace heed
