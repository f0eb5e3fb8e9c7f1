#include "cuda/peers.h"

#include <mutex>

#include "cuda/card.h"

namespace heed::cuda {
namespace {

constexpr CUresult kAlreadyEnabled = 704;

// A context's access to another one does not extend to memory of a pool.
bool share_pool(const Card& to, const Card& from) {
  const Driver& d = *driver();
  const CUmemAccessDesc access{CU_MEM_LOCATION_TYPE_DEVICE, to.device, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  CUmemoryPool pool = nullptr;
  return d.device_get_default_mem_pool(&pool, from.device) == CUDA_SUCCESS &&
         d.mem_pool_set_access(pool, &access, 1) == CUDA_SUCCESS;
}

bool enable(Card& to, Card& from) {
  const Driver& d = *driver();
  int can = 0;
  if (d.device_can_access_peer(&can, to.device, from.device) != CUDA_SUCCESS || !can) return false;
  const CUcontext peer = from.make_current("copy");
  to.make_current("copy");
  const CUresult result = d.context_enable_peer_access(peer, 0);
  return (result == CUDA_SUCCESS || result == kAlreadyEnabled) && (!from.pools || share_pool(to, from));
}

}  // namespace

bool can_read(Card& to, Card& from) {
  if (&to == &from || missing(Feature::peers)) return false;
  enum : char { unknown, yes, no };
  static std::mutex& mutex = *new std::mutex;
  static char known[kMaxDevices][kMaxDevices];
  const std::lock_guard lock(mutex);
  char& answer = known[to.index][from.index];
  if (answer == unknown) answer = enable(to, from) ? yes : no;
  return answer == yes;
}

}  // namespace heed::cuda
