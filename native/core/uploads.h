// Values on their way to a device, or from it to another one, wait in host memory until the queue has come to them. How
// much there is of it, and a bound: who would exceed it waits until some has gone.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace heed {

class Uploads {
 public:
  // The most bytes that wait, and those of one piece of an upload.
  static constexpr size_t kMost = size_t{128} << 20, kPiece = size_t{16} << 20;

  // One piece, on its way until this goes: on any thread, whether it has arrived or was dropped.
  class Share {
   public:
    enum class Room { waited_for, exceeded };
    // Waits until there is room for it, or is counted beyond the bound.
    Share(Uploads& uploads, size_t bytes, Room room = Room::waited_for) : uploads_(&uploads), bytes_(bytes) {
      uploads.take(bytes, room);
    }
    Share(Share&& other) noexcept : uploads_(other.uploads_), bytes_(other.bytes_) { other.uploads_ = nullptr; }
    Share& operator=(Share&&) = delete;
    ~Share() {
      if (uploads_) uploads_->give(bytes_);
    }

   private:
    Uploads* uploads_;
    size_t bytes_;
  };

  // Bytes on their way.
  int64_t bytes() const;
  // Whether there is room now.
  bool has_room(size_t bytes) const;
  // From now on nobody waits: what takes bytes away does so no longer.
  void end();

 private:
  void take(size_t bytes, Share::Room room);
  void give(size_t bytes);

  mutable std::mutex mutex_;
  std::condition_variable given_;
  size_t bytes_ = 0;
  bool ended_ = false;
};

}  // namespace heed
