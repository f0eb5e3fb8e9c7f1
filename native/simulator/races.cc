#include "simulator/races.h"

#include <algorithm>

namespace heed::simulator {

namespace {

constexpr int time_shift = 15, bytes_shift = 26, warp_shift = 30, block_shift = 36, launch_shift = 56;
constexpr uint64_t pc_mask = (1 << time_shift) - 1, strong_bit = uint64_t{1} << 35;
constexpr uint32_t last_time = (1u << (bytes_shift - time_shift)) - 1;
constexpr uint32_t block_mask = (1u << (launch_shift - block_shift)) - 1;
constexpr uint64_t all_bytes = uint64_t{15} << bytes_shift;
constexpr size_t most_kept = size_t{1} << 20, most_observations = 256;

uint32_t warp_of(uint64_t record) { return record >> warp_shift & 31; }
uint32_t block_of(uint64_t record) { return record >> block_shift & block_mask; }
uint32_t time_of(uint64_t record) { return record >> time_shift & last_time; }

// Blocks on other threads access the same records.
AccessRecord load(const AccessRecord& record) { return __atomic_load_n(&record, __ATOMIC_RELAXED); }
void store(AccessRecord& record, AccessRecord value) { __atomic_store_n(&record, value, __ATOMIC_RELAXED); }

}  // namespace

// ---- Releases

bool Releases::add(Entry entry) {
  std::vector<uint32_t>& of_block = by_block_[entry.block];
  if (!of_block.empty()) {
    const Entry& last = entries_[of_block.back()];
    if (last.published == entry.published && last.acquired.size() == entry.acquired.size()) return false;
  }
  of_block.push_back(count());
  entries_.push_back(std::move(entry));
  return true;
}

bool Releases::covers(uint32_t count, uint32_t block, uint32_t warp, uint32_t time) const {
  std::map<const Releases*, uint32_t> visited;
  return covers(count, block, warp, time, visited);
}

bool Releases::covers(uint32_t count, uint32_t block, uint32_t warp, uint32_t time,
                      std::map<const Releases*, uint32_t>& visited) const {
  uint32_t& before = visited[this];
  if (count <= before) return false;
  const uint32_t first = before;
  before = count;
  if (const auto found = by_block_.find(block); found != by_block_.end())
    for (const uint32_t i : found->second)
      if (i < count && time < entries_[i].published[warp]) return true;
  for (uint32_t i = first; i < count; i++)
    for (const Seen& seen : entries_[i].acquired)
      if (seen.at->covers(seen.count, block, warp, time, visited)) return true;
  return false;
}

// ---- LaunchRaces

LaunchRaces::LaunchRaces(Memory& memory)
    : writes(memory.access_records()),
      reads(writes + memory.arena_bytes() / 4),
      base(reinterpret_cast<uint64_t>(memory.arena())),
      launch(memory.next_launch()) {}

std::unique_ptr<LaunchRaces> LaunchRaces::of(Memory& memory) {
  return std::unique_ptr<LaunchRaces>(memory.access_records() ? new LaunchRaces(memory) : nullptr);
}

void LaunchRaces::keep() {
  if (++kept_ > most_kept) blind = true;
}

// ---- BlockOrder

void BlockOrder::reset(LaunchRaces& launch, uint32_t block, uint32_t warps) {
  launch_ = &launch;
  block_ = block;
  warps_ = warps;
  time_ = 1;
  dirty_ = false;
  seen_.assign(warps * warps, 0);
  published_.assign(warps * warps, 0);
  for (auto* joined : {joined_seen_, joined_published_})
    for (int i = 0; i < barrier_count; i++) joined[i].assign(warps, 0);
  observations_.clear();
  last_.other_block = UINT32_MAX;
}

void BlockOrder::advance() {
  if (!dirty_) return;
  dirty_ = false;
  time_++;
}

uint32_t BlockOrder::access_time() {
  dirty_ = true;
  return time_ <= last_time ? time_ : 0;
}

void BlockOrder::arrive(uint32_t warp, int barrier) {
  advance();
  const auto join = [&](std::vector<uint32_t>& joined, const std::vector<uint32_t>& known) {
    for (uint32_t v = 0; v < warps_; v++) joined[v] = std::max(joined[v], known[warp * warps_ + v]);
  };
  join(joined_seen_[barrier], seen_);
  join(joined_published_[barrier], published_);
  joined_seen_[barrier][warp] = time_;
}

void BlockOrder::leave(uint32_t warp, int barrier) {
  const auto take = [&](std::vector<uint32_t>& known, const std::vector<uint32_t>& joined) {
    for (uint32_t v = 0; v < warps_; v++) known[warp * warps_ + v] = std::max(known[warp * warps_ + v], joined[v]);
  };
  take(seen_, joined_seen_[barrier]);
  take(published_, joined_published_[barrier]);
}

void BlockOrder::complete(int barrier) {
  for (auto* joined : {joined_seen_, joined_published_}) std::fill(joined[barrier].begin(), joined[barrier].end(), 0);
}

// What the warp knows is published, and what it has observed is acquired.
void BlockOrder::fence(uint32_t warp) {
  for (Observation& o : observations_)
    if (!o.acquired[warp] && is_known(warp, o.warp, o.time)) {
      o.acquired[warp] = time_;
      dirty_ = true;
    }
  advance();
  for (uint32_t v = 0; v < warps_; v++) {
    uint32_t& published = published_[warp * warps_ + v];
    published = std::max(published, v == warp ? time_ : seen_[warp * warps_ + v]);
  }
}

bool BlockOrder::has_acquired(uint32_t warp, const Observation& o) const {
  for (uint32_t v = 0; v < warps_; v++)
    if (o.acquired[v] && is_known(warp, v, o.acquired[v])) return true;
  return false;
}

void BlockOrder::release(uint32_t warp, uint64_t address) {
  if (launch_->blind) return;
  Releases::Entry entry{block_, {published_.begin() + warp * warps_, published_.begin() + (warp + 1) * warps_}, {}};
  for (const Observation& o : observations_)
    if (has_acquired(warp, o)) entry.acquired.push_back({o.at, o.count});
  if (entry.acquired.empty() && *std::max_element(entry.published.begin(), entry.published.end()) == 0) return;
  const std::lock_guard lock(launch_->mutex);
  if (launch_->at(address).add(std::move(entry))) launch_->keep();
}

void BlockOrder::observe(uint32_t warp, uint64_t address, bool acquire) {
  const std::lock_guard lock(launch_->mutex);
  Releases& at = launch_->at(address);
  if (at.count() == 0 || launch_->blind) return;
  // A warp that waits in a loop observes the same address again and again.
  const auto same = [&](const Observation& o) {
    return o.at == &at && o.warp == warp && *std::max_element(o.acquired.begin(), o.acquired.end()) == 0;
  };
  if (observations_.empty() || !same(observations_.back())) {
    if (observations_.size() == most_observations) {
      launch_->blind = true;
      return;
    }
    observations_.push_back({&at, 0, warp, 0, std::vector<uint32_t>(warps_)});
  }
  Observation& o = observations_.back();
  o.count = at.count();
  o.time = time_;
  if (acquire) o.acquired[warp] = time_;
  dirty_ = true;
}

bool BlockOrder::is_ordered(uint32_t warp, uint32_t other_block, uint32_t other_warp, uint32_t time) {
  if (launch_->blind) return true;
  // A warp reads what another block has written word by word.
  if (last_.warp == warp && last_.other_block == other_block && last_.other_warp == other_warp && time <= last_.before)
    return true;
  for (const Observation& o : observations_) {
    if (!has_acquired(warp, o)) continue;
    const std::lock_guard lock(launch_->mutex);
    if (!o.at->covers(o.count, other_block, other_warp, time)) continue;
    last_ = {warp, other_block, other_warp, time};
    return true;
  }
  return false;
}

// ---- BlockRaces

void BlockRaces::reset(LaunchRaces& launch, uint32_t block, uint32_t warps, bool ordered) {
  launch_ = &launch;
  own_ = launch.launch << (launch_shift - block_shift) | block;
  ordered_ = ordered;
  if (ordered) order_.reset(launch, block, warps);
}

// The record is of this launch, by another block, and not known to have happened before.
bool BlockRaces::conflicts(const Warp& warp, AccessRecord record) {
  if (record >> launch_shift != launch_->launch || record >> block_shift == own_) return false;
  return !ordered_ || !order_.is_ordered(warp.index, block_of(record), warp_of(record), time_of(record));
}

void BlockRaces::read(const Warp& warp, int lane, uint64_t word, AccessRecord now, bool strong) {
  const uint64_t bytes = now & all_bytes;
  const AccessRecord written = load(launch_->writes[word]);
  if (written & bytes && !(strong && written & strong_bit) && conflicts(warp, written))
    fault(warp, lane, word, written, "read", "write");
  if (strong) return;
  AccessRecord& at = launch_->reads[word];
  const AccessRecord before = load(at);
  if (before >> block_shift == own_) {
    const AccessRecord both = now | (before & all_bytes);
    if ((before | bytes) != both) store(at, both);
  } else if (before >> launch_shift != launch_->launch || !(before & bytes)) {
    store(at, now);
  }
}

void BlockRaces::write(const Warp& warp, int lane, uint64_t word, AccessRecord now, bool strong, bool reads) {
  const uint64_t bytes = now & all_bytes;
  const AccessRecord written = load(launch_->writes[word]), read = load(launch_->reads[word]);
  const char* const doing = reads ? "atomic operation" : "write";
  if (written & bytes && !(strong && written & strong_bit) && conflicts(warp, written))
    fault(warp, lane, word, written, doing, "write");
  if (read & bytes && conflicts(warp, read)) fault(warp, lane, word, read, doing, "read");
  if (written >> block_shift == own_) {
    // An access that also races with atomic operations must not be forgotten.
    if (strong && !(written & strong_bit)) return;
    now |= written & all_bytes;
  }
  store(launch_->writes[word], now);
}

void BlockRaces::access(const Warp& warp, const uint64_t* address, uint32_t bytes, Access access, bool strong) {
  const uint64_t time = ordered_ ? order_.access_time() : 0;
  const AccessRecord now = own_ << block_shift | (strong ? strong_bit : 0) | uint64_t{warp.index} << warp_shift |
                           time << time_shift | std::min<uint64_t>(warp.pc, pc_mask);
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t offset = address[lane] - launch_->base;
    const uint64_t part = bytes >= 4 ? all_bytes : uint64_t{(1u << bytes) - 1} << offset % 4 << bytes_shift;
    for (uint64_t word = offset / 4, end = word + (bytes + 3) / 4; word < end; word++) {
      if (access == Access::read) {
        read(warp, lane, word, now | part, strong);
      } else {
        write(warp, lane, word, now | part, strong, access == Access::atomic);
      }
    }
  }
}

void BlockRaces::fault(const Warp& warp, int lane, uint64_t word, AccessRecord record, const char* now,
                       const char* before) const {
  const LaunchState& launch = *warp.block->launch;
  const uint64_t address = launch_->base + word * 4;
  const uint32_t block = block_of(record), pc = static_cast<uint32_t>(record & pc_mask);
  char hex[32];
  std::snprintf(hex, sizeof hex, "0x%llx", static_cast<unsigned long long>(address));
  fail(warp, lane, error_launch_failed,
       "race in global memory at " + std::string(hex) + " (" +
           launch.memory->place(reinterpret_cast<const void*>(address)) + "): this " + now + " and a " + before +
           " by " + block_name(launch, block) + ", warp " + std::to_string(warp_of(record)) + ", at " +
           (pc == pc_mask ? "a line beyond the recorded range" : place_name(*launch.program, pc)) +
           " have no fence and atomic operation between them");
}

}  // namespace heed::simulator
