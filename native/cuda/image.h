// The compiled kernels that a card loads together: those of one .cu file, or the part of them that
// kernels/images.json says. scripts/compile-kernels.mjs writes a C++ file for each .cu that defines its images, says by
// HEED_IMAGE_OF(kernel) which one a kernel is in, and then includes the .cu for its host function.
//
// Images are packed by Brotli, which Node.js has: lib/ unpacks them. Some images of a file may share a pack. Unpacked,
// an image is machine code for some architectures and PTX, which ends with a zero, each at a multiple of 16 bytes.
#pragma once
#include <cstddef>

namespace heed::cuda {

struct Cubin {
  int architecture;  // 80: sm_80, runs on 8.x with x >= 0
  size_t offset;     // in the unpacked pack
};

struct Image {
  const char* name;             // "fill"; "gemm_bf16.few"
  int architecture;             // of its PTX: 80 is for compute capability 8.0
  bool exact;                   // for cards of that compute capability alone (90a), not for later ones too
  const unsigned char* packed;  // its pack; null: not built, kKernelsProblem says why
  size_t packed_bytes;
  size_t bytes;  // of the pack, unpacked
  size_t ptx;    // its offset there
  const Cubin* cubins;
  size_t cubin_count;

  // Whether a card of this compute capability can load it.
  constexpr bool runs_on(int major, int minor) const {
    const int capability = major * 10 + minor;
    return exact ? capability == architecture : capability >= architecture;
  }
  // The machine code that fits the card best: of its major version and the newest of those that are not too new for it.
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

// Of every kernel in a build that has none.
inline constexpr Image kNoImage{"none", 80, false, nullptr, 0, 0, 0, nullptr, 0};

// Why the addon has no kernels, or null; from scripts/compile-kernels.mjs too.
extern const char* const kKernelsProblem;

}  // namespace heed::cuda
