// Checks of tensors that hold heads, [B, T, H, D] with D contiguous, and of the operands that go with them. Each check
// throws ERR_SHAPE or ERR_DTYPE.
#pragma once
#include "core/params.h"

namespace heed {

void expect_contiguous_heads(const char* op, const char* name, const TensorView& x);
// Checks that `x`, if it is given, is contiguous and has this dtype and shape.
void expect_optional(const char* op, const char* name, OptIn x, DType dtype, std::initializer_list<int64_t> shape);

}  // namespace heed
