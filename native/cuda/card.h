// A CUDA device as the whole process shares it: what it is, its primary context, its loaded modules.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda/image.h"
#include "cuda/stream.h"

namespace heed::cuda {

class Card {
 public:
  // Every card the driver shows, found once a process. Empty where there is none: problem() then says why, in words.
  static const std::vector<std::unique_ptr<Card>>& all();
  static const char* problem();
  // "12.2", of the driver; "" where there is none.
  static std::string driver_version();

  Card(int index, CUdevice device);

  // Retains the primary context at the first call; throws ERR_CUDA. Cheap later on: every call into the driver from a
  // thread is preceded by it, since other libraries in the process may make their own context current.
  CUcontext make_current(const char* op);
  // The kernel's function, its module loaded if need be: a cubin of this architecture, else PTX.
  CUfunction function(KernelEntry& kernel, const char* op);
  // Bytes the card has free at this moment.
  size_t free_memory();

  const int index;
  const CUdevice device;  // the driver's
  std::string name;
  int major = 0, minor = 0;
  size_t memory = 0;  // bytes
  int multiprocessors = 0;
  size_t shared_limit = 0;  // bytes a block can have
  std::string unusable;     // why heed does not run on this card, or ""

 private:
  CUfunction load(KernelEntry& kernel, const char* op);
  CUmodule module_of(const Image& image, const char* op);

  std::mutex mutex_;
  CUcontext context_ = nullptr;
  std::unordered_map<const Image*, CUmodule> modules_;
};

}  // namespace heed::cuda
