// The CUDA backend's entry points; compare cpu/kernels/table.cc.
#include "cuda/ops.h"

namespace heed::cuda {

const OpTable<Stream>& ops() {
  static constexpr OpTable<Stream> table = {
#define OP(name, params) &host::name,
#include "core/ops.def"
#undef OP
  };
  return table;
}

}  // namespace heed::cuda
