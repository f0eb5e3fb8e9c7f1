// Checks of the operations over lists of tensors.
#pragma once
#include "core/params.h"

namespace heed {

struct AdamwNumbers {
  Float max_norm, lr, beta1, beta2, eps, weight_decay;
  Int step;
};

void check_copy_list(OutList outs, InList inps);
void check_global_norm(Out norm, InList grads);
void check_adamw(InOutList params, InList grads, InOutList m, InOutList v, OptIn norm, const AdamwNumbers& numbers);

}  // namespace heed
