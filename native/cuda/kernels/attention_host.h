// The host side of attention's kernels: it derives the problem from the operation's arguments and chooses the kernels.
#pragma once
#include <algorithm>

#include "core/checks/attention.h"
#include "cuda/kernels/attention.h"

#if !HEED_DEVICE_CODE

namespace heed::cuda {

// Strides of dimensions of size 1 are not used and may be any number. They become 0, so that rows beyond the last one,
// for which cp.async reads nothing, have aligned addresses too.
inline HeadsView heads_view(In x) {
  const auto stride = [&](int d) { return x.shape[d] > 1 ? x.strides[d] : 0; };
  return {x.data, {stride(0), stride(1), stride(2)}};
}

// Returns true if every row of [B, T, heads, D] starts at a multiple of so many bytes.
inline bool rows_aligned(In x, int64_t bytes = 16) {
  int64_t bits = reinterpret_cast<intptr_t>(x.data);
  for (int d = 0; d < 3; d++)
    if (x.shape[d] > 1) bits |= x.strides[d] * static_cast<int64_t>(size_of(x.dtype));
  return bits % bytes == 0;
}

inline KeyBlocks key_blocks(const AttentionOptions& options) {
  const TensorView* const mask = options.block_mask;
  if (!mask) return {};
  KeyBlocks blocks{};
  blocks.mask = mask->ptr<uint8_t>();
  blocks.rows = mask->shape[2];
  blocks.columns = mask->shape[3];
  blocks.batch_stride = mask->shape[0] == 1 ? 0 : mask->strides[0];
  blocks.head_stride = mask->shape[1] == 1 ? 0 : mask->strides[1];
  blocks.size = static_cast<int>(options.block_size);
  return blocks;
}

inline KeyPages key_pages(In k, const AttentionOptions& options) {
  const TensorView* const pages = options.pages;
  if (!pages) return {};
  if (k.shape[0] > INT32_MAX || k.shape[1] > INT32_MAX)
    fail(Code::shape, "attention: expected at most %d pages of at most as many tokens, got %lld of %lld", INT32_MAX,
         static_cast<long long>(k.shape[0]), static_cast<long long>(k.shape[1]));
  return {pages->i32(), pages->shape[1], static_cast<int>(k.shape[1]), static_cast<int>(k.shape[0])};
}

inline KeyScales key_scales(In k, In v, const AttentionOptions& options) {
  if (!options.k_scales) return {};
  return {options.k_scales->f32(), options.v_scales->f32(), k.shape[1], rows_aligned(k, 8) && rows_aligned(v, 8)};
}

inline AttentionParams attention_params(const char* op, Stream& stream, const AttentionSizes& n, In q, In k, In v,
                                        const AttentionOptions& options) {
  const int64_t G = n.H / n.Hkv;
  constexpr int kMostColumns = 65535 * 64;  // limit of a grid's second dimension, with blocks of 64 columns or more
  if (n.H > INT32_MAX || n.D > kMostColumns)
    fail(Code::shape, "%s: expected at most %d heads of a size of at most %d, got %lld of %lld", op, INT32_MAX,
         kMostColumns, static_cast<long long>(n.H), static_cast<long long>(n.D));
  constexpr double kLog2E = 1.4426950408889634;
  const auto ints = [](OptIn x) { return x ? x->i32() : nullptr; };
  AttentionParams p{};
  p.q = heads_view(q);
  p.k = heads_view(k);
  p.v = heads_view(v);
  p.B = n.B;
  p.Tq = n.Tq;
  p.rows = n.Tq * G;
  p.Tk = static_cast<int>(n.Tk);
  p.H = static_cast<int>(n.H);
  p.Hkv = static_cast<int>(n.Hkv);
  p.G = static_cast<int>(G);
  p.D = static_cast<int>(n.D);
  p.key_lengths = ints(options.key_lengths);
  p.query_starts = ints(options.query_starts);
  p.key_ranges = ints(options.key_ranges);
  p.slopes = options.slopes ? options.slopes->f32() : nullptr;
  if (const TensorView* const relative = options.relative)
    p.relative = {relative->f32(), static_cast<int>(relative->shape[1] / 2)};
  p.pages = key_pages(k, options);
  p.scales = key_scales(k, v, options);
  p.blocks = key_blocks(options);
  p.window = std::min(options.window, kMostWindow);
  p.causal = options.causal;
  p.aligned = rows_aligned(q) && (options.k_scales || (rows_aligned(k) && rows_aligned(v)));
  p.scale_log2 = static_cast<float>(options.scale * kLog2E);
  p.scale = options.scale;
  p.cap_log2 = static_cast<float>(options.softcap * kLog2E);
  p.cap_scale = options.softcap > 0 ? options.scale / options.softcap : 0;
  p.keep_scale = options.dropout_p < 1 ? 1 / (1 - options.dropout_p) : 0;
  p.drop_threshold = dropout_threshold(options.dropout_p);
  p.seed = static_cast<uint64_t>(options.seed);
  if (options.key_lengths || options.pages) p.fault = stream.fault(op);
  return p;
}

inline int most_fast_head(const AttentionParams& p) { return p.blocks.mask ? kMostMaskedHead : kMostFastHead; }

}  // namespace heed::cuda

#endif
