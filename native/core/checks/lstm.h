// Checks that the host functions of lstm_forward and lstm_backward make on every device (ops.def has the shapes). They
// throw ERR_SHAPE or ERR_DTYPE.
#pragma once
#include "core/params.h"

namespace heed {

struct LstmSizes {
  int64_t T, B, H;
};

LstmSizes check_lstm_forward(Out gates, AnyInOut h, AnyInOut c, In x, In weight, OptMixedIn bias);
LstmSizes check_lstm_backward(Out dgates, In dout, In gates, In c, In weight);

}  // namespace heed
