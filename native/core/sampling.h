// The options of one row of the operation `sample`, as they lie in its tensors. lib/ops/sample.ts checks and writes
// them.
#pragma once
#include <cstdint>

namespace heed {

struct SamplingNumbers {
  float repetition_penalty, presence_penalty, frequency_penalty;
  float temperature, top_p, min_p, typical_p;
};

struct SamplingIntegers {
  int32_t top_k;
  uint32_t seed_low, seed_high;
};

constexpr int64_t kSamplingNumbers = sizeof(SamplingNumbers) / sizeof(float);
constexpr int64_t kSamplingIntegers = sizeof(SamplingIntegers) / sizeof(int32_t);

// A word of `allowed` has the bits of 32 tokens, the first in its lowest bit.
constexpr int64_t kTokensPerWord = 32;

}  // namespace heed
