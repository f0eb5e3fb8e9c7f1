#include "core/checks/embedding.h"

#include "core/checks/checks.h"
#include "core/error.h"

namespace heed {
namespace {

// table [V, C], rows [ids.shape..., C]
void check(const char* op, const char* table_name, const TensorView& table, const char* rows_name,
           const TensorView& rows, const TensorView& ids) {
  expect_dtype(op, "ids", ids, DType::i32);
  expect_contiguous(op, "ids", ids);
  expect_contiguous(op, table_name, table);
  expect_rank(op, table_name, table, 2);
  expect_contiguous(op, rows_name, rows);
  if (ids.rank == kMaxRank) fail(Code::shape, "%s: expected ids with at most %d dimensions", op, kMaxRank - 1);
  if (ids.numel() > INT32_MAX)
    fail(Code::range, "%s: expected at most %d ids, got %lld", op, INT32_MAX, static_cast<long long>(ids.numel()));
  TensorView expected = ids;
  expected.shape[expected.rank++] = table.dim(1);
  expect_same_shape(op, rows_name, rows, expected);
}

}  // namespace

void check_embedding_forward(const char* op, Out out, In ids, In weight) {
  if (out.dtype == DType::i32) {
    expect_dtype(op, "weight", weight, DType::i32);
  } else {
    expect_float(op, "out", out);
    expect_weight_dtype(op, "weight", weight, out.dtype);
  }
  check(op, "weight", weight, "out", out, ids);
}

void check_embedding_backward(const char* op, Out dweight, In dout, In ids) {
  expect_float(op, "dout", dout);
  expect_parameter_dtype(op, "dweight", dweight, dout.dtype);
  check(op, "dweight", dweight, "dout", dout, ids);
}

}  // namespace heed
