// Finds out in which tiles of attention the block mask leaves any key visible (attention_tiles.h). A warp computes one
// word, for one block of rows and 32 tiles of keys, or for one block of keys and 32 tiles of rows, with one tile per
// lane.
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

struct AttentionTilesParams {
  AttentionParams a;
  TileWord* words;
  int64_t blocks;  // blocks of a group, each with `words_each` words
  int words_each;
  int rows, keys;  // sizes of a tile
  bool across_rows;
};

constexpr int kTilesThreads = 128;

#if HEED_DEVICE_CODE

__device__ void attention_tiles_body(const AttentionTilesParams& p) {
  const AttentionParams& a = p.a;
  const KeyBlocks& mask = a.blocks;
  const int64_t number = blockIdx.x * static_cast<int64_t>(kTilesThreads / 32) + threadIdx.x / 32;
  if (number >= a.B * a.Hkv * p.blocks * p.words_each) return;
  const int64_t outer = number / p.words_each % p.blocks, group = number / p.words_each / p.blocks;
  const int64_t inner = number % p.words_each * 32 + threadIdx.x % 32;
  const int64_t b = group / a.Hkv;
  const int g = static_cast<int>(group % a.Hkv);
  const int64_t row = (p.across_rows ? inner : outer) * p.rows, key = (p.across_rows ? outer : inner) * p.keys;
  bool any = false, all = true;
  if (row < a.rows && key < a.Tk) {
    const int64_t start = VisibleKeys(a, b).position(0);
    const int64_t first = start + row / a.G, last = start + (min(row + p.rows, a.rows) - 1) / a.G;
    const int64_t first_column = key / mask.size, last_column = min(key + p.keys - 1, a.Tk - int64_t{1}) / mask.size;
    // Positions beyond the mask see nothing.
    all = first >= 0 && last < mask.rows * mask.size;
    const int64_t last_row = min(last / mask.size, mask.rows - 1);
    // If all heads share one mask, it is examined once. A tile may lack rows of some of the group's heads, which does
    // no harm.
    const int heads = mask.head_stride == 0 ? 1 : a.G;
    for (int64_t block_row = max(first, int64_t{0}) / mask.size; last >= 0 && block_row <= last_row; block_row++)
      for (int h = 0; h < heads; h++) {
        const uint8_t* const visible =
            mask.mask + b * mask.batch_stride + (g * a.G + h) * mask.head_stride + block_row * mask.columns;
        for (int64_t column = first_column; column <= last_column; column++) {
          const bool sees = visible[column] != 0;
          any = any || sees;
          all = all && sees;
        }
      }
  }
  const TileWord word{__ballot_sync(kFullWarp, any), __ballot_sync(kFullWarp, all)};
  if (threadIdx.x % 32 == 0) p.words[number] = word;
}

#endif

HEED_KERNEL(attention_tiles, AttentionTilesParams, kTilesThreads, 1, attention_tiles_body)

#if !HEED_DEVICE_CODE

namespace {

int64_t words_of(const AttentionParams& p, TilesOf order, int keys) {
  return ceil_div(ceil_div(order == TilesOf::keys ? p.Tk : p.rows, keys), 32);
}

size_t word_bytes(const AttentionParams& p, TilesOf order, int rows, int keys) {
  if (!p.blocks.mask) return 0;
  const int64_t blocks = ceil_div(order == TilesOf::keys ? p.rows : p.Tk, rows);
  return static_cast<size_t>(p.B * p.Hkv * blocks * words_of(p, order, keys)) * sizeof(TileWord);
}

}  // namespace

MaskedTiles::MaskedTiles(Stream& stream, const char* op, AttentionParams& p, TilesOf order, int rows, int keys)
    : words_(stream, op, word_bytes(p, order, rows, keys)) {
  if (!p.blocks.mask) return;
  const bool across_rows = order == TilesOf::rows;
  AttentionTilesParams params{};
  params.a = p;
  params.words = words_.as<TileWord>();
  params.blocks = ceil_div(across_rows ? p.Tk : p.rows, rows);
  params.words_each = static_cast<int>(words_of(p, order, keys));
  params.rows = across_rows ? keys : rows;
  params.keys = across_rows ? rows : keys;
  params.across_rows = across_rows;
  p.tiles = params.words;
  p.tile_words = params.words_each;
  const int64_t words = p.B * p.Hkv * params.blocks * params.words_each;
  stream.launch(op, attention_tiles, {ceil_div(words, kTilesThreads / 32)}, params);
}

#endif

}  // namespace heed::cuda
