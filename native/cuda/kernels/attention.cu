// attention_forward: out = dropout(softmax(scores(q k^T) + mask)) v, and lse, the natural log of Σ exp of each row's
// scores. The kernels go over the keys in tiles and keep the softmax online (FlashAttention-2, Dao 2023; Milakov &
// Gimelshein 2018), so that no [Tq, Tk] matrix exists. Backward needs q, k, v, out and lse. A row that sees no key
// gives 0 and lse = -inf.
//
// The kernel is chosen by dtype and head size alone, so that few rows have the bits of many:
// - bf16 and f16 with D <= 256, or D <= 128 with a block mask: attention_forward_mma.cu, on tensor cores;
// - f32, and larger D: attention_forward_fma.cu.
// Both read keys and values in pages where they lie. Tiles of keys and splits are counted from key 0.
//
// In inference, which keeps no lse, keys are summed in splits of a size that follows from the dtype: a row's bits
// depend on the keys that it sees and their positions alone. If there are fewer blocks of rows than multiprocessors,
// splits may have blocks of their own (attention_split.h). In training the keys are split only in this case, evenly.
//
// Splitting shortens the longest block, but the blocks must then meet and read each other's parts. Both are estimated
// in clocks, with figures of the A100. All of this depends on shapes and the device only.
#include <algorithm>

#include "cuda/kernels/attention_host.h"
#include "cuda/kernels/attention_split.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if !HEED_DEVICE_CODE

namespace {

ForwardKind kind_of(DType dtype, DType keys, const AttentionParams& p) {
  if (p.blocks.mask) return ForwardKind::masked;
  if (p.scales.k) return ForwardKind::int8;
  if (keys == dtype) return ForwardKind::forward;
  return keys == DType::bf16 ? ForwardKind::bf16 : ForwardKind::f16;
}

ForwardKernel forward_kernel(DType dtype, DType keys, const AttentionParams& p) {
  const ForwardKind kind = kind_of(dtype, keys, p);
  return dtype != DType::f32 && p.D <= most_fast_head(p) ? attention_mma_kernel(dtype, p.D, kind)
                                                         : attention_fma_kernel(dtype, p.D, kind);
}

constexpr int64_t kSplitTile = 64;  // a split has a multiple of this number of keys
// Keys of a split in inference: short enough for blocks of their own to be done soon, and long enough for putting the
// sums aside to cost many rows little.
constexpr int64_t inference_split(DType dtype) { return dtype == DType::f32 ? 128 : 256; }
constexpr int64_t kMostParts = int64_t{256} << 20;  // bytes of all parts, if splits have blocks of their own
constexpr size_t kMostShared = size_t{96} << 10;    // of a block that keeps its sums there: every card has as much

struct Splits {
  int64_t keys;   // of a split
  int64_t items;  // of a row
};

Splits splits_of(const ForwardKernel& kernel, DType dtype, bool inference, int64_t blocks, int64_t part_floats,
                 int64_t Tk, int64_t D, int64_t multiprocessors) {
  constexpr double kStart = 1000;    // clocks until the first keys have arrived
  constexpr double kMeeting = 1500;  // clocks for stores, a fence and an atomic
  constexpr double kBytes = 32;      // bytes that a multiprocessor reads from L2 per clock
  const int64_t tiles = std::max<int64_t>(ceil_div(Tk, kSplitTile), 1);
  const double tile =
      2.0 * kernel.rows * kSplitTile * static_cast<double>(std::min<int64_t>(D, kernel.columns)) / kernel.speed;
  const int64_t at_once = kernel.together * multiprocessors;
  const auto clocks = [&](int64_t splits) {
    const auto rounds = static_cast<double>(ceil_div(blocks * splits, at_once));
    const double parts = kMeeting + static_cast<double>((splits + 1) * part_floats) * 4 / kBytes;
    return rounds * (kStart + static_cast<double>(ceil_div(tiles, splits)) * tile) + (splits > 1 ? parts : 0);
  };
  if (inference) {
    const int64_t keys = inference_split(dtype), splits = std::max<int64_t>(ceil_div(Tk, keys), 1);
    const bool apart =
        blocks < multiprocessors && blocks * splits * part_floats * 4 <= kMostParts && clocks(splits) < clocks(1);
    return {keys, apart ? splits : 1};
  }
  int64_t best = 1;
  if (blocks < multiprocessors) {
    const int64_t most = std::min(tiles, ceil_div(at_once, blocks));
    for (int64_t splits = 2; splits <= most; splits++)
      if (clocks(splits) < clocks(best)) best = splits;
    if (clocks(best) > 0.8 * clocks(1)) best = 1;
  }
  const int64_t keys = ceil_div(tiles, best) * kSplitTile;
  return {keys, std::max<int64_t>(ceil_div(Tk, keys), 1)};
}

}  // namespace

void host::attention_forward(Stream& stream, Out out, OptOut lse, In q, In k, In v, OptIn k_scales, OptIn v_scales,
                             OptIn pages, OptIn key_lengths, OptIn query_starts, OptIn key_ranges, OptIn slopes,
                             OptIn relative, Bool causal, Int window, Float softcap, Float scale, Float dropout_p,
                             Int seed, OptIn block_mask, Int block_size) {
  const char* op = "attention_forward";
  const AttentionOptions options{k_scales, v_scales, pages,      key_lengths, query_starts, key_ranges,
                                 slopes,   relative, block_mask, block_size,  causal,       window,
                                 softcap,  scale,    dropout_p,  seed};
  const AttentionSizes n = check_attention(op, q, k, v, options, !lse);
  expect_queries(op, "out", out, n, q.dtype);
  if (lse) expect_lse(op, *lse, n);
  if (lse && relative) fail(Code::argument, "%s: expected no relative biases with lse, got some", op);
  if (out.empty()) return;

  AttentionForwardParams p{};
  p.a = attention_params(op, stream, n, q, k, v, options);
  p.a.aligned = p.a.aligned && rows_aligned(out);
  p.out = heads_view(out);
  p.lse = lse ? lse->f32() : nullptr;
  const int64_t groups = n.B * n.Hkv;
  ForwardKernel chosen = forward_kernel(q.dtype, k.dtype, p.a);
  const int64_t column_blocks = ceil_div(n.D, chosen.columns);
  p.blocks = ceil_div(p.a.rows, chosen.rows);
  p.part_threads = static_cast<int>(32 * ceil_div(std::min<int64_t>(p.a.rows, chosen.rows), chosen.warp_rows));
  p.part_floats = p.part_threads * chosen.thread_floats;
  const int64_t blocks = groups * p.blocks * column_blocks;
  const Splits splits = splits_of(chosen, q.dtype, !lse, blocks, p.part_floats, n.Tk, n.D, stream.multiprocessors());
  p.split_keys = static_cast<int>(std::min<int64_t>(splits.keys, INT32_MAX / 2));
  p.splits = static_cast<int>(splits.items);

  const bool apart = p.splits > 1, in_turn = !apart && n.Tk > p.split_keys;
  const size_t part_bytes = static_cast<size_t>(p.part_floats) * 4;
  const bool in_shared = in_turn && chosen.shared + part_bytes <= kMostShared;
  p.kept = chosen.shared;
  if (in_shared) chosen.shared += part_bytes;
  const bool in_memory = apart || (in_turn && !in_shared);
  const Stream::Workspace workspace(stream, op, in_memory ? static_cast<size_t>(blocks * p.splits) * part_bytes : 0);
  p.parts = in_memory ? workspace.f32() : nullptr;
  p.arrivals = apart ? stream.arrivals(op, blocks) : nullptr;
  const MaskedTiles tiles(stream, op, p.a, TilesOf::keys, chosen.rows, chosen.keys);
  stream.launch(op, *chosen.kernel, {groups * p.blocks * p.splits, column_blocks}, p, chosen.shared);
}

#endif

}  // namespace heed::cuda
