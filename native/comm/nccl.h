// NCCL as heed uses it: our own declarations, and the table of entry points that is filled when the library is opened.
// Nothing of NCCL is needed to build or to load the addon.
//
// heed asks for communicators whose calls do not block: a call returns `in_progress`, and the next one must wait until
// comm_get_async_error() says `success`. So one thread can call NCCL and do other things meanwhile.
#pragma once
#include <cstddef>
#include <string>

namespace heed::comm {

// Opaque types, enumerations and structs have NCCL's sizes and values; test/native/nccl_abi_test.cc compares them with
// nccl.h if there is one.
using NcclComm = struct ncclComm*;
using NcclStream = void*;  // a cudaStream_t, which is a CUstream

enum NcclResult : int {
  success = 0,
  unhandled_cuda_error = 1,
  system_error = 2,
  internal_error = 3,
  invalid_argument = 4,
  invalid_usage = 5,
  remote_error = 6,
  in_progress = 7,
};
enum class NcclType : int { u8 = 1, f16 = 6, f32 = 7, f64 = 8, bf16 = 9 };
enum class NcclOp : int { sum = 0, max = 2 };

struct NcclUniqueId {
  char bytes[128];
};

// The options of a communicator that NCCL 2.14 knows. Later versions have more, and use their defaults for those that
// are newer than `version`.
struct NcclConfig {
  size_t bytes = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
};

struct Nccl {
#define NCCL_FUNCTION(result, name, symbol, params) result(*name) params = nullptr;
#include "comm/nccl.def"
#undef NCCL_FUNCTION

  int version = 0;      // in the form of ncclGetVersion
  std::string library;  // name under which it was opened

  // Returns the text of a result, with what the library says beside it.
  std::string error(NcclResult result, NcclComm comm) const;
};

// Returns a version in words, such as "2.14.3".
std::string nccl_version(int version);

// Opens the library that HEED_NCCL_LIBRARY names, or else libnccl.so.2. Throws ERR_DISTRIBUTED if there is none, or if
// it is older than 2.14.
Nccl open_nccl();

}  // namespace heed::comm
