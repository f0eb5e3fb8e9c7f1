#include "cuda/memory.h"

#include <cstdlib>
#include <cstring>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/reaper.h"
#include "cuda/submitter.h"

namespace heed::cuda {
namespace {

constexpr size_t kSlab = size_t{2} << 20;
constexpr size_t kLargestPiece = size_t{1} << 20;

}  // namespace

bool Allocator::caches() {
  const char* value = std::getenv("HEED_CUDA_CACHE");
  return !value || std::strcmp(value, "0") != 0;
}

Allocator::Allocator(Stream& stream) : CachingAllocator(caches()), stream_(stream), pieces_(caches()) {}

Allocator::~Allocator() { release_cached(); }

bool Allocator::system_releasing() {
  return stream_.submitter_->will_act() || returned_ > 0 || !stream_.reaper_->idle();
}

uint64_t Allocator::position() { return stream_.submitter_->given(); }

bool Allocator::wait_released() {
  if (stream_.submitter_->wait_action()) return true;
  // The driver has all of it, in its order. What it cannot give before the stream has run, it may give then.
  const size_t returned = returned_.exchange(0);
  if (returned && stream_.card_.free_memory() + returned >= refused_) driver()->stream_synchronize(stream_.stream_);
  stream_.reaper_->drain();
  return false;
}

int64_t Allocator::system_available() {
  stream_.card_.try_make_current();
  return static_cast<int64_t>(stream_.card_.free_memory());
}

char* Allocator::driver_allocate(size_t bytes) {
  CUdeviceptr address = 0;
  const CUresult result = stream_.pooled_ ? driver()->mem_alloc_async(&address, bytes, stream_.stream_)
                                          : driver()->mem_alloc(&address, bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    refused_ = bytes;
    return nullptr;
  }
  expect_success(result, "alloc", "allocating memory");
  return reinterpret_cast<char*>(address);
}

void* Allocator::system_allocate(size_t bytes) {
  stream_.card_.make_current("alloc");
  if (!pieces_ || bytes > kLargestPiece) return driver_allocate(bytes);
  std::vector<char*>& open = open_[bytes];
  if (open.empty()) {
    size_t pieces = kSlab / bytes;
    char* slab = driver_allocate(kSlab);
    if (!slab) {
      pieces = 1;
      slab = driver_allocate(bytes);
    }
    if (!slab) return nullptr;
    Slab& made = slabs_[slab];
    made.piece = bytes;
    made.pieces = pieces;
    for (size_t i = made.pieces; i-- > 0;) made.free.push_back(slab + i * bytes);
    open.push_back(slab);
  }
  Slab& slab = slabs_[open.back()];
  char* piece = slab.free.back();
  slab.free.pop_back();
  if (slab.free.empty()) open.pop_back();
  return piece;
}

void Allocator::system_free(void* block, size_t bytes, uint64_t last_use) {
  if (!pieces_ || bytes > kLargestPiece) return stream_.give_back(block, bytes, last_use);
  char* piece = static_cast<char*>(block);
  const auto found = std::prev(slabs_.upper_bound(piece));
  Slab& slab = found->second;
  std::vector<char*>& open = open_[slab.piece];
  if (slab.free.empty()) open.push_back(found->first);
  slab.free.push_back(piece);
  if (slab.free.size() < slab.pieces) return;
  for (size_t i = 0; i < open.size(); i++)
    if (open[i] == found->first) {
      open[i] = open.back();
      open.pop_back();
      break;
    }
  stream_.give_back(found->first, slab.piece * slab.pieces, last_use);
  slabs_.erase(found);
}

}  // namespace heed::cuda
