// The entry points of this instruction set.
#include "cpu/isa.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu {

const OpTable<Stream> HEED_ISA::table = {
#define OP(name, params) &HEED_ISA::name,
#include "core/ops.def"
#undef OP
};

}  // namespace heed::cpu
