#include "simulator/nccl/combine.h"

#include <cstdint>

#include "simulator/half.h"

namespace heed::nccl_simulator {
namespace {

template <class T>
struct Plain {
  using Element = T;
  static T sum(T a, T b) { return static_cast<T>(a + b); }
  static T max(T a, T b) { return a > b || a != a ? a : b; }
};

template <simulator::Type type>
struct Short {
  using Element = uint16_t;
  static uint16_t sum(uint16_t a, uint16_t b) { return simulator::Half<type>::add(a, b); }
  static uint16_t max(uint16_t a, uint16_t b) { return simulator::Half<type>::max(a, b, true); }
};

template <class Arithmetic>
void combine(comm::NcclOp op, void* to, const void* from, size_t count) {
  auto* a = static_cast<typename Arithmetic::Element*>(to);
  const auto* b = static_cast<const typename Arithmetic::Element*>(from);
  if (op == comm::NcclOp::sum)
    for (size_t i = 0; i < count; i++) a[i] = Arithmetic::sum(a[i], b[i]);
  else
    for (size_t i = 0; i < count; i++) a[i] = Arithmetic::max(a[i], b[i]);
}

}  // namespace

size_t size_of(comm::NcclType type) {
  switch (type) {
    case comm::NcclType::u8:
      return 1;
    case comm::NcclType::f16:
    case comm::NcclType::bf16:
      return 2;
    case comm::NcclType::f32:
      return 4;
    case comm::NcclType::f64:
      return 8;
  }
  return 0;
}

void combine(comm::NcclType type, comm::NcclOp op, void* to, const void* from, size_t count) {
  switch (type) {
    case comm::NcclType::u8:
      return combine<Plain<uint8_t>>(op, to, from, count);
    case comm::NcclType::f16:
      return combine<Short<simulator::Type::f16>>(op, to, from, count);
    case comm::NcclType::bf16:
      return combine<Short<simulator::Type::bf16>>(op, to, from, count);
    case comm::NcclType::f32:
      return combine<Plain<float>>(op, to, from, count);
    case comm::NcclType::f64:
      return combine<Plain<double>>(op, to, from, count);
  }
}

}  // namespace heed::nccl_simulator
