// Compiled kernels that a card loads together: those of one .cu file, or a part of them that kernels/images.json
// defines. For each .cu file, scripts/compile-kernels.mjs writes a C++ file that defines its images, says by
// HEED_IMAGE_OF(kernel) which image holds each kernel, and then includes the .cu file for its host function.
//
// Images are packed with Brotli, which Node.js has: lib/ unpacks them. Some images of a file may share a pack. An
// unpacked image consists of machine code for some architectures and PTX, which ends with a zero; each begins at a
// multiple of 16 bytes.
#pragma once
#include <cstddef>

namespace heed::cuda {

struct Cubin {
  int architecture;  // 80 is sm_80, which runs on 8.x with x >= 0
  size_t offset;     // offset in the unpacked pack
};

struct Image {
  const char* name;  // for example "fill" or "gemm_bf16.few"
  int architecture;  // architecture of its PTX: 80 stands for compute capability 8.0
  bool exact;        // true if it is only for cards of that compute capability (90a), not also for later ones
  const unsigned char* packed;  // its pack
  size_t packed_bytes;
  size_t bytes;  // bytes of the unpacked pack
  size_t ptx;    // offset of the PTX in the unpacked pack
  const Cubin* cubins;
  size_t cubin_count;

  // Returns true if a card of this compute capability can load the image.
  constexpr bool runs_on(int major, int minor) const {
    const int capability = major * 10 + minor;
    return exact ? capability == architecture : capability >= architecture;
  }
  // Returns the machine code that fits the card best: the newest of the card's major version that is not too new for
  // it.
  constexpr const Cubin* cubin_for(int major, int minor) const {
    const Cubin* best = nullptr;
    for (size_t i = 0; i < cubin_count; i++) {
      const Cubin& cubin = cubins[i];
      if (cubin.architecture / 10 == major && cubin.architecture % 10 <= minor &&
          (!best || cubin.architecture > best->architecture))
        best = &cubin;
    }
    return best;
  }
};

// The reason why the addon has no kernels, or null; also from scripts/compile-kernels.mjs.
extern const char* const kKernelsProblem;

}  // namespace heed::cuda
