// The cell of a long short-term memory on vectors of units: c = σ(f) · c' + σ(i) · tanh(g), h = σ(o) · tanh(c), and its
// gradient. The backward pass computes activations again from the gates, which were kept as they were before them:
// derivatives that are computed from rounded activations would vanish where these are close to 1.
#pragma once
#include "cpu/kernels/activation.h"
#include "cpu/kernels/gemm.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kGates = 4;  // i, f, g, o

// Rounds to a storage type, so that what follows is computed from the number that is in memory.
template <class T>
inline vf round_to(vf x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return decode(T{}, encode(T{}, x));
}

struct CellState {
  vf c, h;
};

// c is rounded before h is computed from it.
template <class T>
inline CellState lstm_cell(const vf (&z)[kGates], vf c_before) {
  const vf c = round_to<T>(sigmoid(z[1]) * c_before + sigmoid(z[0]) * vtanh(z[2]));
  return {c, sigmoid(z[3]) * vtanh(c)};
}

struct Sloped {
  vf value, slope;
};
// σ and its derivative from e^-|x|.
inline Sloped sloped_sigmoid(vf x) {
  const vf e = vexp(-vabs(x)), r = set1(1.0f) / (set1(1.0f) + e), er = e * r;
  return {select(x > vf{}, r, er), er * r};
}
// tanh and its derivative, 4 σ'(2x), from e^-|2x|.
inline Sloped sloped_tanh(vf x) {
  const vf a = vabs(x), e = vexp(set1(-2.0f) * a), r = set1(1.0f) / (set1(1.0f) + e);
  return {tanh_of(x, (set1(1.0f) - e) * r), set1(4.0f) * (e * r) * r};
}

// Writes the gradients of z, and turns dc, the gradient of c by later steps, into that of c_before.
inline void lstm_cell_backward(const vf (&z)[kGates], vf c_before, vf c, vf dh, vf& dc, vf (&dz)[kGates]) {
  const Sloped i = sloped_sigmoid(z[0]), f = sloped_sigmoid(z[1]), o = sloped_sigmoid(z[3]);
  const Sloped g = sloped_tanh(z[2]), squashed = sloped_tanh(c);
  const vf d = dc + dh * o.value * squashed.slope;
  dz[0] = d * g.value * i.slope;
  dz[1] = d * c_before * f.slope;
  dz[2] = d * i.value * g.slope;
  dz[3] = dh * squashed.value * o.slope;
  dc = d * f.value;
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
