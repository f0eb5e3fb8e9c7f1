// Checks of softmax's operands, for every backend.
#pragma once
#include "core/params.h"

namespace heed {

void check_softmax_forward(const char* op, Out out, In inp);
void check_softmax_backward(const char* op, Out dinp, In dout, In out);

}  // namespace heed
