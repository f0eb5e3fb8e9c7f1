// gemm: out[..., M, N] (+)= epilogue(a[..., M, K] · b[..., K, N]), every transpose and batch by strides.
//
// The epilogue (bias, activation or its derivative, residual) is applied to the sums while they are in L1. Problems of
// a few rows go to gemm_rows.h, bound by memory; the others to gemm_tiled.h, bound by the multipliers. The products of
// the backward pass are calls of this same operation: dA = dOut · Bᵀ, dB = Aᵀ · dOut.
#include "cpu/kernels/gemm_rows.h"
#include "cpu/kernels/gemm_tiled.h"

namespace heed::cpu {

void HEED_ISA::gemm(Stream& stream, Out out, In a, In b, OptIn bias, OptIn residual, OptOut preact, OptIn dact_preact,
                    Int activation, Bool accumulate) {
  constexpr const char* op = "gemm";
  if (out.rank < 2) fail(Code::shape, "%s: expected out with at least 2 dimensions, got %d", op, out.rank);
  expect_rank(op, "a", a, out.rank);
  expect_rank(op, "b", b, out.rank);
  for (const auto* view : {&out, &a, &b}) expect_dtype(op, "out, a and b", *view, DType::f32);
  const int64_t m = out.dim(-2), n = out.dim(-1), k = a.dim(-1);
  int64_t batch = 1;
  char given[160], wanted[160];
  bool fits = a.dim(-2) == m && b.dim(-2) == k && b.dim(-1) == n;
  for (int i = 0; i < out.rank - 2; i++) {
    fits = fits && a.shape[i] == out.shape[i] && b.shape[i] == out.shape[i];
    batch *= out.shape[i];
  }
  if (!fits)
    fail(Code::shape, "%s: expected a [..., %lld, K] and b [..., K, %lld] with equal leading sizes, got %s and %s", op,
         static_cast<long long>(m), static_cast<long long>(n), shape_string(a, wanted, sizeof wanted),
         shape_string(b, given, sizeof given));
  if (activation < 0 || activation > static_cast<int64_t>(Activation::gelu_erf))
    fail(Code::argument, "%s: expected an activation from 0 to 3, got %lld", op, static_cast<long long>(activation));
  if (bias) {
    expect_f32(op, "bias", *bias);
    expect_shape(op, "bias", *bias, {n});
  }
  const auto rows = [&](const char* name, const TensorView& view) {
    expect_dtype(op, name, view, DType::f32);
    expect_same_shape(op, name, view, out);
    if (n > 1 && view.stride(-1) != 1) fail(Code::shape, "%s: expected %s to be contiguous in its last dimension", op, name);
  };
  rows("out", out);
  Problem p{batch, m, n, k, Matrices(a), Matrices(b), Matrices(out), {}, {}, {}, bias ? bias->f32() : nullptr,
            static_cast<Activation>(activation), accumulate};
  const auto optional = [&](const char* name, const TensorView* view, Matrices& matrices) {
    if (!view) return;
    rows(name, *view);
    matrices = Matrices(*view);
  };
  optional("residual", residual, p.residual);
  optional("preact", preact, p.preact);
  optional("dact_preact", dact_preact, p.dact);
  if (batch == 0 || m == 0 || n == 0) return;

  if (few_rows(p)) {
    stream.launch(op, [p] { multiply_few_rows(p); });
    return;
  }
  const Tiling tiling(p);
  const Stream::Workspace packed_a(stream, op, static_cast<size_t>(tiling.a_size()) * sizeof(float));
  const Stream::Workspace packed_b(stream, op, static_cast<size_t>(tiling.b_size()) * sizeof(float));
  stream.launch(op, [p, tiling, pa = packed_a.f32(), pb = packed_b.f32()] { multiply_tiled(p, tiling, pa, pb); });
}

}  // namespace heed::cpu
