// Bytes on their way from one device's queue to another's: the one that has them fills `data` and signals, the other
// waits and takes them. What has failed on the way to the bytes is told on the JavaScript thread (OperationLog); only
// where the copy itself fails does the receiver learn it from here. A buffer of no bytes is a signal alone.
//
// It has memory from the time that the sender comes to fill it, as a share of what the sender has on its way. So
// whoever enqueues a copy waits for nothing, and a sender waits only until others have taken what it sent before: for
// work that was enqueued earlier.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/uploads.h"

namespace heed {

class HostBuffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes(bytes) {}

  // For the sender: makes the memory, as a share of `sending`; waits for room if need be. Throws std::bad_alloc.
  char* open(Uploads& sending) {
    share_.emplace(sending, bytes);
    data_.reset(new char[bytes]);
    return data_.get();
  }
  // Null where the sender was stopped.
  char* data() const { return data_.get(); }

  void signal() {
    {
      const std::lock_guard lock(mutex_);
      ready_ = true;
    }
    wake_.notify_all();
  }
  // Before signal(), which may be called more than once.
  void fail(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
  }
  // Until it is signalled. Throws what has failed.
  void wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return ready_; });
    if (error_) throw *error_;
  }

  bool ready() {
    const std::lock_guard lock(mutex_);
    return ready_;
  }

  const size_t bytes;

 private:
  std::optional<Uploads::Share> share_;
  std::unique_ptr<char[]> data_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ready_ = false;
  std::optional<Error> error_;
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
