#include "cpu/stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "core/platform.h"
#include "cpu/thread_pool.h"

namespace heed::cpu {

// Blocks of a huge page or more are aligned to one and ask for huge pages. Kernels go through large tensors in panels
// and columns, and with small pages every step would miss the TLB.
void* Allocator::system_allocate(size_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t size = (bytes + 63) / 64 * 64;
  const bool large = size >= kHugePage;
  void* block = allocate_aligned(large ? kHugePage : 64, size);
  if (block && large) prefer_huge_pages(block, size);
  return block;
}

// Memory that goes back to the system, on the queue's thread or when the queue has stopped.
class Allocator::Released {
 public:
  Released() = default;
  ~Released() {
    for (void* block : blocks) free_aligned(block);
    for (const auto& [range, bytes] : ranges) discard_pages(range, bytes);
    trim_heap();  // glibc's free() keeps blocks below tens of megabytes
  }
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;

  std::vector<void*> blocks;
  std::vector<std::pair<void*, size_t>> ranges;  // parts of blocks that stay
};

void Allocator::system_free(void* block, size_t, uint64_t) {
  if (!released_) released_ = std::make_unique<Released>();
  released_->blocks.push_back(block);
}

void Allocator::system_discard(void* range, size_t bytes) {
  // Only whole pages are given back; 64 KiB is the largest page size of any system.
  constexpr uintptr_t kPage = uintptr_t{64} << 10;
  const auto begin = (reinterpret_cast<uintptr_t>(range) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(range) + bytes) / kPage * kPage;
  if (begin >= end) return;
  if (!released_) released_ = std::make_unique<Released>();
  released_->ranges.emplace_back(reinterpret_cast<void*>(begin), end - begin);
}

void Allocator::system_trim() {
  if (released_) stream_.launch("release", [released = std::move(released_)] {});
}
bool Allocator::system_releasing() { return stream_.uploads().bytes() > 0; }
bool Allocator::wait_released() {
  stream_.wait_idle();
  return false;
}
Allocator::Allocator(Stream& stream) : stream_(stream) {}
Allocator::~Allocator() = default;

Stream::Stream() : Device(Backend::cpu), allocator_(*this) {}
Stream::~Stream() {
  queue_.stop();
  allocator_.release_cached();
}

CachingAllocator& Stream::allocator() { return allocator_; }
void Stream::set_background(bool background) {
  expect_not_capturing("setBackground");
  launch("setBackground", [background] { set_background_loops(background); });
}
void Stream::fence(Fence* fence) { queue_.push_fence(fence); }
void Stream::release_cached(std::unique_ptr<Fence> told) {
  allocator_.release_cached();
  launch("release", [told = std::move(told)] { told->reached({}); });
}
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
  launch("send", [this, signal = Signal(std::move(to)), source] {
    HostBuffer& buffer = *signal;
    try {
      std::memcpy(buffer.open(sending_), source, buffer.bytes);
    } catch (const std::bad_alloc&) {
      buffer.fail(Error(Code::oom, "send: out of memory"));
    }
  });
}

void Stream::receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) {
  expect_not_capturing("receive");
  launch("receive", [from = std::move(from), destination, share = std::move(share)] {
    from->wait();
    if (from->data()) std::memcpy(destination, from->data(), from->bytes);
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

// The recording consists of the tasks that the operations enqueued.
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
