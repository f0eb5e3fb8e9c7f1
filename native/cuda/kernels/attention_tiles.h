// The block mask (ops.def) by tiles. Before attention itself, a kernel finds out for every block of rows (or of keys)
// in which tiles of keys (or of rows) the mask leaves anything visible, and in which it leaves everything: one bit
// each. So the loops over tiles go from one visible tile to the next, with a word for 32 of them, and elements are
// tested only in tiles that the mask cuts (in f32's backward kernels in every tile).
#pragma once
#include "cuda/kernels/attention.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

// The tiles of kSize keys or rows that one block goes over. Without a mask these are all tiles.
template <bool kMasked, int kSize>
struct TileWalk {
  __device__ __forceinline__ TileWalk(const AttentionParams&, int64_t) {}
  // first() returns the first position at which a tile is visible, and after() the next one after the tile at
  // `position`. whole() returns true if the mask leaves the whole tile there visible. A position of `end` or more means
  // that no tile follows.
  template <class Position>
  __device__ __forceinline__ Position first(Position position, Position) const {
    return position;
  }
  template <class Position>
  __device__ __forceinline__ Position after(Position position, Position) const {
    return position + kSize;
  }
  template <class Position>
  __device__ __forceinline__ bool whole(Position) const {
    return true;
  }
};

template <int kSize>
struct TileWalk<true, kSize> {
  const TileWord* words;

  // The walk of the `number`-th of all blocks of rows or keys.
  __device__ __forceinline__ TileWalk(const AttentionParams& p, int64_t number)
      : words(p.tiles + number * p.tile_words) {}
  template <class Position>
  __device__ __forceinline__ Position first(Position position, Position end) const {
    return from(position / kSize, end);
  }
  template <class Position>
  __device__ __forceinline__ Position after(Position position, Position end) const {
    return from(position / kSize + 1, end);
  }
  template <class Position>
  __device__ __forceinline__ bool whole(Position position) const {
    const auto tile = position / kSize;
    return words[tile / 32].all >> (tile % 32) & 1;
  }

 private:
  template <class Position>
  __device__ __forceinline__ Position from(Position tile, Position end) const {
#pragma unroll 1
    for (; tile * kSize < end; tile = (tile / 32 + 1) * 32) {
      const uint32_t left = words[tile / 32].any >> (tile % 32);
      if (left) return (tile + __ffs(left) - 1) * kSize;
    }
    return end;
  }
};

// Bit j says whether the mask lets a query of head h, at `position`, see key `key` + j, for kKeys keys.
template <int kKeys>
__device__ __forceinline__ uint64_t visible_keys(const AttentionParams& p, int64_t b, int h, int64_t position,
                                                 int key) {
  const KeyBlocks& blocks = p.blocks;
  const int64_t block_row = position / blocks.size;
  if (position < 0 || block_row >= blocks.rows) return 0;
  const uint8_t* const row =
      blocks.mask + b * blocks.batch_stride + h * blocks.head_stride + block_row * blocks.columns;
  uint64_t bits = 0;
  int block = key / blocks.size;
  const int past = min(key + kKeys, p.Tk);
#pragma unroll 1
  for (int64_t first = key; first < past; block++) {
    const int64_t next = min(static_cast<int64_t>(past), (block + 1) * static_cast<int64_t>(blocks.size));
    if (row[block]) bits |= ~uint64_t{0} >> (64 - (next - first)) << (first - key);
    first = next;
  }
  return bits;
}
template <int kKeys>
constexpr uint64_t kAllKeys = ~uint64_t{0} >> (64 - kKeys);

#else

enum class TilesOf { keys, rows };

// The words of a launch whose blocks have `rows` rows (or keys) and go over tiles of `keys` keys (or rows). It sets the
// fields of `p`, and does nothing without a mask. It must live until the launch.
class MaskedTiles {
 public:
  MaskedTiles(Stream& stream, const char* op, AttentionParams& p, TilesOf order, int rows, int keys);

 private:
  Stream::Workspace words_;
};

#endif

}  // namespace heed::cuda
