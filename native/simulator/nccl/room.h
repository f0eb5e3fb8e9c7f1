// Memory that the processes of a communicator share, and in which they wait for each other: a file in /dev/shm that the
// unique id names. It is removed as soon as all have opened it.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace heed::nccl_simulator {

// An operation as its callers describe it; the same for all ranks.
struct Call {
  enum Kind : int { all_reduce, broadcast, reduce_scatter, all_gather } kind;
  int type, op, root;
  uint64_t count;
  bool operator==(const Call& other) const {
    return kind == other.kind && type == other.type && op == other.op && root == other.root && count == other.count;
  }
};
const char* name_of(Call::Kind kind);

class Room {
 public:
  static constexpr size_t kSlot = 1 << 18;  // bytes that a rank shows to the others at a time
  static constexpr int kMostRanks = 64;

  // Returns a name that no other room has.
  static std::string new_name();
  // Throws std::runtime_error if the memory cannot be shared.
  Room(const std::string& name, int rank, int size);
  ~Room();
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  // Waits until all ranks have called it as often. Returns false if `stop` has become true.
  bool meet(const std::atomic<bool>& stop);

  char* slot(int rank) const { return slots_ + kSlot * static_cast<size_t>(rank); }
  Call& call(int rank) const { return shared_->calls[rank]; }

 private:
  struct Shared {
    std::atomic<uint64_t> meetings[kMostRanks];
    Call calls[kMostRanks];
  };
  const std::string path_;
  const int rank_, size_;
  size_t bytes_;
  Shared* shared_;
  char* slots_;
  uint64_t met_ = 0;
};

}  // namespace heed::nccl_simulator
