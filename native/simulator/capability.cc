#include "simulator/capability.h"

namespace heed::simulator {

namespace {

constexpr Capability of(int number, uint32_t shared_kb, int threads, int blocks) {
  return {number, shared_kb * 1024, shared_kb * 1024 - (number >= 80 ? reserved_shared : 0), threads, blocks};
}

constexpr Capability capabilities[] = {of(75, 64, 1024, 16),   of(80, 164, 2048, 32),  of(86, 100, 1536, 16),
                                       of(87, 164, 1536, 16),  of(89, 100, 1536, 24),  of(90, 228, 2048, 32),
                                       of(100, 228, 2048, 32), of(110, 228, 1536, 24), of(120, 100, 1536, 24)};

}  // namespace

const Capability& capability(int number) {
  const Capability* found = capabilities;
  for (const Capability& known : capabilities)
    if (known.number <= number) found = &known;
  return *found;
}

}  // namespace heed::simulator
