// Clipping by the global norm of the gradients, which all optimisers share.
#pragma once
#include "core/old_glibc.h"
#include "cpu/kernels/simd.h"

namespace heed::cpu::HEED_ISA {
namespace {

// The factor of the gradients. `skips` is true if their norm is NaN or infinite: the step then changes nothing.
struct Clipping {
  bool skips = false;
  float scale = 1;

  Clipping(const float* norm, float max_norm) {
    if (!norm) return;
    skips = !std::isfinite(*norm);
    scale = min_of(1.0f, max_norm / (*norm + 1e-6f));
  }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
