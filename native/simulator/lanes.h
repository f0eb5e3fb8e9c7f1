// The instructions that work lane by lane. They are compiled once for each instruction set of the host (lanes/*.cc), so
// that a warp's 32 lanes are two or four vectors. `find_lanes` returns the handler of an operation. Operands are the
// instruction's slots a, b, c, and the result goes to d (or to predicates p and q).
#pragma once
#include "simulator/arithmetic.h"
#include "simulator/program.h"

namespace heed::simulator {

enum class Op : uint8_t {
  mov,
  add,
  sub,
  mul,
  mul_hi,
  mul_wide,
  mad,
  mad_hi,
  mad_wide,
  fma,
  div,
  rem,
  min,
  max,
  abs,
  neg,
  sqrt,
  rcp,
  and_,
  or_,
  xor_,
  not_,
  cnot,
  shl,
  shr,
  selp,
  slct,
  lop3,
  setp,
  set,
  cvt,
};

struct Operation {
  Op op;
  Type type;                               // type of the operands, or of cvt's result
  Type from = Type::none;                  // type of cvt's operand, or of set's result
  Comparison comparison = Comparison::eq;  // set, setp
  bool ftz = false, saturate = false, nan = false;
  Rounding rounding = Rounding::rn;
};

// The meaning of the instruction's fields for these handlers. setp and set: flags is the boolean operation with the
// predicate q (setp's third operand); setp's results are p and the predicate number e. selp: q selects. lop3: mode is
// the table. A rounding other than rn is in mode.
enum Combine : uint8_t { combine_none, combine_and, combine_or, combine_xor };

using FindLanes = Handler (*)(const Operation& operation);
// The instruction sets that this build contains.
#ifdef HEED_HAS_PORTABLE
namespace portable {
Handler find_lanes(const Operation& operation);
}
#endif
#ifdef HEED_HAS_AVX2
namespace avx2 {
Handler find_lanes(const Operation& operation);
}
#endif
#ifdef HEED_HAS_AVX512
namespace avx512 {
Handler find_lanes(const Operation& operation);
}
#endif

// Returns the handler for the best instruction set of this machine, or null if there is no such operation (or not
// here).
Handler find_lanes(const Operation& operation);

}  // namespace heed::simulator
