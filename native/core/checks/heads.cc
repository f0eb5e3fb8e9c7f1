#include "core/checks/heads.h"

#include "core/error.h"

namespace heed {

void expect_contiguous_heads(const char* op, const char* name, const TensorView& x) {
  if (x.shape[3] > 1 && x.strides[3] != 1)
    fail(Code::shape, "%s: expected %s with contiguous heads (stride 1), got stride %lld", op, name,
         static_cast<long long>(x.strides[3]));
}

void expect_optional(const char* op, const char* name, OptIn x, DType dtype, std::initializer_list<int64_t> shape) {
  if (!x) return;
  expect_dtype(op, name, *x, dtype);
  expect_shape(op, name, *x, shape);
  expect_contiguous(op, name, *x);
}

}  // namespace heed
