// bias_backward: dbias[c] (+)= Σ_rows dout[row, c], dout [..., C].
#include "core/checks/gemm.h"
#include "cpu/kernels/sum_rows.h"

namespace heed::cpu {

void HEED_ISA::bias_backward(Stream& stream, Out dbias, In dout, Bool accumulate) {
  check_bias_backward(dbias, dout);
  const int64_t width = dout.dim(-1), rows = width ? dout.numel() / width : 0;
  sum_rows(stream, "bias_backward", Floats(dbias), Floats(dout), rows, width, width, 1, accumulate);
}

}  // namespace heed::cpu
