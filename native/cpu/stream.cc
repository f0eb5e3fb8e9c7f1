#include "cpu/stream.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

namespace heed::cpu {

// Blocks of a huge page and more are aligned to one and ask for them: kernels walk large tensors in panels and columns,
// which with small pages would miss the TLB at every step.
void* Allocator::system_allocate(size_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t size = (bytes + 63) / 64 * 64;
  const bool large = size >= kHugePage;
  void* block = nullptr;
  if (posix_memalign(&block, large ? kHugePage : 64, size) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  if (large) madvise(block, size, MADV_HUGEPAGE);
#endif
  return block;
}

void Allocator::system_free(void* block, size_t) { std::free(block); }

void Allocator::system_discard(void* range, size_t bytes) {
#ifdef MADV_DONTNEED
  // Whole pages of it; 64 KiB is the largest that any system has.
  constexpr uintptr_t kPage = uintptr_t{64} << 10;
  const auto begin = (reinterpret_cast<uintptr_t>(range) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(range) + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
#endif
}

void Allocator::system_trim() {
#ifdef __GLIBC__
  malloc_trim(0);  // glibc's free() keeps blocks below tens of megabytes
#endif
}
bool Allocator::system_releasing() { return stream_.uploads().bytes() > 0; }
void Allocator::wait_idle() { stream_.wait_idle(); }
Allocator::Allocator(Stream& stream) : stream_(stream) {}
Allocator::~Allocator() { release_cached(); }

Stream::Stream() : Device(Backend::cpu), allocator_(*this) {}
Stream::~Stream() = default;

CachingAllocator& Stream::allocator() { return allocator_; }
void Stream::fence(Fence* fence) { queue_.push_fence(fence); }
void Stream::wait_idle() { queue_.wait_idle(); }
void Stream::stop() { queue_.stop(); }

Stream::Workspace::Workspace(Stream& stream, const char* op, size_t bytes)
    : stream_(stream), block_(bytes ? stream.allocator_.allocate(bytes, op) : Block{}) {}

Stream::Workspace::~Workspace() {
  if (block_.data) stream_.allocator_.free(block_);
}

void Stream::upload(void* destination, const void* source, size_t bytes) {
  expect_not_capturing("upload");
  for (size_t offset = 0; offset < bytes; offset += Uploads::kPiece) {
    const size_t size = std::min(bytes - offset, Uploads::kPiece);
    Uploads::Share share(uploads_, size);
    std::unique_ptr<char[]> staging(new char[size]);
    std::memcpy(staging.get(), static_cast<const char*>(source) + offset, size);
    launch("upload", [to = static_cast<char*>(destination) + offset, size, share = std::move(share),
                      staging = std::move(staging)] { std::memcpy(to, staging.get(), size); });
  }
}

void Stream::download(void* destination, const void* source, size_t bytes) {
  expect_not_capturing("download");
  launch("download", [destination, source, bytes] { std::memcpy(destination, source, bytes); });
}

void Stream::send(std::shared_ptr<HostBuffer> to, const void* source) {
  expect_not_capturing("send");
  launch("send",
         [signal = Signal(std::move(to)), source] { std::memcpy((*signal).data.get(), source, (*signal).bytes); });
}

void Stream::receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) {
  expect_not_capturing("receive");
  launch("receive", [from = std::move(from), destination, share = std::move(share)] {
    from->wait();
    std::memcpy(destination, from->data.get(), from->bytes);
  });
}

class Stream::QueueTimer final : public Timer {
 public:
  explicit QueueTimer(Stream& stream) : stream_(stream) {
    stream.expect_not_capturing(kOp);
    stream.launch(kOp, [start = start_] { *start = Clock::now(); });
  }
  void stop(double* milliseconds) override {
    stream_.expect_not_capturing(kOp);
    stream_.launch(kOp, [start = start_, milliseconds] {
      *milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - *start).count();
    });
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr const char* kOp = "timer";
  Stream& stream_;
  const std::shared_ptr<Clock::time_point> start_ = std::make_shared<Clock::time_point>();
};

std::unique_ptr<Timer> Stream::start_timer() { return std::make_unique<QueueTimer>(*this); }

// Its tasks are those that the operations enqueued.
class Stream::RecordedWork final : public Graph::Work {
 public:
  RecordedWork(Queue& queue, std::shared_ptr<const Recording> tasks) : queue_(queue), tasks_(std::move(tasks)) {}
  void launch(int64_t operation) override { queue_.push_recording(tasks_, operation); }

 private:
  Queue& queue_;
  const std::shared_ptr<const Recording> tasks_;
};

void Stream::start_recording() { queue_.begin_recording(); }
std::unique_ptr<Graph::Work> Stream::finish_recording() {
  return std::make_unique<RecordedWork>(queue_, queue_.end_recording());
}

}  // namespace heed::cpu
