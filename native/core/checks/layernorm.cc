#include "core/checks/layernorm.h"

#include "core/checks/rows.h"
#include "core/error.h"

namespace heed {

void check_layernorm_forward(const char* op, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                             OptIn weight, OptIn bias, Float eps, Bool rms) {
  expect_contiguous_rows(op, "inp", inp);
  if (!residual != !sum) fail(Code::argument, "%s: expected residual and sum together, got one of them", op);
  if (rms && mean) fail(Code::argument, "%s: expected no mean with rms, which has none, got one", op);
  expect_like(op, "out", &out, inp);
  expect_like(op, "sum", sum, inp);
  expect_like(op, "residual", residual, inp);
  expect_per_row(op, "mean", mean, inp, DType::f32);
  expect_per_row(op, "rstd", rstd, inp, DType::f32);
  expect_per_column(op, "weight", weight, inp);
  expect_per_column(op, "bias", bias, inp);
  if (!(eps >= 0)) fail(Code::range, "%s: expected eps of at least 0, got %g", op, static_cast<double>(eps));
}

void check_layernorm_backward(const char* op, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                              OptIn weight, OptIn mean, In rstd) {
  expect_contiguous_rows(op, "inp", inp);
  expect_like(op, "dinp", &dinp, inp);
  expect_like(op, "dout", &dout, inp);
  expect_like(op, "dsum", dsum, inp);
  expect_per_row(op, "mean", mean, inp, DType::f32);
  expect_per_row(op, "rstd", &rstd, inp, DType::f32);
  expect_per_column(op, "weight", weight, inp);
  expect_per_column(op, "dweight", dweight, inp);
  expect_per_column(op, "dbias", dbias, inp);
}

}  // namespace heed
