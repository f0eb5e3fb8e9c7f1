// Whose error a failure is. An operation that fails on the device has not written its outputs: they are damaged, and so
// is what is computed from them. Whoever reads a damaged tensor gets the failure; everybody else gets numbers.
//
// Nothing of that is followed while all goes well. The log notes which storages each operation reads and writes, from
// the last fence that was reached on. Only when a fence brings a failure is the log gone through from there. An
// operation that is called later, when a storage is known to be damaged, hands the damage on at once. A storage is
// whole again when an operation writes all of it, from what is whole.
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

// What leaves the device: a read, or a copy on its way to another one.
class Delivery {
 public:
  virtual ~Delivery();
  // Before the fence that follows it is settled; what comes first is the cause.
  virtual void damaged(const Cause& cause) = 0;
};

class OperationLog {
 public:
  // How an operation uses a storage.
  enum class Use : uint64_t {
    reads,
    writes,  // some of it, or adds to it
    renews,  // writes all of it
  };

  // The operations of a graph, at positions from 0.
  class Recording;

  OperationLog();
  ~OperationLog();
  OperationLog(const OperationLog&) = delete;
  OperationLog& operator=(const OperationLog&) = delete;

  void add(Storage* live);     // a storage was made
  void remove(Storage* live);  // and goes

  // An operation: begin() gives the position that is its own, then come its uses, and once all of it is enqueued end().
  // Where enqueueing throws, `whole` is false: nobody knows how much of it there is.
  int64_t begin();
  void note(Storage& storage, Use use) {
    target_->push_back(storage.number << kKindBits | static_cast<uint64_t>(use));
    if (damaged_ > 0) uses_.push_back(&storage);
  }
  // What was noted as the `nth` use, from 0, is written to, not renewed.
  void keeps(size_t nth) {
    uint64_t& entry = (*target_)[begun_ + 1 + nth];
    entry = entry >> kKindBits << kKindBits | static_cast<uint64_t>(Use::writes);
  }
  // How many uses there are of the operation at hand.
  size_t noted() const { return target_->size() - begun_ - 1; }
  void end(bool whole = true) {
    if (!whole || damaged_ > 0) finish(whole);
  }
  // Instead of end(): nothing of it has been enqueued.
  void cancel() { target_->resize(begun_); }
  // A launch of a graph.
  int64_t begin_graph(std::shared_ptr<const Recording> graph);
  // Something that leaves the device; the log owns it.
  void deliver(Storage& from, std::unique_ptr<Delivery> delivery);

  // What is noted between the two belongs to a graph.
  void begin_recording();
  std::shared_ptr<const Recording> end_recording();

  // Where the log ends.
  int64_t end_position() const { return first_ + static_cast<int64_t>(entries_.size()); }
  // A fence is enqueued now: what is behind it. Whether there has been none for long, so that the log has grown.
  int64_t fenced() { return fenced_ = end_position(); }
  bool wants_fence() const { return !recording_ && end_position() - fenced_ > kMostUnfenced; }
  // A fence was reached that was enqueued at `position`.
  void settle(int64_t position, const Failures& failures);
  // The first failure that no reader has been told of; null where there is none.
  Cause first_untold();
  // The operation at `position` has failed, as another device found out.
  void fail(int64_t position, const Cause& cause) { spread(position, -1, cause); }

 private:
  static constexpr int64_t kMostUnfenced = 1 << 16;
  static constexpr int kKindBits = 3;  // of an entry; the others are the number of a storage
  class Spreading;
  void finish(bool whole);
  void spread(int64_t position, int64_t within, const Cause& cause);
  void forget_told();
  void mark(Storage& storage, const Cause& cause);
  void heal(Storage& storage);
  void trim(int64_t position);

  int64_t first_ = 0;              // position of entries_[0]
  std::vector<uint64_t> entries_;  // each a kind and the number of a storage
  size_t head_ = 0;                // what is before has been settled
  int64_t fenced_ = 0;             // where the log ended when a fence was enqueued last
  std::deque<std::pair<int64_t, std::shared_ptr<const Recording>>> graphs_;
  std::deque<std::pair<int64_t, std::unique_ptr<Delivery>>> deliveries_;
  std::shared_ptr<Recording> recording_;
  std::vector<uint64_t>* target_ = &entries_;  // or those of the recording
  size_t begun_ = 0;                           // where the operation at hand begins in it
  std::vector<Storage*> uses_;                 // what it uses, in that order, while some storages are damaged
  Storage* live_ = nullptr;                    // a list
  uint64_t numbers_ = 0;                       // given to storages so far
  int64_t damaged_ = 0;                        // live storages that are
  std::vector<Cause> untold_;                  // the first of them
};

}  // namespace heed
