// out = f(a, b), or out += f(a, b), for one dtype, equal shapes and any strides; a stride of 0 in a or b broadcasts.
// The result of floats is computed in f32 and rounded once; integers wrap. Beside 16-bit tensors an operand may be a
// single f32 number, which is not rounded to 16 bits.
//
// kinds.h lists f. maximum and minimum are NaN if either side is; comparisons give 1 or 0 and are false with NaN. The
// kind is a branch that all threads take alike, once for a thread's vector of elements.
#include "core/binary.h"
#include "core/checks/checks.h"
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

constexpr int kIntegerLanes = 4;  // of a thread

#if HEED_DEVICE_CODE

// fmodf begins with an approximate quotient, which knows no subnormal divisors: these are scaled.
__device__ __noinline__ float remainder_of(float a, float b) {
  constexpr float kScale = 0x1p24f;
  if (fabsf(b) >= 0x1p-126f || b == 0) return fmodf(a, b);
  return fmodf(fmodf(a, b * kScale) * kScale, b * kScale) / kScale;
}

// The kinds from atan2 on.
__device__ __noinline__ float rare(float a, float b, BinaryKind kind) {
  if (kind == BinaryKind::atan2) return atan2f(a, b);
  const float rest = remainder_of(a, b);
  return kind == BinaryKind::floor_div ? floor_div(a, b, rest) : floor_mod(b, rest);
}

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
    case BinaryKind::not_equal:
      return each_pair(a, b, [](float x, float y) { return x != y ? 1.0f : 0.0f; });
    case BinaryKind::greater_equal:
      return each_pair(a, b, [](float x, float y) { return x >= y ? 1.0f : 0.0f; });
    case BinaryKind::less_equal:
      return each_pair(a, b, [](float x, float y) { return x <= y ? 1.0f : 0.0f; });
    case BinaryKind::logical_and:
      return each_pair(a, b, [](float x, float y) { return x != 0 && y != 0 ? 1.0f : 0.0f; });
    case BinaryKind::logical_or:
      return each_pair(a, b, [](float x, float y) { return x != 0 || y != 0 ? 1.0f : 0.0f; });
    case BinaryKind::squared_difference:
      return each_pair(a, b, [](float x, float y) { return (x - y) * (x - y); });
    default:
      return each_pair(a, b, [kind](float x, float y) { return rare(x, y, kind); });
  }
}

// It is not inlined, so that a kernel has only one copy.
template <class T>
__device__ __noinline__ T combine_integers(T a, T b, BinaryKind kind) {
  return integer_binary(kind, a, b);
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

template <class T>
__device__ void binary_integers_body(const BinaryParams& p) {
  constexpr int V = kIntegerLanes;
  const Lanes<3, V> at = lanes_of<V>(p.elements);
  Vector<T, V> a = load_lanes<1, T>(p.elements, at, p.a);
  const Vector<T, V> b = load_lanes<2, T>(p.elements, at, p.b);
#pragma unroll
  for (int k = 0; k < V; k++) a.at[k] = combine_integers(a.at[k], b.at[k], p.kind);
  if (p.accumulate) {
    const Vector<T, V> sum = load_lanes<0, T>(p.elements, at, p.out);
#pragma unroll
    for (int k = 0; k < V; k++) a.at[k] = combine_integers(sum.at[k], a.at[k], BinaryKind::add);
  }
  store_lanes<0>(at, p.out, a);
}

#endif

HEED_KERNEL_FLOATS(binary_kernel, BinaryParams, kElementThreads, 1, binary_body)
HEED_KERNEL(binary_kernel_i32, BinaryParams, kElementThreads, 1, binary_integers_body<int32_t>)
HEED_KERNEL(binary_kernel_u8, BinaryParams, kElementThreads, 1, binary_integers_body<uint8_t>)

#if !HEED_DEVICE_CODE

void host::binary(Stream& stream, Out out, MixedIn a, MixedIn b, Int kind, Bool accumulate) {
  check_binary(out, a, b, kind);
  if (out.empty()) return;
  const bool integers = !is_float(out.dtype);
  Kernel<BinaryParams>& kernel = !integers                 ? binary_kernel(out.dtype)
                                 : out.dtype == DType::i32 ? binary_kernel_i32
                                                           : binary_kernel_u8;
  for_launches<3>({&out, &a, &b}, integers ? kIntegerLanes : vector_width(out.dtype),
                  [&](const Elements<3>& elements, void* const* data, int64_t blocks) {
                    stream.launch("binary", kernel, {blocks},
                                  BinaryParams{elements, data[0], data[1], data[2], static_cast<BinaryKind>(kind),
                                               accumulate, is_number(a, out), is_number(b, out)});
                  });
}

#endif

}  // namespace heed::cuda
