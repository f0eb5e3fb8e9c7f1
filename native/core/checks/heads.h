// Checks of tensors that hold heads, [B, T, H, D] with D contiguous, and of what goes with them. Each throws ERR_SHAPE
// or ERR_DTYPE.
#pragma once
#include "core/params.h"

namespace heed {

void expect_contiguous_heads(const char* op, const char* name, const TensorView& x);
// Contiguous, if given.
void expect_optional(const char* op, const char* name, OptIn x, DType dtype, std::initializer_list<int64_t> shape);

}  // namespace heed
