// What layer norm takes, on every backend.
#pragma once
#include "core/params.h"

namespace heed {

void check_layernorm_forward(const char* op, Out out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual,
                             OptIn weight, OptIn bias, Float eps);
void check_layernorm_backward(const char* op, Out dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp,
                              OptIn weight, In mean, In rstd);

}  // namespace heed
