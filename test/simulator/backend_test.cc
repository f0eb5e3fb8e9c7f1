// Tests heed's CUDA backend on a driver one of whose functions is replaced, to fail in a way that no fault of the
// software device causes, or to count. The tests run in processes of their own, because the backend keeps a device's
// context as long as its process lives.
#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/card.h"
#include "cuda/staging.h"
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

TEST(backend_says_which_card_a_kernel_needs) {
  static constexpr unsigned char packed[1] = {};
  static const Image hopper{"gemm_hopper", 90, true, packed, 1, 1, 0, nullptr, 0};
  static const Image later{"gemm_later", 90, false, packed, 1, 1, 0, nullptr, 0};
  static cuda::Kernel<int> exact{hopper, "gemm_hopper_bf16", 128}, newer{later, "gemm_later_bf16", 128};
  if (!is_child()) {
    expect_child("backend_says_which_card_a_kernel_needs", "HEED_SIMULATOR_CAPABILITY=80");
    expect_child("backend_says_which_card_a_kernel_needs", "HEED_SIMULATOR_CAPABILITY=100");
    return;
  }
  backend();
  Card card(0, 0);
  cuda::Stream device(card);
  const auto launch = [&](cuda::Kernel<int>& kernel) {
    return error_of([&] { device.launch("gemm", kernel, {1}, 0); });
  };
  const std::string has = ", got cuda:0, which has " + std::to_string(card.major) + ".0";
  EXPECT(launch(exact) ==
         "ERR_DEVICE: gemm: expected a card of compute capability 9.0 for the kernel gemm_hopper_bf16" + has);
  if (card.major < 9)
    EXPECT(launch(newer) ==
           "ERR_DEVICE: gemm: expected a card of compute capability 9.0 or later for the kernel gemm_later_bf16" + has);
  else
    EXPECT(launch(newer).find("ERR_INTERNAL: gemm: expected a stream that can unpack") == 0);
  EXPECT(error_of([&] { card.load(hopper, "warmUp", ""); }).find("ERR_DEVICE: warmUp: expected a card") == 0);
  // The stream goes on.
  EXPECT(wait(device).operations.empty());
}

// Everything that goes through pinned memory at once, on a device that is slow: its amount, of all streams.
TEST(backend_pins_no_more_than_its_bound) {
  if (!is_child())
    return expect_child("backend_pins_no_more_than_its_bound",
                        "HEED_SIMULATOR_DEVICES=2 HEED_SIMULATOR_PEERS=0 HEED_SIMULATOR_COPY_RATE=1000");
  static std::mutex mutex;
  static std::map<void*, size_t> blocks;
  static size_t pinned = 0, most = 0;
  static const Driver usual = backend();
  const Replaced allocate(
      &Driver::mem_host_alloc, +[](void** block, size_t bytes, unsigned flags) -> CUresult {
        const CUresult result = usual.mem_host_alloc(block, bytes, flags);
        const std::lock_guard lock(mutex);
        if (result == CUDA_SUCCESS) most = std::max(most, pinned += blocks[*block] = bytes);
        return result;
      });
  const Replaced free(
      &Driver::mem_free_host, +[](void* block) -> CUresult {
        {
          const std::lock_guard lock(mutex);
          pinned -= blocks.at(block);
        }
        return usual.mem_free_host(block);
      });
  Card cards[] = {{0, 0}, {1, 1}};
  {
    cuda::Stream near(cards[0]), far(cards[1]);
    constexpr size_t kPiece = Uploads::kPiece, kBytes = 12 * kPiece;
    const auto from = near.allocator().allocate(kBytes, "alloc"), to = far.allocator().allocate(kBytes, "alloc");
    std::vector<char> host(kBytes, 'a'), read(kBytes), back(kBytes);
    near.upload(from.data, host.data(), kBytes);
    near.download(read.data(), from.data, kBytes);
    for (size_t offset = 0; offset < kBytes; offset += kPiece) {
      const auto buffer = std::make_shared<HostBuffer>(kPiece);
      near.send(buffer, static_cast<char*>(from.data) + offset);
      far.receive(buffer, static_cast<char*>(to.data) + offset,
                  Uploads::Share(far.uploads(), kPiece, Uploads::Share::Kind::announced));
    }
    far.download(back.data(), to.data, kBytes);
    std::promise<Failures> reached;
    auto done = reached.get_future();
    far.fence(new Told(reached));
    int64_t sent = 0;
    while (done.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready)
      sent = std::max(sent, near.sending().bytes());
    EXPECT(sent > 0 && sent <= static_cast<int64_t>(Uploads::kMostSent));
    EXPECT(read == host && back == host);
    EXPECT(near.uploads().bytes() == 0 && far.uploads().bytes() == 0);
    const std::lock_guard lock(mutex);
    EXPECT(most > kPiece && most <= 2 * cuda::Staging::kMost);
    near.allocator().free(from);
    far.allocator().free(to);
  }
  const std::lock_guard lock(mutex);
  EXPECT(pinned == 0);
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
