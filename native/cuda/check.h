// Turns results of driver calls into errors.
#pragma once
#include "core/error.h"
#include "cuda/driver.h"

namespace heed::cuda {

// Throws ERR_CUDA unless the call succeeded: "gemm: launching gemm_f32: CUDA_ERROR_…: description". If the context does
// not recover from the error, the message also says that the device is lost.
void expect_success(CUresult result, const char* op, const char* doing);
Error error_of(CUresult result, const char* op, const char* doing);

}  // namespace heed::cuda
