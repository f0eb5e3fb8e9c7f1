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

bool cache_enabled() {
  const char* value = std::getenv("HEED_CUDA_CACHE");
  return !value || std::strcmp(value, "0") != 0;
}

char* driver_allocate(size_t bytes, const char* doing) {
  CUdeviceptr address = 0;
  const CUresult result = driver()->mem_alloc(&address, bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return nullptr;
  expect_success(result, "alloc", doing);
  return reinterpret_cast<char*>(address);
}

}  // namespace

Allocator::Allocator(Stream& stream) : CachingAllocator(cache_enabled()), stream_(stream), pieces_(cache_enabled()) {}

Allocator::~Allocator() { release_cached(); }

// Calls that wait for their turn may free memory too.
bool Allocator::system_releasing() { return !stream_.submitter_->idle() || !stream_.reaper_->idle(); }

void Allocator::wait_idle() {
  stream_.submitter_->drain();
  stream_.reaper_->drain();
}

int64_t Allocator::system_available() { return static_cast<int64_t>(stream_.card_.free_memory()); }

void* Allocator::system_allocate(size_t bytes) {
  stream_.card_.make_current("alloc");
  if (!pieces_ || bytes > kLargestPiece) return driver_allocate(bytes, "allocating memory");
  std::vector<char*>& open = open_[bytes];
  if (open.empty()) {
    size_t pieces = kSlab / bytes;
    char* slab = driver_allocate(kSlab, "allocating memory");
    if (!slab) {
      pieces = 1;
      slab = driver_allocate(bytes, "allocating memory");
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

void Allocator::system_free(void* block, size_t bytes) {
  if (!pieces_ || bytes > kLargestPiece) return stream_.give_back(block);
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
  stream_.give_back(found->first);
  slabs_.erase(found);
}

}  // namespace heed::cuda
