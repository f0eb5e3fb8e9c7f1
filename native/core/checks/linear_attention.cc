#include "core/checks/linear_attention.h"

#include "core/checks/checks.h"
#include "core/checks/heads.h"

namespace heed {
namespace {

void expect_heads(const char* op, const char* name, const TensorView& x, const LinearAttentionSizes& n, int64_t size,
                  DType dtype) {
  expect_dtype(op, name, x, dtype);
  expect_shape(op, name, x, {n.B, n.T, n.H, size});
  expect_contiguous_heads(op, name, x);
}

}  // namespace

LinearAttentionSizes check_linear_attention(const char* op, Out out, OptOut final_state, In q, In k, In v,
                                            OptIn initial_state, OptIn decay) {
  expect_rank(op, "q", q, 4);
  expect_rank(op, "v", v, 4);
  expect_float(op, "q", q);
  const LinearAttentionSizes n{q.shape[0], q.shape[1], q.shape[2], q.shape[3], v.shape[3]};
  expect_heads(op, "q", q, n, n.D, q.dtype);
  expect_heads(op, "k", k, n, n.D, q.dtype);
  expect_heads(op, "v", v, n, n.Dv, q.dtype);
  expect_heads(op, "out", out, n, n.Dv, q.dtype);
  expect_optional(op, "initial_state", initial_state, DType::f32, {n.B, n.H, n.D, n.Dv});
  expect_optional(op, "final_state", final_state, DType::f32, {n.B, n.H, n.D, n.Dv});
  expect_optional(op, "decay", decay, DType::f32, {n.H});
  return n;
}

}  // namespace heed
