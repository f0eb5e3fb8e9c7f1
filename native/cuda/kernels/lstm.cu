// lstm_forward and lstm_backward: a long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000) over all
// steps. A step is a product of gemm(), which writes the gates, and a kernel for the cell: c = σ(f) · c' + σ(i) ·
// tanh(g), h = σ(o) · tanh(c). The host enqueues them one after the other, since each step needs the one before it.
//
// A thread has one unit of one row. The backward pass computes activations again from the gates, which were kept as
// they were before them; dh by the next step's gates and the gradient of c are in f32.
#include "core/checks/lstm.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

// Rows of one step: gates and dgates are [rows, 4H], all others are [rows, H].
struct LstmCellParams {
  const void* gates;
  const void* c_before;
  void *c, *h;
  Division H;
  uint32_t size;  // rows · H
};

struct LstmCellBackwardParams {
  void* dgates;
  const void *dout, *gates, *c_before, *c;
  const float* dh;  // by the next step's gates
  float* dc;        // by the next steps; becomes the gradient of c_before
  Division H;
  uint32_t size;
  bool last;  // true if there is no next step
};

constexpr int kGates = 4;  // i, f, g, o

#if HEED_DEVICE_CODE

// The place of the first gate of a unit. The others are H apart.
__device__ __forceinline__ int64_t first_gate(uint32_t at, const Division& H) {
  const uint32_t row = divide(at, H);
  return static_cast<int64_t>(row) * (kGates - 1) * H.divisor + at;
}

template <class T>
__device__ __forceinline__ void load_gates(float (&z)[kGates], const void* gates, int64_t first, const Division& H) {
#pragma unroll
  for (int q = 0; q < kGates; q++) z[q] = to_float(static_cast<const T*>(gates)[first + q * int64_t{H.divisor}]);
}

template <class T>
__device__ void lstm_cell_body(const LstmCellParams& p) {
  const uint32_t at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at >= p.size) return;
  float z[kGates];
  load_gates<T>(z, p.gates, first_gate(at, p.H), p.H);
  const float before = to_float(static_cast<const T*>(p.c_before)[at]);
  const T c = from_float<T>(sigmoid(z[1]) * before + sigmoid(z[0]) * tanhf(z[2]));
  static_cast<T*>(p.c)[at] = c;
  // h follows from the number that is in memory.
  static_cast<T*>(p.h)[at] = from_float<T>(sigmoid(z[3]) * tanhf(to_float(c)));
}

__device__ __forceinline__ float tanh_grad(float x) { return 4.0f * sigmoid_grad(x + x); }

template <class T>
__device__ void lstm_cell_backward_body(const LstmCellBackwardParams& p) {
  const uint32_t at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at >= p.size) return;
  float z[kGates];
  const int64_t first = first_gate(at, p.H);
  load_gates<T>(z, p.gates, first, p.H);
  const float before = to_float(static_cast<const T*>(p.c_before)[at]), c = to_float(static_cast<const T*>(p.c)[at]);
  float dh = to_float(static_cast<const T*>(p.dout)[at]), d = 0;
  if (!p.last) {
    dh += p.dh[at];
    d = p.dc[at];
  }
  d += dh * sigmoid(z[3]) * tanh_grad(c);
  p.dc[at] = d * sigmoid(z[1]);
  const float dz[kGates] = {d * tanhf(z[2]) * sigmoid_grad(z[0]), d * before * sigmoid_grad(z[1]),
                            d * sigmoid(z[0]) * tanh_grad(z[2]), dh * tanhf(c) * sigmoid_grad(z[3])};
#pragma unroll
  for (int q = 0; q < kGates; q++) static_cast<T*>(p.dgates)[first + q * int64_t{p.H.divisor}] = from_float<T>(dz[q]);
}

#endif

HEED_KERNEL_FLOATS(lstm_cell_kernel, LstmCellParams, kElementThreads, 1, lstm_cell_body)
HEED_KERNEL_FLOATS(lstm_cell_backward_kernel, LstmCellBackwardParams, kElementThreads, 1, lstm_cell_backward_body)

#if !HEED_DEVICE_CODE

namespace {

// Calls f(first row, number of elements, blocks) for the launches of a step: as many rows at once as 32-bit indices
// reach.
template <class F>
void for_rows(const LstmSizes& n, const F& f) {
  const int64_t most = INT32_MAX / n.H;
  for (int64_t row = 0; row < n.B; row += most) {
    const int64_t size = (n.B - row < most ? n.B - row : most) * n.H;
    f(row, static_cast<uint32_t>(size), ceil_div(size, int64_t{kElementThreads}));
  }
}

}  // namespace

void host::lstm_forward(Stream& stream, Out gates, AnyInOut h, AnyInOut c, In x, In weight, OptMixedIn bias) {
  const LstmSizes n = check_lstm_forward(gates, h, c, x, weight, bias);
  if (gates.empty()) return;
  for (int64_t t = 0; t < n.T; t++) {
    const TensorView z = gates.at(t), before = c.at(t), now = c.at(t + 1), out = h.at(t + 1);
    const TensorView added = x.at(t);
    gemm(stream, z, nullptr, h.at(t), weight, bias, &added, nullptr, nullptr, 0, false, false, false, false, true);
    for_rows(n, [&](int64_t row, uint32_t size, int64_t blocks) {
      const int64_t at = row * n.H;
      stream.launch("lstm_forward", lstm_cell_kernel(x.dtype), {blocks},
                    LstmCellParams{element_at(z, kGates * at), element_at(before, at), element_at(now, at),
                                   element_at(out, at), division_by(n.H), size});
    });
  }
}

void host::lstm_backward(Stream& stream, Out dgates, In dout, In gates, In c, In weight) {
  const char* op = "lstm_backward";
  const LstmSizes n = check_lstm_backward(dgates, dout, gates, c, weight);
  if (dgates.empty()) return;
  const size_t bytes = static_cast<size_t>(n.B * n.H) * sizeof(float);
  const Stream::Workspace dh_memory(stream, op, bytes), dc_memory(stream, op, bytes);
  TensorView dh = dout.at(0);
  dh.data = dh_memory.f32();
  dh.dtype = DType::f32;
  for (int64_t t = n.T - 1; t >= 0; t--) {
    const bool last = t == n.T - 1;
    if (!last)
      gemm(stream, dh, nullptr, dgates.at(t + 1), weight, nullptr, nullptr, nullptr, nullptr, 0, false, false, false,
           false, false);
    const TensorView dz = dgates.at(t), z = gates.at(t), from = dout.at(t);
    const TensorView before = c.at(t), now = c.at(t + 1);
    for_rows(n, [&](int64_t row, uint32_t size, int64_t blocks) {
      const int64_t at = row * n.H;
      stream.launch(op, lstm_cell_backward_kernel(gates.dtype), {blocks},
                    LstmCellBackwardParams{element_at(dz, kGates * at), element_at(from, at),
                                           element_at(z, kGates * at), element_at(before, at), element_at(now, at),
                                           dh_memory.f32() + at, dc_memory.f32() + at, division_by(n.H), size, last});
    });
  }
}

#endif

}  // namespace heed::cuda
