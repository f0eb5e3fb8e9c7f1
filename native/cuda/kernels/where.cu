// out = condition ? a : b (ops.def), for any strides and dtypes: bits are moved, so that types of one size share a
// kernel. A thread has four elements.
#include "core/checks/elementwise.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

struct WhereParams {
  Elements<4> elements;
  void* out;
  const void *condition, *a, *b;
  uint32_t bits;  // condition_bits of the condition's dtype
};

constexpr int kWhereLanes = 4;

#if HEED_DEVICE_CODE

template <class T, class C>
__device__ void where_body(const WhereParams& p) {
  constexpr int V = kWhereLanes;
  const Lanes<4, V> at = lanes_of<V>(p.elements);
  const Vector<C, V> condition = load_lanes<1, C>(p.elements, at, p.condition);
  Vector<T, V> a = load_lanes<2, T>(p.elements, at, p.a);
  const Vector<T, V> b = load_lanes<3, T>(p.elements, at, p.b);
#pragma unroll
  for (int k = 0; k < V; k++) a.at[k] = (condition.at[k] & p.bits) != 0 ? a.at[k] : b.at[k];
  store_lanes<0>(at, p.out, a);
}

#endif

// where_kernel_ELEMENT_CONDITION, by their bytes.
#define WHERE(element, Element, test, Test) \
  HEED_KERNEL(where_kernel_##element##_##test, WhereParams, kElementThreads, 1, where_body<Element, Test>)
WHERE(b1, uint8_t, b1, uint8_t)
WHERE(b1, uint8_t, b2, uint16_t)
WHERE(b1, uint8_t, b4, uint32_t)
WHERE(b2, uint16_t, b1, uint8_t)
WHERE(b2, uint16_t, b2, uint16_t)
WHERE(b2, uint16_t, b4, uint32_t)
WHERE(b4, uint32_t, b1, uint8_t)
WHERE(b4, uint32_t, b2, uint16_t)
WHERE(b4, uint32_t, b4, uint32_t)
#undef WHERE

#if !HEED_DEVICE_CODE

void host::where(Stream& stream, Out out, AnyIn condition, AnyIn a, AnyIn b) {
  check_where(out, condition, a, b);
  if (out.empty()) return;
  Kernel<WhereParams>* const kernels[3][3] = {
      {&where_kernel_b1_b1, &where_kernel_b1_b2, &where_kernel_b1_b4},
      {&where_kernel_b2_b1, &where_kernel_b2_b2, &where_kernel_b2_b4},
      {&where_kernel_b4_b1, &where_kernel_b4_b2, &where_kernel_b4_b4},
  };
  Kernel<WhereParams>& kernel = *kernels[size_of(out.dtype) / 2][size_of(condition.dtype) / 2];  // of 1, 2 or 4 bytes
  for_launches<4>(
      {&out, &condition, &a, &b}, kWhereLanes, [&](const Elements<4>& elements, void* const* data, int64_t blocks) {
        stream.launch("where", kernel, {blocks},
                      WhereParams{elements, data[0], data[1], data[2], data[3], condition_bits(condition.dtype)});
      });
}

#endif

}  // namespace heed::cuda
