// Bytes in transit from one device's queue to another's: the sender fills `data` and signals, and the receiver waits
// and takes the bytes. Failures of the operations that computed the bytes are reported on the JavaScript thread
// (OperationLog); the receiver learns from this buffer only of a failure of the copy itself. A buffer of no bytes is
// just a signal.
//
// The memory is allocated when the sender begins to fill it, as a share of the sender's bytes in transit. So the thread
// that enqueues a copy never waits, and a sender waits only until others have taken the bytes that it sent before. That
// is work that was enqueued earlier.
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

  // Called by the sender: allocates the memory as a share of `sending`, and waits for room if necessary. Throws
  // std::bad_alloc.
  char* open(Uploads& sending) {
    share_.emplace(sending, bytes);
    data_.reset(new char[bytes]);
    return data_.get();
  }
  // Returns null if the sender was stopped.
  char* data() const { return data_.get(); }

  void signal() {
    {
      const std::lock_guard lock(mutex_);
      ready_ = true;
    }
    wake_.notify_all();
  }
  // Must be called before signal(), which may be called more than once.
  void fail(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
  }
  // Waits until the buffer is signalled. Throws the error if the copy has failed.
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

// Signals the buffer when it is destroyed, whether the work that should have filled the buffer has run or was dropped.
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
