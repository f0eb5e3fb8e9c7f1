// The compiled kernels of one .cu file, embedded in the addon. scripts/compile-kernels.mjs writes a C++ file for each
// .cu that defines `kImage` and then includes the .cu for its host function; kernels carry a reference to it.
#pragma once
#include <cstddef>

namespace heed::cuda {

struct Cubin {
  int architecture;  // 80: sm_80, runs on 8.x with x >= 0
  const unsigned char* data;
  size_t bytes;
};

struct Image {
  const char* name;
  const char* ptx;  // null: not built, kKernelsProblem says why
  const Cubin* cubins;
  size_t cubin_count;
};

// Why the addon has no kernels, or null; from scripts/compile-kernels.mjs too.
extern const char* const kKernelsProblem;

}  // namespace heed::cuda
