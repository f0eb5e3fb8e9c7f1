// Says which cards can read each other's memory.
#pragma once

namespace heed::cuda {

class Card;

// Returns true if copies that `to` makes can read the memory of `from` without the host. The driver is asked, and
// access is allowed, once for each pair.
bool can_read(Card& to, Card& from);

}  // namespace heed::cuda
