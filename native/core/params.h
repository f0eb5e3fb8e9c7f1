// The words of ops.def: what a parameter of an operation may be.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace heed {

using In = const TensorView&;
using Out = const TensorView&;
using OptIn = const TensorView*;   // null where the caller passes null
using OptOut = const TensorView*;  // null where the caller passes null
using InList = const ViewList&;
using OutList = const ViewList&;
using Float = float;
using Int = int64_t;
using Bool = bool;

// Activations that kernels fuse; the numbers are shared with lib/ops/activation.ts.
enum class Activation : int64_t { none, relu, gelu_tanh, gelu_erf };

}  // namespace heed
