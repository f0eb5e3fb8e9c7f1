// Checks of the operands of gemm and bias_backward against ops.def.
#pragma once
#include "core/params.h"

namespace heed {

void check_gemm(Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact, OptIn dact_preact,
                Int activation, Bool sum_of_a);
void check_bias_backward(Out dbias, In dout);

}  // namespace heed
