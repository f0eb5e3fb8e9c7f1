// Compares our declarations of NCCL (comm/nccl.h) with NVIDIA's nccl.h, if there is one.
#if __has_include(<nccl.h>)
#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "check.h"
#include "comm/nccl.h"

namespace heed::test {
namespace {

// Every parameter and result is passed in the same way: both are pointers, or integers or enumerations of one size, or
// structs of one size.
template <class Ours, class Theirs>
constexpr bool alike = std::is_pointer_v<Ours> == std::is_pointer_v<Theirs> &&
                       std::is_class_v<Ours> == std::is_class_v<Theirs> && sizeof(Ours) == sizeof(Theirs);

template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class R, class S, class... Ours, class... Theirs>
struct SameCall<R (*)(Ours...), S (*)(Theirs...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(Ours) == sizeof...(Theirs)) return alike<R, S> && (alike<Ours, Theirs> && ...);
    return false;
  }();
};

#define NCCL_FUNCTION(result, name, symbol, params) \
  static_assert(SameCall<decltype(comm::Nccl::name), decltype(&::symbol)>::value, #symbol);
#include "comm/nccl.def"
#undef NCCL_FUNCTION

#define SAME(ours, theirs) static_assert(static_cast<int>(ours) == static_cast<int>(theirs), #theirs)
SAME(comm::success, ncclSuccess);
SAME(comm::unhandled_cuda_error, ncclUnhandledCudaError);
SAME(comm::system_error, ncclSystemError);
SAME(comm::internal_error, ncclInternalError);
SAME(comm::invalid_argument, ncclInvalidArgument);
SAME(comm::invalid_usage, ncclInvalidUsage);
SAME(comm::remote_error, ncclRemoteError);
SAME(comm::in_progress, ncclInProgress);
SAME(comm::NcclType::u8, ncclUint8);
SAME(comm::NcclType::f16, ncclFloat16);
SAME(comm::NcclType::f32, ncclFloat32);
SAME(comm::NcclType::f64, ncclFloat64);
SAME(comm::NcclType::bf16, ncclBfloat16);
SAME(comm::NcclOp::sum, ncclSum);
SAME(comm::NcclOp::max, ncclMax);
#undef SAME

TEST(nccl_abi_of_structs) {
  EXPECT(sizeof(comm::NcclUniqueId) == sizeof(::ncclUniqueId));
  const ::ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  const comm::NcclConfig ours;
  EXPECT(ours.magic == theirs.magic);
  EXPECT(ours.bytes <= theirs.size);
  EXPECT(ours.version == NCCL_VERSION(2, 14, 0));
  EXPECT(offsetof(comm::NcclConfig, bytes) == offsetof(::ncclConfig_t, size));
  EXPECT(offsetof(comm::NcclConfig, magic) == offsetof(::ncclConfig_t, magic));
  EXPECT(offsetof(comm::NcclConfig, version) == offsetof(::ncclConfig_t, version));
  EXPECT(offsetof(comm::NcclConfig, blocking) == offsetof(::ncclConfig_t, blocking));
}

}  // namespace
}  // namespace heed::test
#endif
