// Checks of host functions that backends share. They are not inline: the kernels of the CPU are compiled once for each
// instruction set, and a function shared between those copies must not be linked in its AVX-512 form. Each check throws
// ERR_DTYPE or ERR_SHAPE.
#pragma once
#include "core/params.h"

namespace heed {

bool is_float(DType dtype);

// Checks that the dtype is one of activations: f32, bf16 or f16.
void expect_float(const char* op, const char* name, const TensorView& view);
void expect_same_dtype(const char* op, const char* name, const TensorView& view, const char* other_name,
                       const TensorView& other);
void expect_activation(const char* op, Int activation);
// Checks that parameters and their gradients have the dtype of the activations or f32.
void expect_parameter_dtype(const char* op, const char* name, const TensorView& view, DType activations);
// The same for the weights of products and tables, which beside activations in f32 may also be bf16 or f16.
void expect_weight_dtype(const char* op, const char* name, const TensorView& view, DType activations);

}  // namespace heed
