// What the parts of the matrix product share: the problem after the host function has checked it, its epilogue, and
// where each matrix of a batch lies. See gemm.cc for the whole.
#pragma once
#include "cpu/kernels/activation.h"
#include "cpu/kernels/gemm_pack.h"

namespace heed::cpu::HEED_ISA {
namespace {

// A [..., rows, columns] operand: strides of the last two dimensions and of the leading ones.
struct Matrices {
  float* data = nullptr;
  int64_t row = 0, column = 0;
  int batch_rank = 0;
  int64_t batch_shape[kMaxRank] = {}, batch_strides[kMaxRank] = {};

  Matrices() = default;
  explicit Matrices(const TensorView& view)
      : data(view.f32()), row(view.stride(-2)), column(view.stride(-1)), batch_rank(view.rank - 2) {
    for (int i = 0; i < batch_rank; i++) {
      batch_shape[i] = view.shape[i];
      batch_strides[i] = view.strides[i];
    }
  }

  float* at(int64_t batch) const {
    if (!data) return nullptr;
    float* p = data;
    for (int i = batch_rank - 1; i >= 0; i--) {
      p += batch % batch_shape[i] * batch_strides[i];
      batch /= batch_shape[i];
    }
    return p;
  }
};

struct Problem {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  Matrices a, b, out, residual, preact, dact;  // data is null where an optional one is absent
  Matrices partial;  // where sums over a part of K wait for the rest: out, unless the epilogue needs its old value
  const float* bias = nullptr;
  Activation activation = Activation::none;
  bool accumulate = false;

  // Whether the result is the bare product, so that an earlier value of `out` may be added at any time.
  bool plain() const { return !bias && !residual.data && !preact.data && !dact.data && activation == Activation::none; }
};

// One matrix of the batch, at the beginning of each of its operands.
struct Target {
  float *out, *partial, *preact;
  const float *dact, *residual;

  Target(const Problem& p, int64_t batch)
      : out(p.out.at(batch)),
        partial(p.partial.at(batch)),
        preact(p.preact.at(batch)),
        dact(p.dact.at(batch)),
        residual(p.residual.at(batch)) {}
};

inline void store_upto(float* p, vf v, int64_t n) {
  if (n >= kWidth)
    store(p, v);
  else
    store_n(p, v, n);
}

// Puts a tile of sums (rows × columns, `stride` apart, readable to a whole vector) at (i, j) of its matrix: added to
// what earlier passes over K left unless this is the first, and through the epilogue if it is the last.
template <Activation activation>
inline void finish_rows(const Problem& p, const Target& t, const float* tile, int64_t stride, int64_t i, int64_t j,
                        int64_t rows, int64_t columns, bool first, bool last) {
  const bool plain = p.plain();
  const bool add = !first || (p.accumulate && plain);
  const auto at = [j](auto* matrix, const Matrices& m, int64_t r) { return matrix ? matrix + r * m.row + j : nullptr; };
  for (int64_t r = i; r < i + rows; r++, tile += stride) {
    float* const out = at(t.out, p.out, r);
    float* const partial = at(t.partial, p.partial, r);
    if (!last || plain) {
      for (int64_t v = 0; v < columns; v += kWidth) {
        const int64_t n = columns - v;
        const vf x = load(tile + v);
        store_upto(partial + v, add ? x + load_upto(partial + v, n) : x, n);
      }
      continue;
    }
    float* const preact = at(t.preact, p.preact, r);
    const float* const dact = at(t.dact, p.dact, r);
    const float* const residual = at(t.residual, p.residual, r);
    for (int64_t v = 0; v < columns; v += kWidth) {
      const int64_t n = columns - v;
      vf x = load(tile + v);
      if (add) x = x + load_upto(partial + v, n);
      if (p.bias) x = x + load_upto(p.bias + j + v, n);
      if (preact) store_upto(preact + v, x, n);
      x = dact ? x * activate_grad<activation>(load_upto(dact + v, n)) : activate<activation>(x);
      if (residual) x = x + load_upto(residual + v, n);
      if (p.accumulate) x = x + load_upto(out + v, n);
      store_upto(out + v, x, n);
    }
  }
}

inline void finish(const Problem& p, const Target& t, const float* tile, int64_t stride, int64_t i, int64_t j,
                   int64_t rows, int64_t columns, bool first, bool last) {
  switch (p.activation) {
    case Activation::none:
      return finish_rows<Activation::none>(p, t, tile, stride, i, j, rows, columns, first, last);
    case Activation::relu:
      return finish_rows<Activation::relu>(p, t, tile, stride, i, j, rows, columns, first, last);
    case Activation::gelu_tanh:
      return finish_rows<Activation::gelu_tanh>(p, t, tile, stride, i, j, rows, columns, first, last);
    case Activation::gelu_erf:
      return finish_rows<Activation::gelu_erf>(p, t, tile, stride, i, j, rows, columns, first, last);
    case Activation::silu:
      return finish_rows<Activation::silu>(p, t, tile, stride, i, j, rows, columns, first, last);
    case Activation::sigmoid:
      return finish_rows<Activation::sigmoid>(p, t, tile, stride, i, j, rows, columns, first, last);
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
