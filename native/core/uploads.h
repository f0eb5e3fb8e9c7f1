// Counts values in transit to a device, or from it to another device, which lie in host memory until the queue has
// processed them. Their number of bytes is bounded: a caller that would exceed the bound waits until some have arrived.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace heed {

class Uploads {
 public:
  // The most bytes that may be in transit, and the bytes of one piece of an upload.
  static constexpr size_t kMost = size_t{128} << 20, kPiece = size_t{16} << 20;

  // One piece. It is in transit until this object is destroyed, on any thread, whether the piece has arrived or was
  // dropped.
  class Share {
   public:
    enum class Room { waited_for, exceeded };
    // Waits until there is room for the piece, or counts it beyond the bound, as `room` says.
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

  // Returns the bytes in transit.
  int64_t bytes() const;
  // Returns true if there is room now.
  bool has_room(size_t bytes) const;
  // From now on no caller waits, because no thread takes bytes away any more.
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
