// Checks of argmax, topk and sample.
#pragma once
#include "core/params.h"

namespace heed {

struct SampleNumbers {
  Float temperature;
  Int top_k;
  Float top_p, min_p, repetition_penalty;
};

void check_argmax(Out ids, In inp);
void check_topk(Out values, Out ids, In inp);
void check_sample(Out ids, OptOut inputs, In logits, OptIn history, In offsets, const SampleNumbers& numbers);

}  // namespace heed
