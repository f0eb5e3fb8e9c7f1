// Gated activations (Shazeer, "GLU variants improve transformer", 2020): out = act(gate) · up; backward dgate (+)= dout
// · up · act'(gate), dup (+)= dout · act(gate). They take one float dtype, equal shapes and any strides: gate and up
// may be the halves of one projection's rows. Results are computed in f32 and rounded once. Backward needs the
// forward's inputs. Outputs may be an input's memory. The activation is a branch that all threads take alike, once for
// a thread's vector.
#include "core/checks/gated.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

struct GatedParams {
  Elements<3> elements;
  void* out;
  const void *gate, *up;
  Activation activation;
};

struct GatedBackwardParams {
  Elements<5> elements;
  void *dgate, *dup;
  const void *dout, *gate, *up;
  Activation activation;
  bool accumulate_dgate, accumulate_dup;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ void gated_body(const GatedParams& p) {
  constexpr int V = 16 / sizeof(T);
  const Lanes<3, V> at = lanes_of<V>(p.elements);
  float gate[V], up[V];
  load_lane_floats<1, T>(gate, p.elements, at, p.gate);
  load_lane_floats<2, T>(up, p.elements, at, p.up);
  with_activation(p.activation, [&](auto f, auto) {
#pragma unroll
    for (int k = 0; k < V; k++) up[k] *= f(gate[k]);
  });
  store_lane_floats<T>(up, p.elements, at, p.out, false);
}

template <class T>
__device__ void gated_backward_body(const GatedBackwardParams& p) {
  constexpr int V = 16 / sizeof(T);
  const Lanes<5, V> at = lanes_of<V>(p.elements);
  float dout[V], gate[V], up[V];
  load_lane_floats<2, T>(dout, p.elements, at, p.dout);
  load_lane_floats<3, T>(gate, p.elements, at, p.gate);
  load_lane_floats<4, T>(up, p.elements, at, p.up);
  with_activation(p.activation, [&](auto f, auto slope) {
#pragma unroll
    for (int k = 0; k < V; k++) {
      const float value = f(gate[k]);
      gate[k] = dout[k] * up[k] * slope(gate[k]);
      up[k] = dout[k] * value;
    }
  });
  store_lane_floats<T>(gate, p.elements, at, p.dgate, p.accumulate_dgate);
  store_lane_floats<T, 1>(up, p.elements, at, p.dup, p.accumulate_dup);
}

#endif

HEED_KERNEL_FLOATS(gated_kernel, GatedParams, kElementThreads, 1, gated_body)
HEED_KERNEL_FLOATS(gated_backward_kernel, GatedBackwardParams, kElementThreads, 1, gated_backward_body)

#if !HEED_DEVICE_CODE

void host::gated(Stream& stream, Out out, In gate, In up, Int activation) {
  check_gated(out, gate, up, activation);
  if (out.empty()) return;
  for_launches<3>(
      {&out, &gate, &up}, vector_width(out.dtype), [&](const Elements<3>& elements, void* const* data, int64_t blocks) {
        stream.launch("gated", gated_kernel(out.dtype), {blocks},
                      GatedParams{elements, data[0], data[1], data[2], static_cast<Activation>(activation)});
      });
}

void host::gated_backward(Stream& stream, Out dgate, Out dup, In dout, In gate, In up, Int activation,
                          Accumulate accumulate_dgate, Accumulate accumulate_dup) {
  check_gated_backward(dgate, dup, dout, gate, up, activation);
  if (dgate.empty()) return;
  for_launches<5>({&dgate, &dup, &dout, &gate, &up}, vector_width(dgate.dtype),
                  [&](const Elements<5>& elements, void* const* data, int64_t blocks) {
                    stream.launch(
                        "gated_backward", gated_backward_kernel(dgate.dtype), {blocks},
                        GatedBackwardParams{elements, data[0], data[1], data[2], data[3], data[4],
                                            static_cast<Activation>(activation), accumulate_dgate, accumulate_dup});
                  });
}

#endif

}  // namespace heed::cuda
