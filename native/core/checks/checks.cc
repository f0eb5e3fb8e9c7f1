#include "core/checks/checks.h"

#include "core/error.h"

namespace heed {

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

void expect_float(const char* op, const char* name, const TensorView& view) {
  if (!is_float(view.dtype))
    fail(Code::dtype, "%s: expected %s of dtype f32, bf16 or f16, got %s", op, name, name_of(view.dtype));
}

void expect_same_dtype(const char* op, const char* name, const TensorView& view, const char* other_name,
                       const TensorView& other) {
  if (view.dtype != other.dtype)
    fail(Code::dtype, "%s: expected %s of %s's dtype %s, got %s", op, name, other_name, name_of(other.dtype),
         name_of(view.dtype));
}

void expect_activation(const char* op, Int activation) {
  if (activation < 0 || activation >= kActivations)
    fail(Code::argument, "%s: expected an activation from 0 to %d, got %lld", op, static_cast<int>(kActivations - 1),
         static_cast<long long>(activation));
}

void expect_parameter_dtype(const char* op, const char* name, const TensorView& view, DType activations) {
  if (view.dtype == activations || view.dtype == DType::f32) return;
  if (activations == DType::f32)
    fail(Code::dtype, "%s: expected %s of dtype f32, got %s", op, name, name_of(view.dtype));
  fail(Code::dtype, "%s: expected %s of dtype %s or f32, got %s", op, name, name_of(activations), name_of(view.dtype));
}

void expect_weight_dtype(const char* op, const char* name, const TensorView& view, DType activations) {
  if (activations == DType::f32) return expect_float(op, name, view);
  expect_parameter_dtype(op, name, view, activations);
}

}  // namespace heed
