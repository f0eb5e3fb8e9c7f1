// The rules for dtypes that the words of ops.def are, checked before a kernel sees a call with tensors of bf16 or f16:
// generated from ops.def. What a kernel's host function checks holds for one dtype; these hold between tensors.
#pragma once
#include "core/op_table.h"

namespace heed::cpu {

class Stream;

// The kernels of the instruction set in use, behind those checks.
extern const OpTable<Stream> checked_table;

}  // namespace heed::cpu
