// gemm: out[..., M, N] (+)= epilogue(a[..., M, K] · b[..., K, N]). Strides express every transpose and batch.
//
// The epilogue (bias, activation or its derivative, residual) is applied to the sums while they are in L1. Problems of
// a few rows go to gemm_rows.h, which is bound by memory; those with a thin operand, such as a LoRA's, go to
// gemm_thin.h and gemm_short_k.h; the others go to gemm_tiled.h, which is bound by the multipliers. The products of the
// backward pass are calls of this same operation: dA = dOut · Bᵀ, dB = Aᵀ · dOut. gemm_quantized_backward is dA = dOut
// · Ŵᵀ for a weight in 8 or 4 bits, whose codes become floats when a panel of it is packed (gemm_pack_quantized.h).
//
// A b in f32 beside an a in bf16 or f16 is rounded to a's dtype when a panel of it is packed, so that nothing has to
// make a copy of a weight first. A b in bf16 or f16 beside an a in f32, as in a model that computes in f32 with weights
// as a file stores them, stands for the f32 numbers that it is: the result has the bits that a copy in f32 would give,
// and memory is read in 16 bits. bf16 and f16 are widened to f32 as they are read. Many rows of bf16 are multiplied
// directly if the machine has the instruction for it (AVX512-BF16). It adds the exact products of two pairs to a sum in
// f32, with each addition rounded to nearest, and treats subnormal numbers (below 2^-126) as zero.
#include "core/checks/gemm.h"
#include "core/checks/quantized.h"
#include "cpu/kernels/conv2d.h"
#include "cpu/kernels/gemm_rows.h"
#include "cpu/kernels/gemm_thin.h"
#include "cpu/kernels/gemm_tiled.h"
#include "cpu/kernels/sum_rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr const char* kOp = "gemm";

// Returns the layout of out, without gaps and in f32.
Matrices dense(const TensorView& out, float* data) {
  TensorView view = out;
  view.data = data;
  view.dtype = DType::f32;
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; i--) {
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
  return Matrices(view);
}

void multiply_many_rows(Stream& stream, const char* op, Problem p, Out out) {
  const Tiling tiling(p);
  const bool wait = tiling.passes > 1 && (out.dtype != DType::f32 || (p.accumulate && !p.plain()));
  const Stream::Workspace partial(stream, op, wait ? static_cast<size_t>(out.numel()) * sizeof(float) : 0);
  if (wait) p.partial = dense(out, partial.f32());
  const Stream::Workspace memory(stream, op, static_cast<size_t>(tiling.memory()) * sizeof(float));
  stream.launch(op, [p, tiling, floats = memory.f32()] { TiledProduct(p, tiling, floats).run(); });
}

void multiply(Stream& stream, Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact,
              OptIn dact_preact, Int activation, Bool sum_of_a, Bool accumulate, Bool accumulate_sum) {
  if (sum) {
    const Matrices of(sum_of_a ? a : b);
    sum_rows(stream, kOp, Floats(*sum), of.data, a.dim(-1), sum->dim(0), sum_of_a ? of.column : of.row,
             sum_of_a ? of.row : of.column, accumulate_sum);
  }
  Problem p;
  p.m = out.dim(-2);
  p.n = out.dim(-1);
  p.k = a.dim(-1);
  for (int i = 0; i < out.rank - 2; i++) p.batch *= out.shape[i];
  p.a = Matrices(a);
  p.b = Matrices(b);
  p.out = p.partial = Matrices(out);
  if (residual) p.residual = Matrices(*residual);
  if (preact) p.preact = Matrices(*preact);
  if (dact_preact) p.dact = Matrices(*dact_preact);
  if (bias) p.bias = Floats(*bias);
  p.activation = static_cast<Activation>(activation);
  p.accumulate = accumulate;
  if (p.batch == 0 || p.m == 0 || p.n == 0) return;

  if (Thin::takes(p)) {
    const Thin thin(p);
    const Stream::Workspace memory(stream, kOp, static_cast<size_t>(thin.floats()) * sizeof(float));
    stream.launch(kOp, [p, thin, memory = memory.f32()] { multiply_thin(p, thin, memory); });
    return;
  }
  if (few_rows(p)) {
    const FewRows few(p);
    const Stream::Workspace partial(stream, kOp, static_cast<size_t>(few.floats(p)) * sizeof(float));
    stream.launch(kOp, [p, few, partial = partial.f32()] { multiply_few_rows(p, few, partial); });
    return;
  }
  if (ShortK::takes(p)) {
    const ShortK product(p);
    const Stream::Workspace memory(stream, kOp, static_cast<size_t>(product.floats()) * sizeof(float));
    stream.launch(kOp, [p, product, memory = memory.f32()] { multiply_short_k(p, product, memory); });
    return;
  }
  multiply_many_rows(stream, kOp, p, out);
}

}  // namespace

void multiply_patches(Stream& stream, const char* op, const PatchProduct& product) {
  const TensorView &out = *product.out, &b = *product.b;
  Problem p;
  p.batch = out.rank > 2 ? out.shape[0] : 1;
  p.m = out.dim(-2);
  p.n = out.dim(-1);
  p.k = b.dim(-2);
  p.patches = {
      product.y,         product.x, Floats(*product.images), product.images->shape[0], product.images->shape[3],
      product.transposed};
  p.a.data = p.patches.images;  // for its dtype
  p.b = Matrices(b);
  p.out = p.partial = Matrices(out);
  if (product.preact) p.preact = Matrices(*product.preact);
  if (product.bias) p.bias = Floats(*product.bias);
  p.activation = product.activation;
  p.accumulate = product.accumulate;
  multiply_many_rows(stream, op, p, out);
}

}  // namespace HEED_ISA

void HEED_ISA::gemm(Stream& stream, Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact,
                    OptIn dact_preact, Int activation, Bool sum_of_a, Bool accumulate, Bool accumulate_sum,
                    Bool transpose_a, Bool transpose_b) {
  const GemmOperands of(out, a, b, residual, preact, dact_preact, transpose_a, transpose_b);
  check_gemm(of, sum, bias, activation, sum_of_a);
  multiply(stream, *of.out, sum, *of.a, *of.b, bias, of.residual, of.preact, of.dact_preact, activation, sum_of_a,
           accumulate, accumulate_sum);
}

void HEED_ISA::gemm_quantized_backward(Stream& stream, Out dinp, In dout, In codes, In scales, Bool accumulate,
                                       Int bits) {
  Problem p;
  const QuantizedLayout weight = check_gemm_quantized_backward(dinp, dout, codes, scales, bits);
  p.quantized = {weight, codes.ptr<uint8_t>(), scales.ptr<bf16>()};
  p.m = dout.dim(0);
  p.n = weight.K;
  p.k = weight.N;
  p.a = Matrices(dout);
  p.out = p.partial = Matrices(dinp);
  p.accumulate = accumulate;
  if (dinp.empty()) return;
  multiply_many_rows(stream, "gemm_quantized_backward", p, dinp);
}

}  // namespace heed::cpu
