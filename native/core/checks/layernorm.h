// Checks of the operands of layer norm and the RMS norm, for every backend.
#pragma once
#include "core/params.h"

namespace heed {

void check_layernorm_forward(const char* op, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                             OptIn weight, OptIn bias, Float eps, Bool rms);
void check_layernorm_backward(const char* op, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                              OptIn weight, OptIn mean, In rstd);

}  // namespace heed
