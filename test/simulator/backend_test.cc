// heed's CUDA backend on a driver of which a function fails that no fault of the software device reaches.
#include "cuda/card.h"
#include "driver_library.h"

namespace heed::test {
namespace {

// The backend's own table of entry points, which is open for as long as the process runs.
Driver& backend() {
  static Driver& once = []() -> Driver& {
    driver();
    setenv("HEED_CUDA_DRIVER", HEED_SIMULATOR_LIBRARY, 1);
    return const_cast<Driver&>(*cuda::driver());
  }();
  return once;
}

// Puts another function in an entry's place while it lives.
template <class F>
class Replaced {
 public:
  Replaced(F Driver::* entry, F function) : entry_(entry), usual_(backend().*entry) { backend().*entry = function; }
  ~Replaced() { backend().*entry_ = usual_; }

 private:
  F Driver::* const entry_;
  const F usual_;
};

}  // namespace

TEST(backend_ends_its_threads_where_the_device_cannot_be_used) {
  backend();
  Card card(0, 0);
  auto device = std::make_unique<cuda::Stream>(card);
  const Replaced refused(&Driver::context_set_current, +[](CUcontext) -> CUresult { return CUDA_ERROR_LAUNCH_FAILED; });
  EXPECT(error_of([&] { device->wait_idle(); }).find("ERR_CUDA") == 0);
  EXPECT(error_of([&] { device->stop(); }).empty());
  // A thread of it that went on would end the process here.
  device.reset();
}

}  // namespace heed::test
