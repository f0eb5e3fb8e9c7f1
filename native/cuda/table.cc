// The CUDA backend's entry points, as cpu/kernels/table.cc.
#include "cuda/ops.h"

namespace heed::cuda {

// Weak while kernels are being added: an operation without one is null here, and the addon says so.
#define OP(name, params) __attribute__((weak)) void name(Stream& stream, HEED_UNPACK params);
#include "core/ops.def"
#undef OP

const OpTable<Stream>& ops() {
  static constexpr OpTable<Stream> table = {
#define OP(name, params) &name,
#include "core/ops.def"
#undef OP
  };
  return table;
}

}  // namespace heed::cuda
