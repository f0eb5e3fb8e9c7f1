// Checks that the host functions of attention and cache_write make on every device (ops.def has the shapes and masks).
// Each check throws ERR_SHAPE, ERR_DTYPE or ERR_RANGE.
#pragma once
#include "core/params.h"

namespace heed {

struct AttentionSizes {
  int64_t B, Tq, Tk, H, Hkv, D;
};

// Arguments of an attention besides its operands; ops.def has their meaning.
struct AttentionOptions {
  OptIn k_scales, v_scales, pages, key_lengths, query_starts, key_ranges, slopes, relative, block_mask;
  int64_t block_size;
  bool causal;
  int64_t window;
  float softcap, scale, dropout_p;
  int64_t seed;
};

// Checks q [B, Tq, H, D], k and v [B, Tk, Hkv, D], or [N, S, Hkv, D] with pages, as numbers or codes, and the options.
// Keys and values may have 16 bits beside q in f32 if `takes_halves`.
AttentionSizes check_attention(const char* op, In q, In k, In v, const AttentionOptions& options, bool takes_halves);
// Check a further tensor that has the shape of q or of k, and their dtype.
void expect_queries(const char* op, const char* name, const TensorView& x, const AttentionSizes& sizes, DType dtype);
void expect_keys(const char* op, const char* name, const TensorView& x, const AttentionSizes& sizes, DType dtype);
// Checks that lse is f32 [B, H, Tq] and contiguous.
void expect_lse(const char* op, const TensorView& lse, const AttentionSizes& sizes);

void check_cache_write(const char* op, AnyInOut cache, OptIn scales, In values, OptIn starts, OptIn pages);

}  // namespace heed
