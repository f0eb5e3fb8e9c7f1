// Operations on bf16 and f16. Kernels that take them as they are stand in typed_ops.def; the others compute in f32
// alone and get the other float dtypes here, generated from ops.def. Inputs are widened into workspaces, the kernel
// runs, and what it wrote is rounded once, into the strides it came with. A call without 16-bit tensors goes straight
// to its kernel. (One that the kernel's checks refuse has already enqueued the widening of its inputs, which nobody
// sees.)
#pragma once
#include "core/op_table.h"

namespace heed::cpu {

class Stream;

// The entry points in every dtype, over the kernels of the instruction set in use.
extern const OpTable<Stream> widening_table;

}  // namespace heed::cpu
