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
  // Bytes of one piece of an upload.
  static constexpr size_t kPiece = size_t{16} << 20;
  // The most bytes in transit between devices. The JavaScript thread never waits for room there.
  static constexpr size_t kMostSent = size_t{128} << 20;
  // Returns the most bytes from JavaScript that may be in transit: 1 GiB, or as many MiB as HEED_UPLOAD_LIMIT says.
  // Beyond it JavaScript waits.
  static size_t most_uploaded();

  explicit Uploads(size_t most) : most_(most) {}

  // One piece. It is in transit until this object is destroyed, on any thread, whether the piece has arrived or was
  // dropped.
  class Share {
   public:
    // A piece that is `held` has memory, and waits until there is room for it. One that is `announced` is counted but
    // has no memory yet and takes no room; the bound of the device that sends it limits its memory.
    enum class Kind { held, announced };
    Share(Uploads& uploads, size_t bytes, Kind kind = Kind::held) : uploads_(&uploads), bytes_(bytes), kind_(kind) {
      uploads.take(bytes, kind);
    }
    Share(Share&& other) noexcept : uploads_(other.uploads_), bytes_(other.bytes_), kind_(other.kind_) {
      other.uploads_ = nullptr;
    }
    Share& operator=(Share&&) = delete;
    ~Share() {
      if (uploads_) uploads_->give(bytes_, kind_);
    }

   private:
    Uploads* uploads_;
    size_t bytes_;
    Kind kind_;
  };

  // Returns the bytes in transit.
  int64_t bytes() const;
  // Returns true if there is room now.
  bool has_room(size_t bytes) const;
  // From now on no caller waits, because no thread takes bytes away any more.
  void end();

 private:
  void take(size_t bytes, Share::Kind kind);
  void give(size_t bytes, Share::Kind kind);

  const size_t most_;
  mutable std::mutex mutex_;
  std::condition_variable given_;
  size_t held_ = 0, announced_ = 0;
  bool ended_ = false;
};

}  // namespace heed
