// A software NCCL for the tests: the functions of native/comm/nccl.def with exactly those signatures, between processes
// of one machine that use the software CUDA device. No package contains it.
//
// The semantics are NCCL's as far as they matter to a caller:
//   - Operations run in the order of their stream, and end when all processes have run theirs.
//   - Communicators that do not block return ncclInProgress, and refuse a call before the last one has settled.
//   - Nobody notices that a process is missing. ncclCommAbort releases what waits, in its own process only.
// Beyond NCCL, it finds out that processes call different operations. 16-bit sums are rounded after each addition, in
// the order of the ranks.
#pragma once
#include "comm/nccl.h"

#define HEED_EXPORT __attribute__((visibility("default")))

namespace heed::nccl_simulator {

using namespace comm;

extern "C" {
#define NCCL_FUNCTION(result, name, symbol, params) HEED_EXPORT result symbol params;
#include "comm/nccl.def"
#undef NCCL_FUNCTION
}

}  // namespace heed::nccl_simulator
