#include "core/uploads.h"

namespace heed {

int64_t Uploads::bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(bytes_);
}

bool Uploads::has_room(size_t bytes) const {
  const std::lock_guard lock(mutex_);
  return bytes_ + bytes <= kMost;
}

void Uploads::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  given_.notify_all();
}

void Uploads::take(size_t bytes, Share::Room room) {
  std::unique_lock lock(mutex_);
  if (room == Share::Room::waited_for) given_.wait(lock, [&] { return ended_ || bytes_ + bytes <= kMost; });
  bytes_ += bytes;
}

void Uploads::give(size_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_ -= bytes;
  given_.notify_all();  // while locked, because the woken thread may destroy this object
}

}  // namespace heed
