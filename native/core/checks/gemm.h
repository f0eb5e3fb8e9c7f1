// Checks of the operands of gemm and bias_backward against ops.def.
#pragma once
#include "core/params.h"

namespace heed {

// Operands of gemm as its kernels take them: with a batch, or as matrices (ops.def), and transposed. It refers to the
// views that it was made from.
class GemmOperands {
 public:
  GemmOperands(Out out, In a, In b, OptIn residual, OptOut preact, OptIn dact_preact, Bool transpose_a,
               Bool transpose_b);
  GemmOperands(const GemmOperands&) = delete;
  GemmOperands& operator=(const GemmOperands&) = delete;

  const TensorView* out;
  const TensorView* a;
  const TensorView* b;
  const TensorView* residual;
  const TensorView* preact;
  const TensorView* dact_preact;

 private:
  void flatten(const char* name, const TensorView*& operand);
  void transpose(const TensorView*& operand);
  TensorView own_[6 + 2];  // each operand as a matrix, and those that are transposed
  int owned_ = 0;
};

void check_gemm(const GemmOperands& operands, OptOut sum, OptIn bias, Int activation, Bool sum_of_a);
void check_bias_backward(Out dbias, In dout);

}  // namespace heed
