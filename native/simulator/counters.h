// Counts the work of kernels, accumulated by kernel name. The figures do not depend on the machine.
#pragma once
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace heed::simulator {

struct KernelCounters {
#define HEED_SIMULATOR_COUNTERS(X)                                           \
  X(launches)                                                                \
  X(blocks)                                                                  \
  X(dynamic_shared_bytes) /* of a block, added up over launches */           \
  X(instructions)         /* warp instructions, the next six included */     \
  X(mma)                                                                     \
  X(ldmatrix)                                                                \
  X(global_loads)                                                            \
  X(global_stores)                                                           \
  X(shared_loads)                                                            \
  X(shared_stores)                                                           \
  X(global_load_bytes) /* asked for by the lanes */                          \
  X(global_store_bytes)                                                      \
  X(global_load_sectors) /* of 32 bytes, counted once a request */           \
  X(global_store_sectors)                                                    \
  X(global_load_sectors_ideal) /* if the bytes asked for lay side by side */ \
  X(global_store_sectors_ideal)                                              \
  X(unique_load_bytes) /* different bytes in each launch */                  \
  X(unique_store_bytes)                                                      \
  X(shared_wavefronts)                                                       \
  X(shared_wavefronts_ideal)                                                 \
  X(local_accesses)                                                          \
  X(atomics)                                                                 \
  X(barriers) /* arrivals of warps */                                        \
  X(divergent_branches)
#define X(name) uint64_t name = 0;
  HEED_SIMULATOR_COUNTERS(X)
#undef X
  void add(const KernelCounters& other);
};

class Counters {
 public:
  void add(const std::string& kernel, const KernelCounters& counters);
  std::map<std::string, KernelCounters> get() const;
  void clear();
  // {"kernel": {"launches": 1, …}, …}
  std::string json() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, KernelCounters> kernels_;
};

}  // namespace heed::simulator
