// Checks of argmax, topk, sample and log_probabilities.
#pragma once
#include "core/params.h"

namespace heed {

void check_argmax(Out ids, In inp);
void check_topk(Out values, Out ids, In inp);
void check_sample(Out ids, OptOut inputs, In logits, OptIn history, OptIn generated, OptIn bias, OptIn allowed,
                  In offsets, In numbers, In integers);
void check_log_probabilities(Out out, In logits, In ids);

}  // namespace heed
