// Checks of the operands of gated activations, for every backend.
#pragma once
#include "core/params.h"

namespace heed {

void check_gated(Out out, In gate, In up, Int activation);
void check_gated_backward(Out dgate, Out dup, In dout, In gate, In up, Int activation);

}  // namespace heed
