#include "core/uploads.h"

#include <algorithm>
#include <cstdlib>

namespace heed {

size_t Uploads::most_uploaded() {
  static const size_t most = [] {
    const char* text = std::getenv("HEED_UPLOAD_LIMIT");
    const unsigned long long mib = text ? std::strtoull(text, nullptr, 10) : 0;
    // A piece must fit, and no limit that means anything is above 1 TiB.
    return mib ? std::clamp(static_cast<size_t>(std::min(mib, 1ULL << 20)) << 20, kPiece, size_t{1} << 40)
               : size_t{1} << 30;
  }();
  return most;
}

int64_t Uploads::bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(held_ + announced_);
}

bool Uploads::has_room(size_t bytes) const {
  const std::lock_guard lock(mutex_);
  return held_ + bytes <= most_;
}

void Uploads::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  given_.notify_all();
}

void Uploads::take(size_t bytes, Share::Kind kind) {
  std::unique_lock lock(mutex_);
  if (kind == Share::Kind::announced) {
    announced_ += bytes;
    return;
  }
  given_.wait(lock, [&] { return ended_ || held_ + bytes <= most_; });
  held_ += bytes;
}

void Uploads::give(size_t bytes, Share::Kind kind) {
  const std::lock_guard lock(mutex_);
  (kind == Share::Kind::held ? held_ : announced_) -= bytes;
  given_.notify_all();  // while locked, because the woken thread may destroy this object
}

}  // namespace heed
