// The host's side of attention's kernels: the problem from the operation's arguments, and which kernels take it.
#pragma once
#include <algorithm>

#include "core/checks/attention.h"
#include "cuda/kernels/attention.h"

#if !HEED_DEVICE_CODE

namespace heed::cuda {

inline HeadsView heads_view(In x) { return {x.data, {x.strides[0], x.strides[1], x.strides[2]}}; }

// Whether every row of [B, T, heads, D] starts at a multiple of 16 bytes.
inline bool rows_aligned(In x) {
  int64_t bits = reinterpret_cast<intptr_t>(x.data);
  for (int d = 0; d < 3; d++)
    if (x.shape[d] > 1) bits |= x.strides[d] * static_cast<int64_t>(size_of(x.dtype));
  return bits % 16 == 0;
}

// As good as none, and no sum with a position overflows.
constexpr int64_t kMostWindow = int64_t{1} << 40;

inline KeyBlocks key_blocks(const AttentionOptions& options) {
  const TensorView* const mask = options.block_mask;
  if (!mask) return {};
  return {mask->ptr<uint8_t>(),
          mask->shape[2],
          mask->shape[3],
          mask->shape[0] == 1 ? 0 : mask->strides[0],
          mask->shape[1] == 1 ? 0 : mask->strides[1],
          static_cast<int>(options.block_size)};
}

inline AttentionParams attention_params(const char* op, Stream& stream, const AttentionSizes& n, In q, In k, In v,
                                        const AttentionOptions& options) {
  const int64_t G = n.H / n.Hkv;
  constexpr int kMostColumns = 65535 * 64;  // a grid's second dimension, of blocks of 64 columns or more
  if (n.H > INT32_MAX || n.D > kMostColumns)
    fail(Code::shape, "%s: expected at most %d heads of a size of at most %d, got %lld of %lld", op, INT32_MAX,
         kMostColumns, static_cast<long long>(n.H), static_cast<long long>(n.D));
  return {heads_view(q),
          heads_view(k),
          heads_view(v),
          n.B,
          n.Tq,
          n.Tq * G,
          static_cast<int>(n.Tk),
          static_cast<int>(n.H),
          static_cast<int>(n.Hkv),
          static_cast<int>(G),
          static_cast<int>(n.D),
          options.key_lengths ? options.key_lengths->i32() : nullptr,
          options.query_starts ? options.query_starts->i32() : nullptr,
          options.key_ranges ? options.key_ranges->i32() : nullptr,
          options.slopes ? options.slopes->f32() : nullptr,
          key_blocks(options),
          nullptr,
          0,
          std::min(options.window, kMostWindow),
          options.causal,
          rows_aligned(q) && rows_aligned(k) && rows_aligned(v),
          static_cast<float>(options.scale * 1.4426950408889634),
          options.scale,
          static_cast<float>(options.softcap * 1.4426950408889634),
          options.softcap > 0 ? options.scale / options.softcap : 0,
          options.dropout_p < 1 ? 1 / (1 - options.dropout_p) : 0,
          dropout_threshold(options.dropout_p),
          static_cast<uint64_t>(options.seed),
          options.key_lengths ? stream.fault(op) : FaultSink{}};
}

inline int most_fast_head(const AttentionParams& p) { return p.blocks.mask ? kMostMaskedHead : kMostFastHead; }

}  // namespace heed::cuda

#endif
