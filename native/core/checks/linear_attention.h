// Checks that the host functions of linear_attention make on every device (ops.def has the shapes). They throw
// ERR_SHAPE or ERR_DTYPE.
#pragma once
#include "core/params.h"

namespace heed {

struct LinearAttentionSizes {
  int64_t B, T, H, D, Dv;
};

LinearAttentionSizes check_linear_attention(const char* op, Out out, OptOut final_state, In q, In k, In v,
                                            OptIn initial_state, OptIn decay);

}  // namespace heed
