#include "comm/nccl.h"

#include <cstdlib>

#include "core/error.h"
#include "core/platform.h"

namespace heed::comm {
namespace {

constexpr const char* kLibrary = "libnccl.so.2";
constexpr int kOldest = 21400;

// Returns the name of a result in nccl.h, by which people look it up.
const char* name_of(NcclResult result) {
  constexpr const char* names[] = {"ncclSuccess",       "ncclUnhandledCudaError", "ncclSystemError",
                                   "ncclInternalError", "ncclInvalidArgument",    "ncclInvalidUsage",
                                   "ncclRemoteError",   "ncclInProgress"};
  return result >= success && result <= in_progress ? names[result] : "unknown";
}

}  // namespace

std::string nccl_version(int version) {
  // Up to 2.8, a minor version had one digit.
  const int major = version < 10000 ? version / 1000 : version / 10000;
  const int rest = version < 10000 ? version % 1000 : version % 10000;
  return std::to_string(major) + "." + std::to_string(rest / 100) + "." + std::to_string(rest % 100);
}

std::string Nccl::error(NcclResult result, NcclComm comm) const {
  const char* const text = get_error_string(result);
  std::string whole = std::string("NCCL: ") + (text ? text : "error") + " (" + name_of(result) + ")";
  const char* const last = get_last_error(comm);
  if (last && *last) whole += std::string(": ") + last;
  while (!whole.empty() && whole.back() == '\n') whole.pop_back();
  return whole;
}

Nccl open_nccl() {
  Nccl nccl;
  const char* named = std::getenv("HEED_NCCL_LIBRARY");
  const bool is_named = named && *named;
  nccl.library = is_named ? named : kLibrary;
  void* const library = open_library(nccl.library.c_str());
  if (!library && is_named)
    fail(Code::distributed, "the NCCL library that HEED_NCCL_LIBRARY names cannot be loaded: %s",
         library_problem().c_str());
  if (!library)
    fail(Code::distributed,
         "tensors on a CUDA device need NCCL, and %s does not load; install it (package libnccl2 of NVIDIA's "
         "repository), "
         "or name it with HEED_NCCL_LIBRARY",
         kLibrary);
  const char* missing = nullptr;
#define NCCL_FUNCTION(result, name, symbol, params)                                 \
  nccl.name = reinterpret_cast<result(*) params>(library_symbol(library, #symbol)); \
  if (!nccl.name && !missing) missing = #symbol;
#include "comm/nccl.def"
#undef NCCL_FUNCTION
  if (nccl.get_version && nccl.get_version(&nccl.version) == success && nccl.version < kOldest)
    fail(Code::distributed, "expected NCCL %s or later, got %s (%s)", nccl_version(kOldest).c_str(),
         nccl_version(nccl.version).c_str(), nccl.library.c_str());
  if (missing)
    fail(Code::distributed, "the NCCL library %s lacks %s: expected NCCL %s or later", nccl.library.c_str(), missing,
         nccl_version(kOldest).c_str());
  return nccl;
}

}  // namespace heed::comm
