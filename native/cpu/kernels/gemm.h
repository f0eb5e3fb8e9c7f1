// What the parts of the matrix product share: the problem after the host function has checked it, its epilogue, and
// where each matrix of a batch lies. See gemm.cc for the whole.
#pragma once
#include "cpu/kernels/activation.h"

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
    float* p = data;
    for (int i = batch_rank - 1; i >= 0; i--) {
      p += batch % batch_shape[i] * batch_strides[i];
      batch /= batch_shape[i];
    }
    return p;
  }
};

struct Problem {
  int64_t batch, m, n, k;
  Matrices a, b, out, residual, preact, dact;  // data is null where an optional one is absent
  const float* bias;
  Activation activation;
  bool accumulate;

  // Whether the result is the bare product, so that an earlier value of `out` may be added at any time.
  bool plain() const {
    return !bias && !residual.data && !preact.data && !dact.data && activation == Activation::none;
  }
};

inline vf load_upto(const float* p, int64_t n) { return n >= kWidth ? load(p) : load_n(p, n); }
inline void store_upto(float* p, vf v, int64_t n) {
  if (n >= kWidth)
    store(p, v);
  else
    store_n(p, v, n);
}

// Puts a tile of sums (rows × columns, `stride` apart, readable to a whole vector) at (i, j) of a batch's output:
// added to what earlier passes over K left there unless this is the first, and through the epilogue if it is the last.
template <Activation activation>
inline void finish_rows(const Problem& p, const float* tile, int64_t stride, int64_t batch, int64_t i, int64_t j,
                        int64_t rows, int64_t columns, bool first, bool last) {
  const bool plain = p.plain();
  float* const out = p.out.at(batch) + i * p.out.row + j;
  const auto at = [&](const Matrices& m, int64_t r) { return m.data ? m.at(batch) + (i + r) * m.row + j : nullptr; };
  for (int64_t r = 0; r < rows; r++) {
    float* const c = out + r * p.out.row;
    const bool add = !first || (p.accumulate && plain);
    if (!last || plain) {
      for (int64_t v = 0; v < columns; v += kWidth) {
        const int64_t n = columns - v;
        const vf x = load(tile + r * stride + v);
        store_upto(c + v, add ? x + load_upto(c + v, n) : x, n);
      }
      continue;
    }
    const float* const dact = at(p.dact, r);
    const float* const residual = at(p.residual, r);
    float* const preact = at(p.preact, r);
    for (int64_t v = 0; v < columns; v += kWidth) {
      const int64_t n = columns - v;
      vf x = load(tile + r * stride + v);
      if (add) x = x + load_upto(c + v, n);
      if (p.bias) x = x + load_upto(p.bias + j + v, n);
      if (preact) store_upto(preact + v, x, n);
      x = dact ? x * activate_grad<activation>(load_upto(dact + v, n)) : activate<activation>(x);
      if (residual) x = x + load_upto(residual + v, n);
      if (p.accumulate) x = x + load_upto(c + v, n);
      store_upto(c + v, x, n);
    }
  }
}

inline void finish(const Problem& p, const float* tile, int64_t stride, int64_t batch, int64_t i, int64_t j,
                   int64_t rows, int64_t columns, bool first, bool last) {
  switch (p.activation) {
    case Activation::none:
      return finish_rows<Activation::none>(p, tile, stride, batch, i, j, rows, columns, first, last);
    case Activation::relu:
      return finish_rows<Activation::relu>(p, tile, stride, batch, i, j, rows, columns, first, last);
    case Activation::gelu_tanh:
      return finish_rows<Activation::gelu_tanh>(p, tile, stride, batch, i, j, rows, columns, first, last);
    case Activation::gelu_erf:
      return finish_rows<Activation::gelu_erf>(p, tile, stride, batch, i, j, rows, columns, first, last);
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
