// Assigns failures to the tensors that they concern. An operation that fails on the device has not written its outputs:
// they are damaged, and so is everything that is computed from them. A reader of a damaged tensor gets the failure, and
// every other reader gets numbers.
//
// Nothing of this is traced as long as nothing fails. The log only notes which storages each operation reads and
// writes, beginning at the last fence that was reached. When a fence reports a failure, the log is processed from
// there. An operation that is called later, when a storage is already known to be damaged, passes the damage on at
// once. A storage is intact again when an operation writes all of it from intact storages.
//
// JavaScript thread only. Positions in the log number operations in the order of the queue.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "core/failure.h"
#include "core/storage.h"

namespace heed {

// Data that leaves the device: a read, or a copy that is sent to another device.
class Delivery {
 public:
  virtual ~Delivery();
  // Called before the fence that follows the delivery is settled. Only the first cause counts.
  virtual void damaged(const Cause& cause) = 0;
};

class OperationLog {
 public:
  // How an operation uses a storage.
  enum class Use : uint64_t {
    reads,
    writes,  // writes some of it, or adds to it
    renews,  // writes all of it
  };

  // The operations of a graph, at positions from 0.
  class Recording;

  OperationLog();
  ~OperationLog();
  OperationLog(const OperationLog&) = delete;
  OperationLog& operator=(const OperationLog&) = delete;

  void add(Storage* live);     // called when a storage is created
  void remove(Storage* live);  // called when it is destroyed

  // Logs an operation: begin() returns its position, then its uses are noted, and end() is called once all of it is
  // enqueued. If enqueueing throws, `whole` is false, because nobody knows how much of it was enqueued.
  int64_t begin();
  void note(Storage& storage, Use use) {
    target_->push_back(storage.number << kKindBits | static_cast<uint64_t>(use));
    if (damaged_ > 0) uses_.push_back(&storage);
  }
  // Marks the `nth` use (from 0) as a write to part of the storage instead of a renewal.
  void keeps(size_t nth) {
    uint64_t& entry = (*target_)[begun_ + 1 + nth];
    entry = entry >> kKindBits << kKindBits | static_cast<uint64_t>(Use::writes);
  }
  // Returns the number of uses noted for the current operation.
  size_t noted() const { return target_->size() - begun_ - 1; }
  void end(bool whole = true) {
    if (!whole || damaged_ > 0) finish(whole);
  }
  // Replaces end() if nothing of the operation has been enqueued.
  void cancel() { target_->resize(begun_); }
  // Logs a launch of a graph.
  int64_t begin_graph(std::shared_ptr<const Recording> graph);
  // Logs data that leaves the device; the log owns the delivery.
  void deliver(Storage& from, std::unique_ptr<Delivery> delivery);

  // The operations noted between begin_recording() and end_recording() belong to a graph.
  void begin_recording();
  std::shared_ptr<const Recording> end_recording();

  // Returns the position at which the log ends.
  int64_t end_position() const { return first_ + static_cast<int64_t>(entries_.size()); }
  // fenced() notes that a fence is enqueued now, and returns the position behind it. wants_fence() returns true if
  // there has been no fence for so long that the log has grown large.
  int64_t fenced() { return fenced_ = end_position(); }
  bool wants_fence() const { return !recording_ && end_position() - fenced_ > kMostUnfenced; }
  // Called when a fence that was enqueued at `position` has been reached.
  void settle(int64_t position, const Failures& failures);
  // Returns the first failure that no reader has been told of, or null if there is none.
  Cause first_untold();
  // Notes that the operation at `position` has failed, as another device found out.
  void fail(int64_t position, const Cause& cause) { spread(position, -1, cause); }

 private:
  static constexpr int64_t kMostUnfenced = 1 << 16;
  static constexpr int kKindBits = 3;  // bits of an entry for its kind; the others hold the number of a storage
  class Spreading;
  void finish(bool whole);
  void spread(int64_t position, int64_t within, const Cause& cause);
  void forget_told();
  void mark(Storage& storage, const Cause& cause);
  void heal(Storage& storage);
  void trim(int64_t position);

  int64_t first_ = 0;              // position of entries_[0]
  std::vector<uint64_t> entries_;  // each has a kind and the number of a storage
  size_t head_ = 0;                // entries before it have been settled
  int64_t fenced_ = 0;             // where the log ended when the last fence was enqueued
  std::deque<std::pair<int64_t, std::shared_ptr<const Recording>>> graphs_;
  std::deque<std::pair<int64_t, std::unique_ptr<Delivery>>> deliveries_;
  std::shared_ptr<Recording> recording_;
  std::vector<uint64_t>* target_ = &entries_;  // &entries_, or the entries of the recording
  size_t begun_ = 0;                           // where the current operation begins in *target_
  std::vector<Storage*> uses_;  // storages that it uses, in that order; only kept while some storages are damaged
  Storage* live_ = nullptr;     // linked list of live storages
  uint64_t numbers_ = 0;        // numbers assigned to storages so far
  int64_t damaged_ = 0;         // number of live storages that are damaged
  std::vector<Cause> untold_;   // causes no reader has been told of
};

}  // namespace heed
