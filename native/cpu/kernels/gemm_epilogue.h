// What becomes of a tile of sums on its way to memory, step by step over the tile, which is in L1: bias, activation or
// its derivative, residual, the old value. Each operand is read and written in its own dtype.
#pragma once
#include "cpu/kernels/activation.h"
#include "cpu/kernels/gemm.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Sums of rows × columns, which can be read and written up to a whole vector.
struct Tile {
  float* sums;
  int64_t stride, rows, columns;
};

// Calls f(sums, r, c, n) for n columns from c (a vector, or the rest of a row) of each row r.
template <class F>
inline void each_vector(const Tile& tile, const F& f) {
  for (int64_t r = 0; r < tile.rows; r++)
    for (int64_t c = 0; c < tile.columns; c += kWidth) f(tile.sums + r * tile.stride + c, r, c, tile.columns - c);
}

__attribute__((noinline)) void add(const Tile& tile, Floats from, int64_t row) {
  from.visit([&](const auto* p) {
    each_vector(tile, [&](float* sums, int64_t r, int64_t c, int64_t n) {
      store(sums, load(sums) + load_upto(p + r * row + c, n));
    });
  });
}

__attribute__((noinline)) void put(const Tile& tile, Floats to, int64_t row) {
  to.visit([&](auto* p) {
    each_vector(tile,
                [&](float* sums, int64_t r, int64_t c, int64_t n) { store_upto(p + r * row + c, load(sums), n); });
  });
}

// What put() left.
__attribute__((noinline)) void get(const Tile& tile, Floats from, int64_t row) {
  from.visit([&](const auto* p) {
    each_vector(tile,
                [&](float* sums, int64_t r, int64_t c, int64_t n) { store(sums, load_upto(p + r * row + c, n)); });
  });
}

template <Activation activation>
inline void activate_tile(const Tile& tile) {
  each_vector(tile, [&](float* sums, int64_t, int64_t, int64_t) { store(sums, activate<activation>(load(sums))); });
}

// Multiplies by the activation's slope at `preact`.
template <Activation activation>
inline void slope_tile(const Tile& tile, Floats preact, int64_t row) {
  preact.visit([&](const auto* p) {
    each_vector(tile, [&](float* sums, int64_t r, int64_t c, int64_t n) {
      store(sums, load(sums) * activate_grad<activation>(load_upto(p + r * row + c, n)));
    });
  });
}

template <Activation activation>
inline void activate_or_slope(const Tile& tile, Floats preact, int64_t row) {
  if (preact)
    slope_tile<activation>(tile, preact, row);
  else
    activate_tile<activation>(tile);
}

__attribute__((noinline)) void apply(Activation activation, const Tile& tile, Floats preact, int64_t row) {
  switch (activation) {
    case Activation::none:
      return;
    case Activation::relu:
      return activate_or_slope<Activation::relu>(tile, preact, row);
    case Activation::gelu_tanh:
      return activate_or_slope<Activation::gelu_tanh>(tile, preact, row);
    case Activation::gelu_erf:
      return activate_or_slope<Activation::gelu_erf>(tile, preact, row);
    case Activation::silu:
      return activate_or_slope<Activation::silu>(tile, preact, row);
    case Activation::sigmoid:
      return activate_or_slope<Activation::sigmoid>(tile, preact, row);
  }
}

// One matrix of the batch: the beginning of each of its operands.
struct Target {
  Floats out, partial, preact, dact, residual;

  Target(const Problem& p, int64_t batch)
      : out(p.out.at(batch)),
        partial(p.partial.at(batch)),
        preact(p.preact.at(batch)),
        dact(p.dact.at(batch)),
        residual(p.residual.at(batch)) {}
};

// Puts a tile at (i, j) of its matrix, after the last pass over K through the epilogue. The sums have in them what
// earlier passes left, but in the first one nothing of `out`.
inline void finish(const Problem& p, const Target& t, const Tile& tile, int64_t i, int64_t j, bool first, bool last) {
  const auto at = [&](const Matrices& matrices, Floats matrix) { return matrix + (i * matrices.row + j); };
  const bool early = p.accumulate && p.plain() && p.partial.data.data == p.out.data.data;
  if (first && early) add(tile, at(p.partial, t.partial), p.partial.row);
  if (!last) return put(tile, at(p.partial, t.partial), p.partial.row);
  if (p.bias) add(tile, p.bias + j, 0);
  if (p.preact) put(tile, at(p.preact, t.preact), p.preact.row);
  apply(p.activation, tile, p.dact ? at(p.dact, t.dact) : Floats(), p.dact.row);
  if (p.residual) add(tile, at(p.residual, t.residual), p.residual.row);
  if (p.accumulate && !early) add(tile, at(p.out, t.out), p.out.row);
  put(tile, at(p.out, t.out), p.out.row);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
