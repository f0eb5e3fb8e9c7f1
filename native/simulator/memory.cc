#include "simulator/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace heed::simulator {

namespace {

constexpr size_t alignment = 256;
constexpr size_t redzone = 256;
constexpr uint8_t poison = 0xcb;
constexpr size_t word = 4, record = 8;  // bytes; a record belongs to a word

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

uint8_t* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<uint8_t*>(p);
}

// Whole pages of the range then cost no memory and read as zeros.
void discard(uint8_t* begin, size_t bytes) {
  constexpr uintptr_t page = 4096;
  const uintptr_t first = round_up(reinterpret_cast<uintptr_t>(begin), page);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

std::string count(size_t n) { return std::to_string(n) + (n == 1 ? " byte" : " bytes"); }

}  // namespace

// The arena is four times the capacity, so that there is room for freed memory that is not handed out again yet.
Memory::Memory(size_t capacity) : capacity_(capacity), arena_bytes_(round_up(4 * capacity + (1 << 20), 4096)) {
  arena_ = reserve(arena_bytes_);
  shadow_ = reserve(arena_bytes_ / word);
  records_ = reserve(2 * arena_bytes_ / word * record);
  if (!arena_ || !shadow_) arena_bytes_ = capacity_ = 0;
  top_ = redzone;
}

Memory::~Memory() {
  if (arena_) munmap(arena_, arena_bytes_);
  if (shadow_) munmap(shadow_, arena_bytes_ / word);
  if (records_) munmap(records_, 2 * arena_bytes_ / word * record);
}

// A part of a word is updated byte by byte.
void Memory::set_shadow(size_t offset, size_t bytes, bool addressable, bool initialised) {
  const auto update = [&](size_t index, unsigned nibble) {
    uint8_t value = shadow_[index];
    value = static_cast<uint8_t>(addressable ? value | nibble << 4 : value & ~(nibble << 4));
    value = static_cast<uint8_t>(initialised ? value | nibble : value & ~nibble);
    shadow_[index] = value;
  };
  size_t end = offset + bytes;
  for (; offset < end && offset % word; offset++) update(offset / word, 1u << offset % word);
  for (; offset < end && end % word; end--) update((end - 1) / word, 1u << (end - 1) % word);
  if (offset < end)
    std::memset(shadow_ + offset / word, (addressable ? 0xf0 : 0) | (initialised ? 0x0f : 0), (end - offset) / word);
}

void* Memory::allocate(size_t bytes, const Promise* promised) {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t most = capacity_ + (promised ? promised->load() : 0);
  if (bytes == 0 || bytes > capacity_ || bytes + used_ > most) return nullptr;
  const size_t reserved = round_up(bytes, alignment) + redzone;
  size_t place;
  if (top_ + reserved <= arena_bytes_) {
    place = top_;
    top_ += reserved;
  } else {
    // The arena is used up: take the first freed range that is large enough, with neighbours combined.
    place = 0;
    size_t run = 0;
    for (auto it = allocations_.begin(); it != allocations_.end(); ++it) {
      if (it->second.live) {
        run = 0;
        continue;
      }
      if (run == 0) place = it->first;
      run += it->second.reserved;
      if (run < reserved) continue;
      allocations_.erase(allocations_.lower_bound(place), std::next(it));
      if (run > reserved) allocations_[place + reserved] = {0, run - reserved, false};
      run = SIZE_MAX;
      break;
    }
    if (run != SIZE_MAX) return nullptr;
  }
  allocations_[place] = {bytes, reserved, true};
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  live_++;
  std::memset(arena_ + place, poison, bytes);
  set_shadow(place, bytes, true, false);
  return arena_ + place;
}

bool Memory::free(void* address, Promise* promised) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto it = allocations_.find(offset(address));
  if (it == allocations_.end() || !it->second.live) return false;
  it->second.live = false;
  used_ -= it->second.bytes;
  if (promised) *promised -= it->second.bytes;
  live_--;
  const auto [place, allocation] = *it;
  set_shadow(place, allocation.bytes, false, false);
  // Neither is read any more, and it takes long until they are handed out again.
  discard(arena_ + place, allocation.bytes);
  discard(shadow_ + place / word, allocation.bytes / word);
  for (const size_t array : {size_t{0}, arena_bytes_})
    if (records_) discard(records_ + (array + place) / word * record, allocation.bytes / word * record);
  return true;
}

std::string Memory::check(const void* address, size_t bytes, Access access, bool initialised) const {
  const size_t begin = offset(address);
  if (bytes == 0) return "";
  if (begin < arena_bytes_ && bytes <= arena_bytes_ - begin) {
    const unsigned needed = access != Access::write && initialised ? 0x11 : 0x10;
    size_t i = begin;
    const size_t end = begin + bytes;
    for (; i < end; i++) {
      if (i % word == 0 && end - i >= word && (shadow_[i / word] & needed * 0xf) == needed * 0xf) {
        i += word - 1;
      } else if ((static_cast<unsigned>(shadow_[i / word]) >> i % word & needed) != needed) {
        break;
      }
    }
    if (i >= end) return "";
    std::lock_guard<std::mutex> lock(mutex_);
    auto it = allocations_.upper_bound(i);
    if (it != allocations_.begin()) {
      --it;
      const size_t inside = i - it->first;
      const std::string size = " an allocation of " + count(it->second.bytes);
      if (it->second.live && inside < it->second.bytes)
        return "byte " + std::to_string(inside) + " of" + size + " has never been written";
      if (!it->second.live && it->second.bytes && inside < it->second.reserved)
        return "use after free: byte " + std::to_string(inside) + " of" + size + " that has been freed";
      const auto next = std::next(it);
      if (next != allocations_.end() && next->second.live && next->first - i <= redzone / 2)
        return count(next->first - begin) + " before" + " an allocation of " + count(next->second.bytes);
      if (it->second.live) return count(inside - it->second.bytes) + " past the end of" + size;
    }
    if (it != allocations_.end() && it->first > i) return count(it->first - i) + " before the first allocation";
    return "not in any allocation";
  }
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(address)));
  return address ? "address " + std::string(text) + " is not device memory" : "null pointer";
}

uint32_t Memory::next_launch() {
  if (launch_ == 255) {
    if (records_) discard(records_, 2 * arena_bytes_ / word * record);
    launch_ = 0;
  }
  return ++launch_;
}

std::string Memory::place(const void* address) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t at = offset(address);
  auto it = allocations_.upper_bound(at);
  if (it == allocations_.begin()) return "not in any allocation";
  --it;
  return "byte " + std::to_string(at - it->first) + " of an allocation of " + count(it->second.bytes);
}

void Memory::mark_initialised(void* address, size_t bytes) { set_shadow(offset(address), bytes, true, true); }

std::string Memory::copy_in(void* destination, const void* source, size_t bytes) {
  std::string wrong = check(destination, bytes, Access::write);
  if (!wrong.empty() || bytes == 0) return wrong;
  std::memcpy(destination, source, bytes);
  mark_initialised(destination, bytes);
  return "";
}

// Bytes that were never written may be copied out; only using them on the device is an error.
std::string Memory::copy_out(void* destination, const void* source, size_t bytes) const {
  std::string wrong = check(source, bytes, Access::read, false);
  if (wrong.empty() && bytes) std::memcpy(destination, source, bytes);
  return wrong;
}

std::string Memory::copy_within(void* destination, const void* source, size_t bytes) {
  std::string wrong = check(source, bytes, Access::read, false);
  if (wrong.empty()) wrong = check(destination, bytes, Access::write);
  if (!wrong.empty() || bytes == 0) return wrong;
  std::memmove(destination, source, bytes);
  const size_t from = offset(source), to = offset(destination);
  if (from % word == 0 && to % word == 0) {
    std::memmove(shadow_ + to / word, shadow_ + from / word, bytes / word);
  }
  const bool words = from % word == 0 && to % word == 0;
  std::vector<bool> written;
  const size_t first = words ? bytes / word * word : 0;
  for (size_t i = first; i < bytes; i++) written.push_back(shadow_[(from + i) / word] >> (from + i) % word & 1);
  for (size_t i = first; i < bytes; i++) set_shadow(to + i, 1, true, written[i - first]);
  return "";
}

std::string Memory::fill(void* destination, uint8_t value, size_t bytes) {
  std::string wrong = check(destination, bytes, Access::write);
  if (!wrong.empty() || bytes == 0) return wrong;
  std::memset(destination, value, bytes);
  mark_initialised(destination, bytes);
  return "";
}

size_t Memory::bytes_of(const void* address) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return allocations_.at(offset(address)).bytes;
}

size_t Memory::used() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return used_;
}
size_t Memory::peak() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return peak_;
}
size_t Memory::allocations() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return live_;
}

}  // namespace heed::simulator
