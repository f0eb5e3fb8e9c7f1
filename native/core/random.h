// Definitions that the random operations of all backends share.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace heed {

// Purposes of random draws. Each is a stream of Philox (words 2 and 3 of its counter). With one seed, each purpose gets
// numbers of its own, so that a dropout mask does not depend on weights that were drawn with the same seed.
constexpr uint64_t kTensorDraws = 0;  // random tensors, such as the first weights of a model
constexpr uint64_t kDropoutDraws = 1;
constexpr uint64_t kSamplingDraws = 2;

// The first and the last number of a float dtype in [low, high). Draws of random_uniform stay between them when they
// are rounded. Both are `low` if the dtype has no number in the interval.
struct UniformBounds {
  float first, last;
};
UniformBounds uniform_bounds(DType dtype, float low, float high);

}  // namespace heed
