// Bytes on their way from one device's queue to another's: the one that has them fills `data` and signals, the other
// waits and takes them. What has failed on the way to the bytes is told on the JavaScript thread (OperationLog).
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>

namespace heed {

class HostBuffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes(bytes), data(new char[bytes]) {}

  void signal() {
    {
      const std::lock_guard lock(mutex_);
      ready_ = true;
    }
    wake_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return ready_; });
  }

  const size_t bytes;
  const std::unique_ptr<char[]> data;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ready_ = false;
};

// Signals when it goes, whether what should have filled the buffer has run or was dropped.
class Signal {
 public:
  explicit Signal(std::shared_ptr<HostBuffer> buffer) : buffer_(std::move(buffer)) {}
  Signal(Signal&&) = default;
  ~Signal() {
    if (buffer_) buffer_->signal();
  }
  HostBuffer& operator*() const { return *buffer_; }

 private:
  std::shared_ptr<HostBuffer> buffer_;
};

}  // namespace heed
