// The numbers behind the `kind` of unary, binary and reduce in ops.def. The TypeScript side mirrors them: a number,
// once given, keeps its meaning, and new kinds go to the end.
#pragma once
#include <cstdint>

namespace heed {

enum class UnaryKind : int64_t {
  neg = 0,
  exp = 1,
  log = 2,
  sqrt = 3,
  rsqrt = 4,
  square = 5,
  abs = 6,
  tanh = 7,
  sigmoid = 8,
  relu = 9,
  gelu_tanh = 10,
  gelu_erf = 11,
  silu = 12,
  sin = 13,
  cos = 14,
  reciprocal = 15,
  elu_plus_one = 16,
};
constexpr int64_t kUnaryKinds = 17;

// equal, greater and less write 1 where they hold and 0 where they do not.
enum class BinaryKind : int64_t {
  add = 0,
  sub = 1,
  mul = 2,
  div = 3,
  maximum = 4,
  minimum = 5,
  pow = 6,
  equal = 7,
  greater = 8,
  less = 9,
};
constexpr int64_t kBinaryKinds = 10;

enum class ReduceKind : int64_t { sum = 0, mean = 1, max = 2 };
constexpr int64_t kReduceKinds = 3;

}  // namespace heed
