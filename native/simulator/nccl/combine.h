// Sums and maxima of two arrays, element by element, rounded to their type.
#pragma once
#include <cstddef>

#include "comm/nccl.h"

namespace heed::nccl_simulator {

// Returns 0 for a type that the library does not know.
size_t size_of(comm::NcclType type);
// Replaces the elements of `to` by their sum with those of `from`, or by the larger ones.
void combine(comm::NcclType type, comm::NcclOp op, void* to, const void* from, size_t count);

}  // namespace heed::nccl_simulator
