// What attention's host functions, and cache_write's, check on every device (ops.def has shapes and masks). Each check
// throws ERR_SHAPE, ERR_DTYPE or ERR_RANGE.
#pragma once
#include "core/params.h"

namespace heed {

struct AttentionSizes {
  int64_t B, Tq, Tk, H, Hkv, D;
};

// What an attention does beyond its operands; ops.def has the meaning.
struct AttentionOptions {
  OptIn key_lengths, query_starts, key_ranges, slopes, block_mask;
  int64_t block_size;
  bool causal;
  int64_t window;
  float softcap, scale, dropout_p;
  int64_t seed;
};

// q [B, Tq, H, D], k and v [B, Tk, Hkv, D] and what goes with them.
AttentionSizes check_attention(const char* op, In q, In k, In v, const AttentionOptions& options);
// A further tensor of q's shape, or of k's, and of their dtype.
void expect_queries(const char* op, const char* name, const TensorView& x, const AttentionSizes& sizes, DType dtype);
void expect_keys(const char* op, const char* name, const TensorView& x, const AttentionSizes& sizes, DType dtype);
// f32 [B, H, Tq], contiguous.
void expect_lse(const char* op, const TensorView& lse, const AttentionSizes& sizes);

void check_cache_write(const char* op, AnyInOut cache, In values, OptIn starts);

}  // namespace heed
