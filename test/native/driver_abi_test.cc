// Compares native/cuda/driver.h (and the further result codes of the software device) with cuda.h, if a toolkit is
// installed: the values of constants, the sizes of types and the signature of every function in driver.def. A
// difference causes a compile error.
#if __has_include(<cuda.h>)
#include <cuda.h>

#include <cstdint>
#include <type_traits>

constexpr unsigned portable_of_the_toolkit = CU_MEMHOSTALLOC_PORTABLE;
#undef CU_MEMHOSTALLOC_PORTABLE  // a macro in cuda.h, but a constant here

#include "cuda/driver.h"
#include "simulator/codes.h"

namespace heed::cuda {
namespace {

// Types agree if they are the same to a caller: scalars of the same kind and size, or pointers to the same type, to an
// opaque struct, or to a value of the same layout.
template <class Ours, class Theirs>
constexpr bool agree() {
  if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) {
    using O = std::remove_pointer_t<Ours>;
    using T = std::remove_pointer_t<Theirs>;
    if constexpr (std::is_const_v<O> != std::is_const_v<T>)
      return false;
    else if constexpr (std::is_void_v<O> || std::is_void_v<T>)
      return std::is_void_v<O> && std::is_void_v<T>;
    else if constexpr (std::is_class_v<O> && std::is_class_v<T>)
      return true;  // opaque
    else
      return agree<std::remove_const_t<O>, std::remove_const_t<T>>();
  } else if constexpr (std::is_function_v<Ours> || std::is_function_v<Theirs>) {
    return std::is_same_v<Ours, Theirs>;  // CUhostFn
  } else if constexpr (std::is_pointer_v<Ours> || std::is_pointer_v<Theirs>) {
    return false;
  } else {
    return sizeof(Ours) == sizeof(Theirs) && std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>;
  }
}

template <class Ours, class Theirs>
struct Signatures : std::false_type {};
template <class... Ours, class... Theirs>
struct Signatures<CUresult(Ours...), ::CUresult(Theirs...)> {
  static constexpr bool same() {
    if constexpr (sizeof...(Ours) == sizeof...(Theirs))
      return (agree<Ours, Theirs>() && ...);
    else
      return false;
  }
  static constexpr bool value = same();
};

static_assert(sizeof(CUresult) == sizeof(::CUresult) && sizeof(CUdeviceptr) == sizeof(::CUdeviceptr));

#define DRIVER(name, symbol, params)                                                                          \
  using signature_of_##name = CUresult params;                                                                \
  static_assert(Signatures<signature_of_##name, std::remove_pointer_t<decltype(&::symbol)>>::value, #symbol); \
  static_assert(std::is_same_v<decltype(Driver::name), signature_of_##name*>);
#include "cuda/driver.def"
#undef DRIVER

#define SAME(constant) static_assert(static_cast<long long>(constant) == static_cast<long long>(::constant), #constant)
SAME(CUDA_SUCCESS);
SAME(CUDA_ERROR_INVALID_VALUE);
SAME(CUDA_ERROR_OUT_OF_MEMORY);
SAME(CUDA_ERROR_NOT_INITIALIZED);
SAME(CUDA_ERROR_DEINITIALIZED);
SAME(CUDA_ERROR_NO_DEVICE);
SAME(CUDA_ERROR_INVALID_DEVICE);
SAME(CUDA_ERROR_INVALID_IMAGE);
SAME(CUDA_ERROR_INVALID_CONTEXT);
SAME(CUDA_ERROR_NO_BINARY_FOR_GPU);
SAME(CUDA_ERROR_INVALID_PTX);
SAME(CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
SAME(CUDA_ERROR_NOT_FOUND);
SAME(CUDA_ERROR_NOT_READY);
SAME(CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
SAME(CUDA_ERROR_LAUNCH_FAILED);
SAME(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SAME(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X);
SAME(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
SAME(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
SAME(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
SAME(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
SAME(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID);
SAME(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID);
SAME(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SAME(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_NUM_REGS);
SAME(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(CU_JIT_INFO_LOG_BUFFER);
SAME(CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES);
SAME(CU_JIT_ERROR_LOG_BUFFER);
SAME(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
SAME(CU_STREAM_NON_BLOCKING);
SAME(CU_EVENT_DEFAULT);
SAME(CU_EVENT_BLOCKING_SYNC);
SAME(CU_EVENT_DISABLE_TIMING);
SAME(CU_STREAM_CAPTURE_MODE_RELAXED);
static_assert(CU_MEMHOSTALLOC_PORTABLE == portable_of_the_toolkit);
#undef SAME

// Result codes that only the software device returns.
#define SAME(constant) \
  static_assert(static_cast<long long>(simulator::constant) == static_cast<long long>(::constant), #constant)
SAME(CUDA_ERROR_INVALID_HANDLE);
SAME(CUDA_ERROR_ILLEGAL_STATE);
SAME(CUDA_ERROR_OPERATING_SYSTEM);
SAME(CUDA_ERROR_CONTEXT_IS_DESTROYED);
SAME(CUDA_ERROR_NOT_PERMITTED);
SAME(CUDA_ERROR_NOT_SUPPORTED);
SAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
SAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
SAME(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
SAME(CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
SAME(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
SAME(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
SAME(CUDA_ERROR_CAPTURED_EVENT);
SAME(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
#undef SAME

}  // namespace
}  // namespace heed::cuda
#endif
