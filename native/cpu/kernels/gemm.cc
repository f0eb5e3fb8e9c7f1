// gemm: out[..., M, N] (+)= epilogue(a[..., M, K] · b[..., K, N]), every transpose and batch by strides.
//
// The epilogue (bias, activation or its derivative, residual) is applied to the sums while they are in L1. Problems of
// a few rows go to gemm_rows.h, bound by memory; the others to gemm_tiled.h, bound by the multipliers. The products of
// the backward pass are calls of this same operation: dA = dOut · Bᵀ, dB = Aᵀ · dOut.
#include "cpu/kernels/gemm_rows.h"
#include "cpu/kernels/gemm_tiled.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr const char* kOp = "gemm";

void expect_operands(const TensorView& out, const TensorView& a, const TensorView& b) {
  char a_shape[160], b_shape[160];
  if (out.rank < 2)
    fail(Code::shape, "%s: expected out with at least 2 dimensions, got shape %s", kOp,
         shape_string(out, a_shape, sizeof a_shape));
  expect_rank(kOp, "a", a, out.rank);
  expect_rank(kOp, "b", b, out.rank);
  bool fits = a.dim(-2) == out.dim(-2) && a.dim(-1) == b.dim(-2) && b.dim(-1) == out.dim(-1);
  for (int i = 0; i < out.rank - 2; i++) fits = fits && a.shape[i] == out.shape[i] && b.shape[i] == out.shape[i];
  if (!fits)
    fail(Code::shape, "%s: expected a [..., %lld, K] and b [..., K, %lld] with the leading sizes of out, got %s and %s",
         kOp, static_cast<long long>(out.dim(-2)), static_cast<long long>(out.dim(-1)),
         shape_string(a, a_shape, sizeof a_shape), shape_string(b, b_shape, sizeof b_shape));
  expect_dtype(kOp, "a", a, DType::f32);
  expect_dtype(kOp, "b", b, DType::f32);
}

// A matrix that is read or written in whole vectors, of out's shape; absent ones stay null.
Matrices expect_rows(const char* name, const TensorView* view, const TensorView& out) {
  if (!view) return {};
  expect_same_shape(kOp, name, *view, out);
  expect_dtype(kOp, name, *view, DType::f32);
  if (out.dim(-1) > 1 && view->stride(-1) != 1)
    fail(Code::shape, "%s: expected %s to be contiguous in its last dimension, got a stride of %lld", kOp, name,
         static_cast<long long>(view->stride(-1)));
  return Matrices(*view);
}

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

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::gemm(Stream& stream, Out out, In a, In b, OptIn bias, OptIn residual, OptOut preact, OptIn dact_preact,
                    Int activation, Bool accumulate) {
  expect_operands(out, a, b);
  Problem p;
  p.m = out.dim(-2);
  p.n = out.dim(-1);
  p.k = a.dim(-1);
  for (int i = 0; i < out.rank - 2; i++) p.batch *= out.shape[i];
  p.a = Matrices(a);
  p.b = Matrices(b);
  p.out = p.partial = expect_rows("out", &out, out);
  p.residual = expect_rows("residual", residual, out);
  p.preact = expect_rows("preact", preact, out);
  p.dact = expect_rows("dact_preact", dact_preact, out);
  if (bias) {
    expect_shape(kOp, "bias", *bias, {p.n});
    expect_f32(kOp, "bias", *bias);
    p.bias = bias->f32();
  }
  if (activation < 0 || activation > static_cast<int64_t>(Activation::gelu_erf))
    fail(Code::argument, "%s: expected an activation from 0 to 3, got %lld", kOp, static_cast<long long>(activation));
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
