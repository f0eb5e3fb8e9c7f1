// What linear_attention's host functions check on every device (ops.def has the shapes). Throws ERR_SHAPE or ERR_DTYPE.
#pragma once
#include "core/params.h"

namespace heed {

struct LinearAttentionSizes {
  int64_t B, T, H, D, Dv;
};

LinearAttentionSizes check_linear_attention(const char* op, Out out, OptOut final_state, In q, In k, In v,
                                            OptIn initial_state, OptIn decay);

}  // namespace heed
