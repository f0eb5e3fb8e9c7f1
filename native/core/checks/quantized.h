// Checks of the operands of quantize, dequantize, gemm_quantized and gemm_quantized_backward against ops.def and
// core/quantized.h. The first three functions check what does not depend on the form of the weight.
#pragma once
#include "core/quantized.h"

namespace heed {

// Checks rows that are read from a weight: out [rows, K], or with ids [..., K], which has at least one dimension.
void check_rows(const char* op, Out out, OptIn ids, int64_t rows);
// Checks the operands of a product a [M, K] · weight with out [M, N], and of its backward.
void check_product(const char* op, Out out, In a, OptIn bias, OptIn residual, OptOut preact, Int activation,
                   Int precision);
void check_product_backward(const char* op, Out dinp, In dout);

QuantizedLayout check_quantize(Out codes, Out scales, In weight, Int bits);
QuantizedLayout check_dequantize(Out out, OptIn ids, In codes, In scales, Int columns, Int bits);
QuantizedLayout check_gemm_quantized(Out out, In a, In codes, In scales, OptIn bias, OptIn residual, OptOut preact,
                                     Int activation, Int precision, Int bits);
QuantizedLayout check_gemm_quantized_backward(Out dinp, In dout, In codes, In scales, Int bits);

}  // namespace heed
