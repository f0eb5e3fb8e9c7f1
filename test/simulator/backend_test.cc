// Tests heed's CUDA backend on a driver one of whose functions fails in a way that no fault of the software device
// causes. The tests run in processes of their own, because the backend keeps a device's context as long as its process
// lives.
#include <future>

#include "cuda/card.h"
#include "driver_library.h"

namespace heed::test {
namespace {

// The backend's own table of entry points, which stays open as long as the process runs.
Driver& backend() {
  static Driver& once = []() -> Driver& {
    driver();
    setenv("HEED_CUDA_DRIVER", HEED_SIMULATOR_LIBRARY, 1);
    return const_cast<Driver&>(*cuda::driver());
  }();
  return once;
}

// Replaces an entry by another function during its lifetime.
template <class F>
class Replaced {
 public:
  Replaced(F Driver::* entry, F function) : entry_(entry), usual_(backend().*entry) { backend().*entry = function; }
  ~Replaced() { backend().*entry_ = usual_; }

 private:
  F Driver::* const entry_;
  const F usual_;
};

class Told final : public Fence {
 public:
  explicit Told(std::promise<Failures>& promise) : promise_(promise) {}
  void reached(Failures failures) noexcept override { promise_.set_value(std::move(failures)); }

 private:
  std::promise<Failures>& promise_;
};

Failures wait(cuda::Stream& stream) {
  std::promise<Failures> promise;
  stream.fence(new Told(promise));
  return promise.get_future().get();
}

}  // namespace

TEST(backend_ends_its_threads_where_the_device_cannot_be_used) {
  if (!is_child()) return expect_child("backend_ends_its_threads_where_the_device_cannot_be_used", "");
  backend();
  Card card(0, 0);
  auto device = std::make_unique<cuda::Stream>(card);
  const Replaced refused(&Driver::context_set_current, +[](CUcontext) -> CUresult { return CUDA_ERROR_LAUNCH_FAILED; });
  EXPECT(error_of([&] { device->wait_idle(); }).find("ERR_CUDA") == 0);
  EXPECT(error_of([&] { device->stop(); }).empty());
  // If one of its threads continued, the process would end here.
  device.reset();
}

TEST(backend_reports_faults_after_a_capture_that_does_not_begin) {
  if (!is_child()) return expect_child("backend_reports_faults_after_a_capture_that_does_not_begin", "");
  backend();
  Card card(0, 0);
  cuda::Stream device(card);
  {
    const Replaced refused(
        &Driver::stream_begin_capture,
        +[](CUstream, CUstreamCaptureMode) -> CUresult { return CUDA_ERROR_INVALID_VALUE; });
    EXPECT(error_of([&] { device.begin_capture(); }).find("ERR_CUDA: capture: beginning") == 0);
  }
  // Writes what a kernel would write.
  device.begin_operation();
  const FaultSink sink = device.fault("embedding");
  FaultReport report{~uint64_t{7}, FaultKind::id, 5, 0, sink.op};
  device.log().end();
  device.upload(sink.report, &report, sizeof report);
  const Failures failures = wait(device);
  EXPECT(failures.operations.size() == 1);
  for (const Failure& failure : failures.operations)
    EXPECT(std::string(failure.error.what()) == "embedding: expected ids in [0, 5), got 7 at position 0");
}

}  // namespace heed::test
