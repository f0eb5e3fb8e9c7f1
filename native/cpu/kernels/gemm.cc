// gemm: out[..., M, N] (+)= epilogue(a[..., M, K] · b[..., K, N]), every transpose and batch by strides.
//
// The epilogue (bias, activation or its derivative, residual) is applied to the sums while they are in L1. Problems of
// a few rows go to gemm_rows.h, bound by memory; the others to gemm_tiled.h, bound by the multipliers. The products of
// the backward pass are calls of this same operation: dA = dOut · Bᵀ, dB = Aᵀ · dOut.
#include "core/checks/gemm.h"
#include "core/kinds.h"
#include "cpu/kernels/gemm_rows.h"
#include "cpu/kernels/gemm_tiled.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr const char* kOp = "gemm";

// The layout of out, without gaps.
Matrices dense(const TensorView& out, float* data) {
  TensorView view = out;
  view.data = data;
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; i--) {
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
  return Matrices(view);
}

TensorView swapped(TensorView x) {
  for (int64_t* list : {x.shape, x.strides}) {
    const int64_t first = list[0];
    list[0] = list[1];
    list[1] = first;
  }
  return x;
}

// sum[C] (+)= Σ_k x[k, C], in any layout.
void sum_over_depth(Stream& stream, TensorView sum, In x, Bool accumulate) {
  if (x.contiguous()) return bias_backward(stream, sum, x, accumulate);
  sum.rank = 2;
  sum.shape[1] = sum.shape[0], sum.strides[1] = 1;
  sum.shape[0] = 1, sum.strides[0] = 0;
  reduce(stream, sum, x, static_cast<Int>(ReduceKind::sum), accumulate);
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::gemm(Stream& stream, Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact,
                    OptIn dact_preact, Int activation, Bool sum_of_a, Bool accumulate, Bool accumulate_sum) {
  check_gemm(out, sum, a, b, bias, residual, preact, dact_preact, activation, sum_of_a);
  expect_dtype(kOp, "a", a, DType::f32);
  if (sum) sum_over_depth(stream, *sum, sum_of_a ? swapped(a) : b, accumulate_sum);
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
  if (bias) p.bias = bias->f32();
  p.activation = static_cast<Activation>(activation);
  p.accumulate = accumulate;
  if (p.batch == 0 || p.m == 0 || p.n == 0) return;

  if (few_rows(p)) {
    stream.launch(kOp, [p] { multiply_few_rows(p); });
    return;
  }
  const Tiling tiling(p);
  const bool wait = accumulate && !p.plain() && tiling.passes > 1;
  const Stream::Workspace partial(stream, kOp, wait ? static_cast<size_t>(out.numel()) * sizeof(float) : 0);
  if (wait) p.partial = dense(out, partial.f32());
  const Stream::Workspace memory(stream, kOp, static_cast<size_t>(tiling.memory()) * sizeof(float));
  stream.launch(kOp, [p, tiling, floats = memory.f32()] { TiledProduct(p, tiling, floats).run(); });
}

}  // namespace heed::cpu
