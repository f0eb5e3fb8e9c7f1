// Checks of the operands of quantize, dequantize, gemm_quantized and gemm_quantized_backward against ops.def and
// core/quantized.h.
#pragma once
#include "core/quantized.h"

namespace heed {

QuantizedLayout check_quantize(Out codes, Out scales, In weight, Int bits);
QuantizedLayout check_dequantize(Out out, OptIn ids, In codes, In scales, Int columns, Int bits);
QuantizedLayout check_gemm_quantized(Out out, In a, In codes, In scales, OptIn bias, OptIn residual, OptOut preact,
                                     Int activation, Int bits);
QuantizedLayout check_gemm_quantized_backward(Out dinp, In dout, In codes, In scales, Int bits);

}  // namespace heed
