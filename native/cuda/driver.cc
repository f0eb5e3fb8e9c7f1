#include "cuda/driver.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

#include "core/error.h"
#include "core/platform.h"

namespace heed::cuda {
namespace {

#ifdef _WIN32
constexpr const char* kLibraries[] = {"nvcuda.dll"};
#else
constexpr const char* kLibraries[] = {"libcuda.so.1", "libcuda.so"};
#endif

struct Opened {
  Driver driver;
  bool usable = false;
  std::string problem;
  const char* missing[5] = {};  // first missing function of each feature
};

// The library stays open: the driver's own threads may outlive any moment at which it could be closed.
Opened open_driver() {
  Opened opened;
  const char* named = std::getenv("HEED_CUDA_DRIVER");
  void* library = nullptr;
  if (named && *named) {
    library = open_library(named);
    if (!library) {
      opened.problem = "the driver library named by HEED_CUDA_DRIVER cannot be loaded: " + library_problem();
      return opened;
    }
  } else {
    for (const char* name : kLibraries)
      if (!library) library = open_library(name);
    if (!library) {
      opened.problem = std::string("no CUDA driver on this machine (") + kLibraries[0] + " does not load)";
      return opened;
    }
  }
#define DRIVER_FOR(feature, name, symbol, params)                                              \
  opened.driver.name = reinterpret_cast<CUresult(*) params>(library_symbol(library, #symbol)); \
  if (!opened.driver.name) opened.missing[static_cast<int>(Feature::feature)] = #symbol;
#define DRIVER(name, symbol, params)                                                           \
  opened.driver.name = reinterpret_cast<CUresult(*) params>(library_symbol(library, #symbol)); \
  if (!opened.driver.name && opened.problem.empty())                                           \
    opened.problem = "the CUDA driver lacks " #symbol ": expected a driver of CUDA 11.4 (version 470) or later";
#include "cuda/driver.def"
#undef DRIVER
  opened.usable = opened.problem.empty();
  return opened;
}

const Opened& opened() {
  // Never destroyed, because worker threads may still use the table while the process ends.
  static const Opened* const once = new Opened(open_driver());
  return *once;
}

}  // namespace

const Driver* driver() { return opened().usable ? &opened().driver : nullptr; }
const char* driver_problem() { return opened().usable ? nullptr : opened().problem.c_str(); }

const char* missing(Feature feature) { return opened().missing[static_cast<int>(feature)]; }

void expect_feature(Feature feature, const char* op) {
  static constexpr const char* kNames[] = {"record graphs", "measure time", "copy between cards",
                                           "allocate in the order of a stream", "prefer some streams"};
  if (const char* symbol = missing(feature))
    fail(Code::cuda,
         "%s: the CUDA driver lacks %s, needed to %s: expected a driver of CUDA 11.4 (version 470) or later", op,
         symbol, kNames[static_cast<int>(feature)]);
}

}  // namespace heed::cuda
