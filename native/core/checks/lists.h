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

struct SgdNumbers {
  Float max_norm, lr, momentum, weight_decay;
  Bool nesterov;
};
struct LionNumbers {
  Float max_norm, lr, beta1, beta2, weight_decay;
};

void check_sgd(InOutList params, InList grads, InOutList m, OptIn norm, const SgdNumbers& numbers);
void check_lion(InOutList params, InList grads, InOutList m, OptIn norm, const LionNumbers& numbers);
void check_lerp_list(InOutList outs, InList inps, OptIn norm, Float max_norm, Float weight);
void check_scale_list(InOutList tensors, Float factor);

}  // namespace heed
