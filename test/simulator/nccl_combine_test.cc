// Tests the sums and maxima of the software NCCL. The numbers are exact in binary, so that the expected results are
// known.
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "check.h"
#include "simulator/nccl/combine.h"

namespace heed::test {
namespace {

using comm::NcclOp;
using comm::NcclType;
using nccl_simulator::combine;

template <class T>
void expect(NcclType type, NcclOp op, std::vector<T> to, const std::vector<T>& from, const std::vector<T>& wanted) {
  EXPECT(nccl_simulator::size_of(type) == sizeof(T));
  combine(type, op, to.data(), from.data(), to.size());
  for (size_t i = 0; i < to.size(); i++)
    if (to[i] != wanted[i]) report("element %zu: expected %g, got %g", i, double(wanted[i]), double(to[i]));
}

}  // namespace

TEST(nccl_sums_are_rounded_once) {
  expect<float>(NcclType::f32, NcclOp::sum, {1, 16777216, -3}, {2, 1, 3}, {3, 16777216, 0});
  expect<double>(NcclType::f64, NcclOp::sum, {16777216, 0.5}, {1, 0.25}, {16777217, 0.75});
  expect<uint8_t>(NcclType::u8, NcclOp::sum, {250, 1}, {7, 2}, {1, 3});
  // f16: 1 + 2 = 3, 2048 + 1 is a tie to even, 2048 + 3 rounds up, 65504 + 65504 overflows.
  expect<uint16_t>(NcclType::f16, NcclOp::sum, {0x3c00, 0x6800, 0x6800, 0x7bff}, {0x4000, 0x3c00, 0x4200, 0x7bff},
                   {0x4200, 0x6800, 0x6802, 0x7c00});
  // bf16: 1 + 2 = 3, 256 + 1 is a tie to even, 258 + 1 a tie to 260.
  expect<uint16_t>(NcclType::bf16, NcclOp::sum, {0x3f80, 0x4380, 0x4381}, {0x4000, 0x3f80, 0x3f80},
                   {0x4040, 0x4380, 0x4382});
}

TEST(nccl_maxima) {
  expect<float>(NcclType::f32, NcclOp::max, {1, -2, 5}, {2, -3, 5}, {2, -2, 5});
  expect<uint16_t>(NcclType::f16, NcclOp::max, {0x3c00, 0xc000}, {0x4000, 0xc200}, {0x4000, 0xc000});
  expect<uint16_t>(NcclType::bf16, NcclOp::max, {0x3f80, 0xc000}, {0x4000, 0xc040}, {0x4000, 0xc000});
  for (const auto& [a, b] : {std::pair{NAN, 1.0f}, std::pair{1.0f, NAN}}) {
    float to = a;
    combine(NcclType::f32, NcclOp::max, &to, &b, 1);
    EXPECT(std::isnan(to));
  }
}

}  // namespace heed::test
