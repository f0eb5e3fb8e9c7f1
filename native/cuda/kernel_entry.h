// The kernels of the program as the host knows them. HEED_KERNEL (kernels/kernel.h) defines them.
#pragma once
#include <atomic>
#include <functional>
#include <vector>

#include "cuda/driver.h"
#include "cuda/image.h"

namespace heed::cuda {

constexpr int kMaxDevices = 16;

// Returns the unpacked pack of an image, or throws.
using Unpack = std::function<std::vector<char>(const Image& image)>;

// A kernel of an image. It gets a function on each card either at its first launch there or when its image is loaded.
struct KernelEntry {
  const Image& image;
  const char* name;
  unsigned threads;
  std::atomic<CUfunction> functions[kMaxDevices] = {};
  KernelEntry* const next;  // in the list of all kernels, which is complete before main()

  KernelEntry(const Image& image, const char* name, unsigned threads)
      : image(image), name(name), threads(threads), next(first()) {
    first() = this;
  }
  static KernelEntry*& first() {
    static KernelEntry* list = nullptr;
    return list;
  }
};
template <class Params>
struct Kernel : KernelEntry {
  static_assert(sizeof(Params) <= 4096, "kernel parameters are at most 4 KiB");
  using KernelEntry::KernelEntry;
};

}  // namespace heed::cuda
