// attention_forward: out = dropout(softmax(scores(q k^T) + mask)) v, and lse, the natural log of Σ exp of each row's
// scores. The kernels go over the keys in tiles and keep the softmax online (FlashAttention-2, Dao 2023; Milakov &
// Gimelshein 2018), so that no [Tq, Tk] matrix exists. Backward needs q, k, v, out and lse. A row that sees no key
// gives 0 and lse = -inf.
//
// The kernel is chosen as follows:
// - few rows per group, no backward to follow and no block mask: attention_decode.cu, bound by memory, for any dtype;
// - bf16 and f16 with D <= 256, or D <= 128 with a block mask: attention_forward_mma.cu, on tensor cores;
// - f32, and larger D: attention_forward_fma.cu.
// Decoding reads keys and values in pages where they lie; for the others they are gathered first (attention_pages.cu).
//
// If there are fewer blocks of rows than multiprocessors, the keys may be split (attention_split.h). Splitting shortens
// the longest block, but the blocks must then meet and read each other's parts. Both are estimated in clocks, with
// figures of the A100, and the keys are split if the estimate falls by a fifth or more. All of this depends on shapes
// and the device only.
#include <algorithm>

#include "cuda/kernels/attention_host.h"
#include "cuda/kernels/attention_pages.h"
#include "cuda/kernels/attention_split.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if !HEED_DEVICE_CODE

namespace {

bool decodes(DType dtype, const AttentionParams& p, bool may_decode) {
  // 16 rows fill a tensor core's tile in part only, but from 5 on it is faster than what decoding spends on them.
  return may_decode && !p.blocks.mask && p.D <= kMostFastHead && p.rows <= (dtype == DType::f32 ? 16 : 4);
}

ForwardKernel forward_kernel(DType dtype, const AttentionParams& p, bool may_decode) {
  const int D = p.D;
  const bool masked = p.blocks.mask;
  if (decodes(dtype, p, may_decode)) return attention_decode_kernel(dtype, D, p.rows);
  return dtype != DType::f32 && D <= most_fast_head(p) ? attention_mma_kernel(dtype, D, masked)
                                                       : attention_fma_kernel(dtype, D, masked);
}

constexpr int64_t kSplitTile = 64;  // a split has a multiple of this number of keys

// Returns the number of keys of a split. It is Tk or more if they are not split.
int64_t split_keys(const ForwardKernel& kernel, int64_t blocks, int64_t Tk, int64_t D, int64_t multiprocessors) {
  constexpr double kStart = 1000;    // clocks until the first keys have arrived
  constexpr double kMeeting = 1500;  // clocks for stores, a fence and an atomic
  constexpr double kBytes = 32;      // bytes that a multiprocessor reads from L2 per clock
  const int64_t tiles = std::max<int64_t>(ceil_div(Tk, kSplitTile), 1);
  const double tile =
      2.0 * kernel.rows * kSplitTile * static_cast<double>(std::min<int64_t>(D, kernel.columns)) / kernel.speed;
  const int64_t at_once = kernel.together * multiprocessors;
  const auto clocks = [&](int64_t splits) {
    const auto rounds = static_cast<double>(ceil_div(blocks * splits, at_once));
    const double parts = kMeeting + static_cast<double>(splits + 1) * kernel.part_floats * 4 / kBytes;
    return rounds * (kStart + static_cast<double>(ceil_div(tiles, splits)) * tile) + (splits > 1 ? parts : 0);
  };
  int64_t best = 1;
  if (blocks < multiprocessors) {
    const int64_t most = std::min(tiles, ceil_div(at_once, blocks));
    for (int64_t splits = 2; splits <= most; splits++)
      if (clocks(splits) < clocks(best)) best = splits;
    if (clocks(best) > 0.8 * clocks(1)) best = 1;
  }
  return ceil_div(tiles, best) * kSplitTile;
}

}  // namespace

void host::attention_forward(Stream& stream, Out out, OptOut lse, In q, In k, In v, OptIn pages, OptIn key_lengths,
                             OptIn query_starts, OptIn key_ranges, OptIn slopes, Bool causal, Int window, Float softcap,
                             Float scale, Float dropout_p, Int seed, OptIn block_mask, Int block_size) {
  const char* op = "attention_forward";
  const AttentionOptions options{pages,  key_lengths, query_starts, key_ranges, slopes,    block_mask, block_size,
                                 causal, window,      softcap,      scale,      dropout_p, seed};
  const AttentionSizes n = check_attention(op, q, k, v, options);
  expect_queries(op, "out", out, n, q.dtype);
  if (lse) expect_lse(op, *lse, n);
  if (out.empty()) return;

  AttentionForwardParams p{};
  p.a = attention_params(op, stream, n, q, k, v, options);
  p.a.aligned = p.a.aligned && rows_aligned(out);
  p.out = heads_view(out);
  p.lse = lse ? lse->f32() : nullptr;
  const int64_t groups = n.B * n.Hkv;
  const bool may_decode = !lse && p.a.drop_threshold == 0;
  const ForwardKernel chosen = forward_kernel(q.dtype, p.a, may_decode);
  const bool gathers = pages && !decodes(q.dtype, p.a, may_decode);
  const GatheredKeys gathered(stream, op, gathers ? &p.a : nullptr, q.dtype);
  const int64_t column_blocks = ceil_div(n.D, chosen.columns);
  p.blocks = ceil_div(p.a.rows, chosen.rows);
  const int64_t blocks = groups * p.blocks * column_blocks;
  const int64_t keys = split_keys(chosen, blocks, n.Tk, n.D, stream.multiprocessors());
  p.split_keys = static_cast<int>(std::min<int64_t>(keys, INT32_MAX));
  p.splits = static_cast<int>(std::max<int64_t>(ceil_div(n.Tk, keys), 1));
  p.part_floats = chosen.part_floats;

  const bool split = p.splits > 1;
  const Stream::Workspace workspace(stream, op, split ? static_cast<size_t>(blocks * p.splits) * p.part_floats * 4 : 0);
  p.parts = workspace.f32();
  p.arrivals = split ? stream.arrivals(op, blocks) : nullptr;
  const MaskedTiles tiles(stream, op, p.a, TilesOf::keys, chosen.rows, chosen.keys);
  stream.launch(op, *chosen.kernel, {groups * p.blocks * p.splits, column_blocks}, p, chosen.shared);
}

#endif

}  // namespace heed::cuda
