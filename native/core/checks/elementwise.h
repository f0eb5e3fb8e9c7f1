// Checks of the elementwise operations, reductions and random tensors. Activations are f32, bf16 or f16 here; a backend
// that does not take all of these dtypes refuses the others before it calls these checks.
#pragma once
#include "core/params.h"

namespace heed {

// Refuses an output with two elements in the same place, which would be a race.
void expect_no_broadcast(const char* op, const char* name, const TensorView& view);

// Checks that the operand has the dtype and shape of `out`.
void expect_operand(const char* op, const char* name, const TensorView& view, const TensorView& out);

// Returns true if an operand of `binary` is a single f32 number beside 16-bit tensors.
bool is_number(const TensorView& view, const TensorView& out);

// Returns a mask of the bits by which `where` tests a condition of this dtype: an element is 0 if they are all 0. The
// mask leaves out the sign of floats.
uint32_t condition_bits(DType dtype);

void check_fill(Out out);
void check_copy(Out out, In inp, Bool accumulate);
void check_unary(Out out, In inp, Int kind);
void check_unary_backward(Out dinp, In dout, In inp, Int kind);
void check_binary(Out out, MixedIn a, MixedIn b, Int kind);
void check_where(Out out, AnyIn condition, AnyIn a, AnyIn b);
void check_reduce(Out out, In inp, Int kind);
void check_dropout(Out out, In inp, Float p);
void check_random_normal(Out out, Float mean, Float stddev);
void check_random_uniform(Out out, Float low, Float high);

}  // namespace heed
