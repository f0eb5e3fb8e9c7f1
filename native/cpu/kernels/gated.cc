// Gated activations (Shazeer, "GLU variants improve transformer", 2020): out = act(gate) · up; backward
// dgate (+)= dout · up · act'(gate), dup (+)= dout · act(gate).
//
// f32, equal shapes, any strides: gate and up may be the halves of one projection's rows. Contiguous rows run on whole
// vectors; other strides gather lanes. Parallel over elements. Backward needs the forward's inputs. Outputs may be an
// input's memory.
#include "core/checks/gated.h"

#include "cpu/kernels/activation.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

template <Activation activation>
void forward(const TensorView& out, const TensorView& gate, const TensorView& up) {
  const auto f = [](vf g, vf u) { return activate<activation>(g) * u; };
  const Loop<3> loop = make_loop({&out, &gate, &up});
  const int64_t so = loop.stride(0), sg = loop.stride(1), su = loop.stride(2);
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    float *to = out.f32() + offsets[0], *g = gate.f32() + offsets[1], *u = up.f32() + offsets[2];
    if (so == 1 && sg == 1 && su == 1)
      map_row(Contiguous{to}, n, false, f, Contiguous{g}, Contiguous{u});
    else
      map_row(Strided{to, so}, n, false, f, Strided{g, sg}, Strided{u, su});
  });
}

// A row of the gradients, in passing: Row is Contiguous or Strided.
template <Activation activation, class Row>
void backward_row(Row dgate, Row dup, Row dout, Row gate, Row up, int64_t n, bool accumulate_dgate,
                  bool accumulate_dup) {
  // `part` is nothing, or how many lanes there are.
  const auto step = [&](int64_t i, auto... part) {
    const vf d = dout.load(i, part...), g = gate.load(i, part...);
    const vf to_gate = d * up.load(i, part...) * activate_grad<activation>(g), to_up = d * activate<activation>(g);
    dgate.store(i, accumulate_dgate ? dgate.load(i, part...) + to_gate : to_gate, part...);
    dup.store(i, accumulate_dup ? dup.load(i, part...) + to_up : to_up, part...);
  };
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) step(i);
  if (i < n) step(i, n - i);
}

struct Gradients {
  TensorView dgate, dup, dout, gate, up;
  bool accumulate_dgate, accumulate_dup;
};

template <Activation activation>
void backward(const Gradients& x) {
  const Loop<5> loop = make_loop({&x.dgate, &x.dup, &x.dout, &x.gate, &x.up});
  bool contiguous = true;
  for (int i = 0; i < 5; i++) contiguous = contiguous && loop.stride(i) == 1;
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    const auto run = [&](auto row) {
      backward_row<activation>(row(x.dgate, 0), row(x.dup, 1), row(x.dout, 2), row(x.gate, 3), row(x.up, 4), n,
                               x.accumulate_dgate, x.accumulate_dup);
    };
    if (contiguous)
      run([&](const TensorView& view, int i) { return Contiguous{view.f32() + offsets[i]}; });
    else
      run([&](const TensorView& view, int i) { return Strided{view.f32() + offsets[i], loop.stride(i)}; });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::gated(Stream& stream, Out out, In gate, In up, Int activation) {
  expect_dtype("gated", "out", out, DType::f32);
  check_gated(out, gate, up, activation);
  if (out.empty()) return;
  stream.launch("gated", [out, gate, up, activation] {
    with_kind<Activation, kActivations>(activation, [&](auto k) { forward<k.value>(out, gate, up); });
  });
}

void HEED_ISA::gated_backward(Stream& stream, Out dgate, Out dup, In dout, In gate, In up, Int activation,
                              Accumulate accumulate_dgate, Accumulate accumulate_dup) {
  expect_dtype("gated_backward", "dgate", dgate, DType::f32);
  check_gated_backward(dgate, dup, dout, gate, up, activation);
  if (dgate.empty()) return;
  const Gradients gradients{dgate, dup, dout, gate, up, accumulate_dgate, accumulate_dup};
  stream.launch("gated_backward", [gradients, activation] {
    with_kind<Activation, kActivations>(activation, [&](auto k) { backward<k.value>(gradients); });
  });
}

}  // namespace heed::cpu
