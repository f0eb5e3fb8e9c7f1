// The words of ops.def: the kinds of parameters that an operation may have.
#pragma once
#include <cstdint>

#include "core/kinds.h"
#include "core/tensor.h"

namespace heed {

// Tensors. The word states the rule for the dtype: In and Out have the operation's dtype T, which is f32, bf16 or f16;
// Mixed… has T or f32; F32…, Bf16…, I32… and U8… have that type; Any… has any type. Opt… is null if the caller passes
// null. An …Out is written completely (all of the view) unless it is added to; an …InOut keeps what is not overwritten.
using In = const TensorView&;
using Out = const TensorView&;
using OptIn = const TensorView*;
using OptOut = const TensorView*;
using MixedIn = const TensorView&;
using MixedOut = const TensorView&;
using OptMixedIn = const TensorView*;
using OptMixedOut = const TensorView*;
using F32In = const TensorView&;
using F32Out = const TensorView&;
using OptF32In = const TensorView*;
using OptF32Out = const TensorView*;
using Bf16In = const TensorView&;
using Bf16Out = const TensorView&;
using I32In = const TensorView&;
using I32Out = const TensorView&;
using OptI32In = const TensorView*;
using OptI32Out = const TensorView*;
using U8In = const TensorView&;
using U8Out = const TensorView&;
using OptU8In = const TensorView*;
using AnyIn = const TensorView&;
using AnyOut = const TensorView&;
using AnyInOut = const TensorView&;
using OptF32InOut = const TensorView*;
using InList = const ViewList&;
using OutList = const ViewList&;
using InOutList = const ViewList&;
using Float = float;
using Int = int64_t;
using Bool = bool;
// Says whether an output is added to. The first Accumulate belongs to the first output, and so on.
using Accumulate = bool;

}  // namespace heed
