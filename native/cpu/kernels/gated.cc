// Gated activations (Shazeer, "GLU variants improve transformer", 2020): out = act(gate) · up; backward dgate (+)= dout
// · up · act'(gate), dup (+)= dout · act(gate).
//
// They take equal shapes and any strides: gate and up may be the halves of one projection's rows. Contiguous rows run
// on whole vectors; other strides gather lanes. The work is parallel over elements. Backward needs the forward's
// inputs. Outputs may be an input's memory.
#include "core/checks/gated.h"

#include "cpu/kernels/activation.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// Computes a row of both gradients in one pass. Row is Contiguous or Strided.
template <Activation activation, class Row>
void backward_row(Row dgate, Row dup, Row dout, Row gate, Row up, int64_t n, bool accumulate_dgate,
                  bool accumulate_dup) {
  // `part` is empty, or the number of lanes.
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
    if (!contiguous)
      return run([&](const TensorView& view, int i) { return strided(view, offsets[i], loop.stride(i)); });
    with_float_type(x.dgate.dtype, [&](auto type) {
      using T = decltype(type);
      run([&](const TensorView& view, int i) { return Contiguous<T>{view.ptr<T>() + offsets[i]}; });
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::gated(Stream& stream, Out out, In gate, In up, Int activation) {
  check_gated(out, gate, up, activation);
  if (out.empty()) return;
  stream.launch("gated", [out, gate, up, activation] {
    with_kind<Activation, kActivations>(activation, [&](auto k) {
      map_elements(false, [](vf g, vf u) { return activate<decltype(k)::value>(g) * u; }, out, gate, up);
    });
  });
}

void HEED_ISA::gated_backward(Stream& stream, Out dgate, Out dup, In dout, In gate, In up, Int activation,
                              Accumulate accumulate_dgate, Accumulate accumulate_dup) {
  check_gated_backward(dgate, dup, dout, gate, up, activation);
  if (dgate.empty()) return;
  const Gradients gradients{dgate, dup, dout, gate, up, accumulate_dgate, accumulate_dup};
  stream.launch("gated_backward", [gradients, activation] {
    with_kind<Activation, kActivations>(activation, [&](auto k) { backward<k.value>(gradients); });
  });
}

}  // namespace heed::cpu
