// Sums and maxima of bf16 for MPI, which has no such type: MPI_Op_create takes these functions. A sum is rounded once,
// to nearest even. They are called on the communicator's thread.
#pragma once
#include "comm/mpi.h"

namespace heed::comm {

void sum_bf16(void* in, void* inout, int* count, Handle* type);
void max_bf16(void* in, void* inout, int* count, Handle* type);

}  // namespace heed::comm
