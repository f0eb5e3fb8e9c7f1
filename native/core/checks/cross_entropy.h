// Checks of cross-entropy's operands, for every backend.
#pragma once
#include "core/params.h"

namespace heed {

void check_cross_entropy(const char* op, Out loss, OptOut losses, OptOut dlogits, In logits, In targets, Int first,
                         Float smoothing, Float scale);

}  // namespace heed
