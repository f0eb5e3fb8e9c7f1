// Result codes that the software device returns and that the backend does not need to name.
#pragma once
#include "cuda/driver.h"

namespace heed::simulator {

constexpr cuda::CUresult CUDA_ERROR_INVALID_HANDLE = 400;
constexpr cuda::CUresult CUDA_ERROR_ILLEGAL_STATE = 401;
constexpr cuda::CUresult CUDA_ERROR_OPERATING_SYSTEM = 304;
constexpr cuda::CUresult CUDA_ERROR_CONTEXT_IS_DESTROYED = 709;
constexpr cuda::CUresult CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704;
constexpr cuda::CUresult CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217;
constexpr cuda::CUresult CUDA_ERROR_NOT_PERMITTED = 800;
constexpr cuda::CUresult CUDA_ERROR_NOT_SUPPORTED = 801;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906;
constexpr cuda::CUresult CUDA_ERROR_CAPTURED_EVENT = 907;
constexpr cuda::CUresult CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908;

}  // namespace heed::simulator
