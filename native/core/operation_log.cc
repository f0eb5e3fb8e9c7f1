#include "core/operation_log.h"

#include <algorithm>
#include <unordered_map>

#include "core/storage.h"

namespace heed {
namespace {

// The kind is in the lowest bits of an entry.
enum Kind : uint64_t { kReads, kWrites, kRenews, kOperation, kGraph, kDelivery };
constexpr int kKindBits = 3;

constexpr uint64_t entry(Kind kind, uint64_t number = 0) { return number << kKindBits | kind; }
constexpr Kind kind_of(uint64_t entry) { return static_cast<Kind>(entry & ((1u << kKindBits) - 1)); }
constexpr uint64_t number_of(uint64_t entry) { return entry >> kKindBits; }

static_assert(static_cast<uint64_t>(OperationLog::Use::reads) == kReads &&
              static_cast<uint64_t>(OperationLog::Use::writes) == kWrites &&
              static_cast<uint64_t>(OperationLog::Use::renews) == kRenews);

}  // namespace

Delivery::~Delivery() = default;

class OperationLog::Recording {
 public:
  std::vector<uint64_t> entries;
};

OperationLog::OperationLog() = default;
OperationLog::~OperationLog() = default;

void OperationLog::add(Storage* live) {
  live->number = ++numbers_;
  live->next = live_;
  if (live_) live_->previous = live;
  live_ = live;
}

void OperationLog::remove(Storage* live) {
  if (live->damage) damaged_--;
  if (live->next) live->next->previous = live->previous;
  if (live->previous)
    live->previous->next = live->next;
  else
    live_ = live->next;
}

int64_t OperationLog::begin() {
  const int64_t position = recording_ ? static_cast<int64_t>(recording_->entries.size()) : end_position();
  begun_ = target_->size();
  target_->push_back(entry(kOperation));
  uses_.clear();
  return position;
}

void OperationLog::finish(bool whole) {
  if (!whole)
    for (size_t nth = 0; nth < noted(); nth++)
      if (kind_of((*target_)[begun_ + 1 + nth]) == kRenews) keeps(nth);
  // While a graph is recorded nothing runs. The launches of the graph pass damage on.
  if (recording_) return;
  const uint64_t* const entries = target_->data() + begun_ + 1;
  Cause cause;
  for (size_t i = 0; i < uses_.size(); i++)
    if (kind_of(entries[i]) == kReads && uses_[i]->damage && !cause) cause = uses_[i]->damage;
  for (size_t i = 0; i < uses_.size(); i++) {
    Storage& storage = *uses_[i];
    if (kind_of(entries[i]) == kReads) continue;
    // A storage that is written completely no longer depends on what it held before.
    if (kind_of(entries[i]) == kRenews) heal(storage);
    if (cause) mark(storage, cause);
  }
}

void OperationLog::deliver(Storage& from, std::unique_ptr<Delivery> delivery) {
  if (from.damage) delivery->damaged(from.damage);
  deliveries_.emplace_back(end_position(), std::move(delivery));
  entries_.push_back(entry(kDelivery, from.number));
}

void OperationLog::begin_recording() {
  recording_ = std::make_shared<Recording>();
  target_ = &recording_->entries;
}
std::shared_ptr<const OperationLog::Recording> OperationLog::end_recording() {
  target_ = &entries_;
  return std::exchange(recording_, nullptr);
}

void OperationLog::mark(Storage& storage, const Cause& cause) {
  if (storage.damage) return;  // the first failure is the cause of all later ones
  storage.damage = cause;
  damaged_++;
}

void OperationLog::heal(Storage& storage) {
  if (!storage.damage) return;
  storage.damage.reset();
  damaged_--;
}

// Finds how far one failure spreads: collects the numbers of the storages that it has damaged, up to the current place
// in the log.
class OperationLog::Spreading {
 public:
  explicit Spreading(const std::vector<Storage*>& damaged) {
    for (const Storage* storage : damaged) damaged_.emplace(storage->number, storage->damage);
  }
  explicit Spreading(Cause cause) : cause_(std::move(cause)) {}

  // Processes the operation at entries[at] and returns where the next one begins. `fails` marks the operation that
  // failed.
  size_t operation(const std::vector<uint64_t>& entries, size_t at, bool fails) {
    size_t end = at + 1;
    const Cause* cause = fails ? &cause_ : nullptr;
    for (; end < entries.size() && kind_of(entries[end]) <= kRenews; end++)
      if (!cause && kind_of(entries[end]) == kReads) cause = find(number_of(entries[end]));
    const Cause kept = cause ? *cause : nullptr;  // a copy, because the value may move while more are added
    for (size_t i = at + 1; i < end; i++) {
      const Kind kind = kind_of(entries[i]);
      if (kind == kReads) continue;
      if (kind == kRenews) damaged_.erase(number_of(entries[i]));
      if (kept) damaged_.emplace(number_of(entries[i]), kept);
    }
    return end;
  }

  // Processes all operations of a recording from `first` on; the operation at `fails` failed.
  void recording(const std::vector<uint64_t>& entries, size_t first, int64_t fails) {
    for (size_t at = first; at < entries.size();)
      at = operation(entries, at, fails >= 0 && at == static_cast<size_t>(fails));
  }

  const Cause* find(uint64_t number) const {
    const auto found = damaged_.find(number);
    return found == damaged_.end() ? nullptr : &found->second;
  }

 private:
  Cause cause_;
  std::unordered_map<uint64_t, Cause> damaged_;
};

int64_t OperationLog::begin_graph(std::shared_ptr<const Recording> graph) {
  const int64_t position = end_position();
  if (damaged_ > 0) {
    std::vector<Storage*> damaged;
    for (Storage* storage = live_; storage; storage = storage->next)
      if (storage->damage) damaged.push_back(storage);
    Spreading spreading(damaged);
    spreading.recording(graph->entries, 0, -1);
    for (Storage* storage = live_; storage; storage = storage->next) {
      heal(*storage);
      if (const Cause* cause = spreading.find(storage->number)) mark(*storage, *cause);
    }
  }
  entries_.push_back(entry(kGraph));
  graphs_.emplace_back(position, std::move(graph));
  return position;
}

void OperationLog::spread(int64_t position, int64_t within, const Cause& cause) {
  Spreading spreading(cause);
  auto graph = std::lower_bound(graphs_.begin(), graphs_.end(), position,
                                [](const auto& item, int64_t at) { return item.first < at; });
  auto delivery = std::lower_bound(deliveries_.begin(), deliveries_.end(), position,
                                   [](const auto& item, int64_t at) { return item.first < at; });
  for (auto at = static_cast<size_t>(position - first_); at < entries_.size();) {
    const bool here = at == static_cast<size_t>(position - first_);
    switch (kind_of(entries_[at])) {
      case kGraph:
        spreading.recording((graph++)->second->entries, here && within > 0 ? static_cast<size_t>(within) : 0,
                            here ? within : -1);
        at++;
        break;
      case kDelivery:
        if (const Cause* found = spreading.find(number_of(entries_[at]))) delivery->second->damaged(*found);
        delivery++;
        at++;
        break;
      default:
        at = spreading.operation(entries_, at, here);
    }
  }
  for (Storage* storage = live_; storage; storage = storage->next)
    if (const Cause* found = spreading.find(storage->number)) mark(*storage, *found);
}

void OperationLog::settle(int64_t position, const Failures& failures) {
  if (failures.device) {
    const Cause cause = std::make_shared<Mishap>(*failures.device);
    for (const auto& [at, delivery] : deliveries_) delivery->damaged(cause);
  }
  for (const Failure& failure : failures.operations) {
    const Cause cause = std::make_shared<Mishap>(failure.error);
    constexpr size_t kMostUntold = 16;
    if (untold_.size() == kMostUntold) forget_told();
    if (untold_.size() < kMostUntold) untold_.push_back(cause);
    spread(failure.position, failure.within, cause);
  }
  trim(position);
}

void OperationLog::forget_told() {
  untold_.erase(std::remove_if(untold_.begin(), untold_.end(), [](const Cause& cause) { return cause->told; }),
                untold_.end());
}

Cause OperationLog::first_untold() {
  forget_told();
  return untold_.empty() ? nullptr : untold_.front();
}

void OperationLog::trim(int64_t position) {
  while (!graphs_.empty() && graphs_.front().first < position) graphs_.pop_front();
  while (!deliveries_.empty() && deliveries_.front().first < position) deliveries_.pop_front();
  head_ = std::max(head_, static_cast<size_t>(std::max<int64_t>(position - first_, 0)));
  // The entries are moved only when that is little work compared with the number of dropped ones.
  if (head_ * 2 < entries_.size()) return;
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<int64_t>(head_));
  first_ += static_cast<int64_t>(head_);
  head_ = 0;
}

}  // namespace heed
