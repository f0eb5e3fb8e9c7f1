// gemm_quantized: out[M, N] = activation(a[M, K] · Ŵ + bias) + residual, with Ŵ in 8 or 4 bits (core/quantized.h).
//
// One row or a few rows (decoding) are bound by reading the codes once. With many rows, blocks of rows stay in L2 and
// the codes are read once per block. With AVX512-VNNI activations are cut into bytes (gemm_quantized_int8.h); without
// it codes become floats (gemm_quantized_f32.h). A column is summed by one thread in the order of K, so the bits do not
// change with the number of threads.
#include "core/checks/quantized.h"
#include "cpu/isa.h"
#include "cpu/kernels/gemm_quantized_f32.h"
#include "cpu/kernels/gemm_quantized_int8.h"

namespace heed::cpu {

void HEED_ISA::gemm_quantized(Stream& stream, Out out, In a, In codes, In scales, OptIn bias, OptIn residual,
                              OptOut preact, Int activation, Int precision, Int bits) {
  const char* op = "gemm_quantized";
  const QuantizedLayout weight =
      check_gemm_quantized(out, a, codes, scales, bias, residual, preact, activation, precision, bits);
  if (out.empty()) return;
  const QuantizedProduct p{weight,
                           a.dim(0),
                           codes.ptr<uint8_t>(),
                           scales.ptr<bf16>(),
                           a,
                           out,
                           bias ? *bias : TensorView{},
                           residual ? *residual : TensorView{},
                           preact ? *preact : TensorView{},
                           static_cast<Activation>(activation)};
#ifdef HEED_INT8_DOT
  if (int8_dot()) {
    return with_digits(digits_of(a, precision), [&](auto digits) {
      constexpr int D = digits.value;
      const Stream::Workspace memory(stream, op, static_cast<size_t>(Digits<D>::bytes(weight, p.rows)));
      stream.launch(op, [p, bytes = static_cast<char*>(memory.data())] {
        p.weight.bits == 8 ? multiply_digits<8, D>(p, bytes) : multiply_digits<4, D>(p, bytes);
      });
    });
  }
#endif
  const Stream::Workspace memory(stream, op, static_cast<size_t>(p.rows * weight.padded()) * sizeof(float));
  stream.launch(
      op, [p, rows = memory.f32()] { p.weight.bits == 8 ? multiply_floats<8>(p, rows) : multiply_floats<4>(p, rows); });
}

}  // namespace heed::cpu
