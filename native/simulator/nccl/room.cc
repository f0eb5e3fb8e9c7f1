#include "simulator/nccl/room.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>
#include <thread>

namespace heed::nccl_simulator {

static_assert(std::atomic<uint64_t>::is_always_lock_free, "processes share the counters");

const char* name_of(Call::Kind kind) {
  constexpr const char* names[] = {"AllReduce", "Broadcast", "ReduceScatter", "AllGather"};
  return names[kind];
}

std::string Room::new_name() {
  std::random_device random;
  return "heed-nccl-" + std::to_string(getpid()) + "-" + std::to_string(random()) + std::to_string(random());
}

Room::Room(const std::string& name, int rank, int size) : path_("/dev/shm/" + name), rank_(rank), size_(size) {
  const size_t page = 4096, head = (sizeof(Shared) + page - 1) / page * page;
  bytes_ = head + kSlot * static_cast<size_t>(size);
  // Whoever comes first makes the file; new bytes are zero.
  const int file = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) throw std::runtime_error("cannot open " + path_ + ": " + std::strerror(errno));
  const bool sized = ftruncate(file, static_cast<off_t>(bytes_)) == 0;
  void* const memory = sized ? mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (memory == MAP_FAILED) throw std::runtime_error("cannot share " + path_ + ": " + std::strerror(errno));
  shared_ = static_cast<Shared*>(memory);
  slots_ = static_cast<char*>(memory) + head;
}

Room::~Room() {
  munmap(shared_, bytes_);
  if (met_ <= 1) unlink(path_.c_str());  // perhaps not all have come
}

bool Room::meet(const std::atomic<bool>& stop) {
  met_++;
  shared_->meetings[rank_].store(met_, std::memory_order_release);
  for (int r = 0; r < size_; r++)
    for (int tries = 0; shared_->meetings[r].load(std::memory_order_acquire) < met_; tries++) {
      if (stop.load(std::memory_order_relaxed)) return false;
      if (tries < 100)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  if (rank_ == 0 && met_ == 1) unlink(path_.c_str());
  return true;
}

}  // namespace heed::nccl_simulator
