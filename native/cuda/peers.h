// Which cards can read each other's memory.
#pragma once

namespace heed::cuda {

class Card;

// Whether copies that `to` makes can read the memory of `from` without the host. Asked, and allowed, once a pair.
bool can_read(Card& to, Card& from);

}  // namespace heed::cuda
