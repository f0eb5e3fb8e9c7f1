// Defines the CUDA backend's entry points; compare cpu/kernels/table.cc. Only the file that scripts/compile-kernels.mjs
// writes about the toolkit includes it. HEED_HOST_FUNCTION(name) is the host function of that name, or a null pointer
// in a build without kernels: that build finds no card, so that nothing calls an entry.
#pragma once
#include "cuda/ops.h"

namespace heed::cuda {

const OpTable<Stream>& ops() {
  static constexpr OpTable<Stream> table = {
#define OP(name, params) HEED_HOST_FUNCTION(name),
#include "core/ops.def"
#undef OP
  };
  return table;
}

}  // namespace heed::cuda
