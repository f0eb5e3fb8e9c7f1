#include "core/checks/scan.h"

#include "core/checks/checks.h"

namespace heed {

void check_scan(const char* op, const char* out_name, Out out, const char* inp_name, In inp) {
  expect_float(op, inp_name, inp);
  expect_rank(op, inp_name, inp, 3);
  expect_contiguous(op, inp_name, inp);
  expect_same_dtype(op, out_name, out, inp_name, inp);
  expect_same_shape(op, out_name, out, inp);
  expect_contiguous(op, out_name, out);
}

}  // namespace heed
