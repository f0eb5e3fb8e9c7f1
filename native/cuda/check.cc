#include "cuda/check.h"

#include <cstdio>

namespace heed::cuda {
namespace {

// Returns true for the driver's "sticky" errors, from which no later call of the process recovers.
bool sticky(CUresult result) {
  switch (result) {
    case 214:  // ECC_UNCORRECTABLE
    case 700:  // ILLEGAL_ADDRESS
    case 702:  // LAUNCH_TIMEOUT
    case 710:  // ASSERT
    case 714:  // HARDWARE_STACK_ERROR
    case 715:  // ILLEGAL_INSTRUCTION
    case 716:  // MISALIGNED_ADDRESS
    case 717:  // INVALID_ADDRESS_SPACE
    case 718:  // INVALID_PC
    case 719:  // LAUNCH_FAILED
      return true;
    default:
      return false;
  }
}

}  // namespace

Error error_of(CUresult result, const char* op, const char* doing) {
  const char *name = nullptr, *text = nullptr;
  if (const Driver* d = driver()) {
    d->get_error_name(result, &name);
    d->get_error_string(result, &text);
  }
  char message[400];
  std::snprintf(message, sizeof message, "%s: %s: %s (%s, %d)%s", op, doing, text ? text : "unknown error",
                name ? name : "unknown", result,
                sticky(result) ? "; the device is lost to this process, which must be started again" : "");
  return Error(result == CUDA_ERROR_OUT_OF_MEMORY ? Code::oom : Code::cuda, message);
}

void expect_success(CUresult result, const char* op, const char* doing) {
  if (result != CUDA_SUCCESS) throw error_of(result, op, doing);
}

}  // namespace heed::cuda
