// Checks of the operands of dequantize_blocks, gemm_blocks and gemm_blocks_backward against ops.def and core/blocks.h.
#pragma once
#include "core/blocks.h"
#include "core/params.h"

namespace heed {

BlockLayout check_dequantize_blocks(Out out, OptIn ids, In blocks, Int format);
BlockLayout check_gemm_blocks(Out out, In a, In blocks, OptIn bias, OptIn residual, OptOut preact, Int activation,
                              Int precision, Int format);
BlockLayout check_gemm_blocks_backward(Out dinp, In dout, In blocks, Int format);

}  // namespace heed
