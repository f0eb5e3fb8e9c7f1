// Values on their way to a device wait in host memory until the queue has come to them. How much there is of it, and a
// bound: who would exceed it waits for what is in the queue.
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
    // Waits until there is room for it.
    Share(Uploads& uploads, size_t bytes) : uploads_(&uploads), bytes_(bytes) { uploads.take(bytes); }
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

 private:
  void take(size_t bytes);
  void give(size_t bytes);

  mutable std::mutex mutex_;
  std::condition_variable given_;
  size_t bytes_ = 0;
};

}  // namespace heed
