// A CUDA device as the whole process shares it: what it is, its primary context, its loaded modules.
#pragma once
#include <atomic>
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
  // The same for who must go on in any case: what is wrong with the device shows at the calls that follow.
  void try_make_current();
  // The kernel's function. Where its image is not loaded, `unpack` gives it, and it is: machine code for this card,
  // else PTX. Whoever needs an image that another thread is loading waits for that one; nobody else waits.
  CUfunction function(KernelEntry& kernel, const char* op, const Unpack& unpack);
  // Loads an image, unpacked, with all its kernels. From any thread.
  void load(const Image& image, const char* op, const char* unpacked);
  bool has_loaded(const Image& image);
  bool can_load(const Image& image) const { return image.packed && image.runs_on(major, minor); }
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
  struct Module {
    std::mutex loading;
    std::atomic<CUmodule> module{nullptr};
  };
  Module& module_of(const Image& image);
  CUmodule load_module(const Image& image, const char* op, const char* unpacked);
  CUfunction find(KernelEntry& kernel, CUmodule module, const char* op);

  std::atomic<CUcontext> context_{nullptr};
  std::mutex mutex_;                                  // of what follows and of opening the context; never held for long
  std::unordered_map<const Image*, Module> modules_;  // which stay where they are
};

}  // namespace heed::cuda
