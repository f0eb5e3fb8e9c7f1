// Checks of host functions that backends share. Not inline: kernels of the CPU are compiled once an instruction set,
// and a function shared between those copies must not be linked in its AVX-512 form. Each throws ERR_DTYPE or
// ERR_SHAPE.
#pragma once
#include "core/params.h"

namespace heed {

bool is_float(DType dtype);

// f32, bf16 or f16: activations.
void expect_float(const char* op, const char* name, const TensorView& view);
void expect_same_dtype(const char* op, const char* name, const TensorView& view, const char* other_name,
                       const TensorView& other);
void expect_activation(const char* op, Int activation);
// Parameters and their gradients: the activations' dtype or f32.
void expect_parameter_dtype(const char* op, const char* name, const TensorView& view, DType activations);

}  // namespace heed
