#include "core/uploads.h"

namespace heed {

int64_t Uploads::bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(bytes_);
}

void Uploads::take(size_t bytes) {
  std::unique_lock lock(mutex_);
  given_.wait(lock, [&] { return bytes_ + bytes <= kMost; });
  bytes_ += bytes;
}

void Uploads::give(size_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_ -= bytes;
  given_.notify_all();  // while locked: whoever wakes may end what this is part of
}

}  // namespace heed
