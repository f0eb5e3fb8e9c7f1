// out = f(a, b), or out += f(a, b), for one float dtype, equal shapes and any strides; a stride of 0 in a or b
// broadcasts. The result is computed in f32 and rounded once. Beside 16-bit tensors an operand may be a single f32
// number, which is not rounded to 16 bits.
//
// kinds.h lists f. maximum and minimum are NaN if either side is; comparisons give 1 or 0 and are false with NaN. The
// kind is a branch that all threads take alike, once for a thread's vector of elements.
#include "core/checks/elementwise.h"
#include "core/kinds.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

struct BinaryParams {
  Elements<3> elements;
  void* out;
  const void *a, *b;
  BinaryKind kind;
  int32_t accumulate;
  bool a_is_number, b_is_number;
};

#if HEED_DEVICE_CODE

__device__ __noinline__ float power(float a, float b) {
  return powf(a, b);
}  // it is long, so a kernel has only one copy

// a = f(a, b)
template <int V, class F>
__device__ __forceinline__ void each_pair(float (&a)[V], const float (&b)[V], F f) {
#pragma unroll
  for (int k = 0; k < V; k++) a[k] = f(a[k], b[k]);
}

template <int V>
__device__ __forceinline__ void combine(float (&a)[V], const float (&b)[V], BinaryKind kind) {
  switch (kind) {
    case BinaryKind::add:
      return each_pair(a, b, [](float x, float y) { return x + y; });
    case BinaryKind::sub:
      return each_pair(a, b, [](float x, float y) { return x - y; });
    case BinaryKind::mul:
      return each_pair(a, b, [](float x, float y) { return x * y; });
    case BinaryKind::div:
      return each_pair(a, b, [](float x, float y) { return x / y; });
    case BinaryKind::maximum:
      return each_pair(a, b, [](float x, float y) { return x > y || x != x ? x : y; });
    case BinaryKind::minimum:
      return each_pair(a, b, [](float x, float y) { return x < y || x != x ? x : y; });
    case BinaryKind::pow:
      return each_pair(a, b, [](float x, float y) { return power(x, y); });
    case BinaryKind::equal:
      return each_pair(a, b, [](float x, float y) { return x == y ? 1.0f : 0.0f; });
    case BinaryKind::greater:
      return each_pair(a, b, [](float x, float y) { return x > y ? 1.0f : 0.0f; });
    case BinaryKind::less:
      return each_pair(a, b, [](float x, float y) { return x < y ? 1.0f : 0.0f; });
  }
}

template <int i, class T, int V>
__device__ __forceinline__ void load_operand(float (&x)[V], const BinaryParams& p, const Lanes<3, V>& at,
                                             const void* data, bool one) {
  if (!one) return load_lane_floats<i, T>(x, p.elements, at, data);
  const float number = *static_cast<const float*>(data);
#pragma unroll
  for (int k = 0; k < V; k++) x[k] = number;
}

template <class T>
__device__ void binary_body(const BinaryParams& p) {
  constexpr int V = 16 / sizeof(T);
  const Lanes<3, V> at = lanes_of<V>(p.elements);
  float a[V], b[V];
  load_operand<1, T>(a, p, at, p.a, p.a_is_number);
  load_operand<2, T>(b, p, at, p.b, p.b_is_number);
  combine(a, b, p.kind);
  store_lane_floats<T>(a, p.elements, at, p.out, p.accumulate);
}

#endif

HEED_KERNEL_FLOATS(binary_kernel, BinaryParams, kElementThreads, 1, binary_body)

#if !HEED_DEVICE_CODE

void host::binary(Stream& stream, Out out, MixedIn a, MixedIn b, Int kind, Bool accumulate) {
  check_binary(out, a, b, kind);
  if (out.empty()) return;
  for_launches<3>({&out, &a, &b}, vector_width(out.dtype),
                  [&](const Elements<3>& elements, void* const* data, int64_t blocks) {
                    stream.launch("binary", binary_kernel(out.dtype), {blocks},
                                  BinaryParams{elements, data[0], data[1], data[2], static_cast<BinaryKind>(kind),
                                               accumulate, is_number(a, out), is_number(b, out)});
                  });
}

#endif

}  // namespace heed::cuda
