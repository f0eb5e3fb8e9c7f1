// A CUDA device as the whole process shares it: its properties, its primary context and its loaded modules.
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
  // Returns every card that the driver shows; they are found once per process. If there are none, problem() says why,
  // in words.
  static const std::vector<std::unique_ptr<Card>>& all();
  static const char* problem();
  // Version of the driver, such as "12.2", or "" if there is no driver.
  static std::string driver_version();

  Card(int index, CUdevice device);

  // Makes the primary context current, and retains it at the first call; throws ERR_CUDA. Later calls are cheap: one
  // precedes every call into the driver from a thread, because other libraries in the process may make their own
  // context current.
  CUcontext make_current(const char* op);
  // The same for callers that must continue in any case: what is wrong with the device shows at the calls that follow.
  void try_make_current();
  // Returns the kernel's function. If its image is not loaded, `unpack` unpacks the image and it is loaded: machine
  // code for this card, or else PTX. A thread that needs an image that another thread is loading waits for it; no other
  // thread waits.
  CUfunction function(KernelEntry& kernel, const char* op, const Unpack& unpack);
  // Loads an unpacked image with all its kernels. May be called from any thread.
  void load(const Image& image, const char* op, const char* unpacked);
  bool has_loaded(const Image& image);
  bool can_load(const Image& image) const { return image.runs_on(major, minor); }
  // Returns the bytes that are free on the card at this moment.
  size_t free_memory();

  const int index;
  const CUdevice device;  // the driver's handle
  std::string name;
  int major = 0, minor = 0;
  size_t memory = 0;  // bytes
  int multiprocessors = 0;
  size_t shared_limit = 0;  // bytes of shared memory that a block can have
  bool pools = false;       // true if the driver can allocate and free memory in the order of a stream
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
  std::mutex mutex_;  // for the members that follow and for opening the context; never held for long
  std::unordered_map<const Image*, Module> modules_;  // modules do not move in memory
};

}  // namespace heed::cuda
