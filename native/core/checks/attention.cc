#include "core/checks/attention.h"

#include <cmath>
#include <utility>

#include "core/checks/checks.h"
#include "core/checks/heads.h"
#include "core/error.h"

namespace heed {
namespace {

void expect_heads(const char* op, const char* name, const TensorView& x, int64_t B, int64_t T, int64_t heads, int64_t D,
                  DType dtype) {
  expect_dtype(op, name, x, dtype);
  expect_shape(op, name, x, {B, T, heads, D});
  expect_contiguous_heads(op, name, x);
}

// i32 [B, P], contiguous.
void expect_page_table(const char* op, const TensorView& pages, int64_t B) {
  expect_rank(op, "pages", pages, 2);
  expect_dtype(op, "pages", pages, DType::i32);
  expect_shape(op, "pages", pages, {B, pages.shape[1]});
  expect_contiguous(op, "pages", pages);
}

// f32 [N, S, Hkv] of keys or values [N, S, Hkv, D], contiguous.
void expect_scales(const char* op, const char* name, const TensorView& scales, const TensorView& x) {
  expect_f32(op, name, scales);
  expect_shape(op, name, scales, {x.shape[0], x.shape[1], x.shape[2]});
}

void check_block_mask(const char* op, const TensorView& mask, int64_t block_size, const AttentionSizes& sizes) {
  expect_rank(op, "block_mask", mask, 4);
  expect_dtype(op, "block_mask", mask, DType::u8);
  if (block_size < 1 || block_size > INT32_MAX)
    fail(Code::range, "%s: expected a block_size from 1 to %d, got %lld", op, INT32_MAX,
         static_cast<long long>(block_size));
  const auto one_or = [](int64_t size, int64_t given) { return given == 1 ? 1 : size; };
  // Columns for keys that do not exist do no harm: the mask may have been made for a longer sequence.
  const int64_t columns = (sizes.Tk + block_size - 1) / block_size;
  expect_shape(op, "block_mask", mask,
               {one_or(sizes.B, mask.shape[0]), one_or(sizes.H, mask.shape[1]), mask.shape[2],
                mask.shape[3] > columns ? mask.shape[3] : columns});
  expect_contiguous(op, "block_mask", mask);
}

// f32 [H, 2 F + 1], contiguous.
void check_relative(const char* op, const TensorView& relative, const AttentionSizes& sizes) {
  expect_rank(op, "relative", relative, 2);
  expect_f32(op, "relative", relative);
  expect_shape(op, "relative", relative, {sizes.H, relative.shape[1]});
  expect_contiguous(op, "relative", relative);
  if (relative.shape[1] % 2 == 0 || relative.shape[1] > INT32_MAX)
    fail(Code::shape, "%s: expected relative with an odd number of columns of at most %d, got %lld", op, INT32_MAX,
         static_cast<long long>(relative.shape[1]));
}

}  // namespace

void expect_queries(const char* op, const char* name, const TensorView& x, const AttentionSizes& sizes, DType dtype) {
  expect_heads(op, name, x, sizes.B, sizes.Tq, sizes.H, sizes.D, dtype);
}

void expect_keys(const char* op, const char* name, const TensorView& x, const AttentionSizes& sizes, DType dtype) {
  expect_heads(op, name, x, sizes.B, sizes.Tk, sizes.Hkv, sizes.D, dtype);
}

void expect_lse(const char* op, const TensorView& lse, const AttentionSizes& sizes) {
  expect_f32(op, "lse", lse);
  expect_shape(op, "lse", lse, {sizes.B, sizes.H, sizes.Tq});
}

AttentionSizes check_attention(const char* op, In q, In k, In v, const AttentionOptions& options, bool takes_halves) {
  expect_rank(op, "q", q, 4);
  expect_rank(op, "k", k, 4);
  expect_float(op, "q", q);
  const OptIn pages = options.pages;
  if (pages) expect_page_table(op, *pages, q.shape[0]);
  const int64_t Tk = pages ? pages->shape[1] * k.shape[1] : k.shape[1];
  if (pages && Tk > 0 && k.shape[0] == 0) fail(Code::shape, "%s: expected at least 1 page of keys, got 0", op);
  const AttentionSizes sizes{q.shape[0], q.shape[1], Tk, q.shape[2], k.shape[2], q.shape[3]};
  expect_queries(op, "q", q, sizes, q.dtype);
  const OptIn k_scales = options.k_scales, v_scales = options.v_scales;
  if (!k_scales != !v_scales) fail(Code::argument, "%s: expected scales of keys and of values, got those of one", op);
  const bool halves = !k_scales && q.dtype == DType::f32 && (k.dtype == DType::bf16 || k.dtype == DType::f16);
  const DType dtype = k_scales ? DType::u8 : halves && takes_halves ? k.dtype : q.dtype;
  for (const auto& [name, x] : {std::pair{"k", &k}, std::pair{"v", &v}})
    if (pages)
      expect_heads(op, name, *x, k.shape[0], k.shape[1], sizes.Hkv, sizes.D, dtype);
    else
      expect_keys(op, name, *x, sizes, dtype);
  if (k_scales) {
    expect_scales(op, "k_scales", *k_scales, k);
    expect_scales(op, "v_scales", *v_scales, v);
  }
  if (options.block_mask && (k_scales || halves))
    fail(Code::argument, "%s: expected no block_mask with keys in %s, got one", op,
         k_scales ? "8 bits" : name_of(k.dtype));
  if (sizes.Tk > INT32_MAX)
    fail(Code::shape, "%s: expected at most %d keys, got %lld", op, INT32_MAX, static_cast<long long>(sizes.Tk));
  if (sizes.D < 1) fail(Code::shape, "%s: expected a head size of at least 1, got 0", op);
  if (sizes.Hkv < 1 || sizes.H % sizes.Hkv != 0)
    fail(Code::shape, "%s: expected a number of query heads divisible by the %lld key heads, got %lld", op,
         static_cast<long long>(sizes.Hkv), static_cast<long long>(sizes.H));
  expect_optional(op, "key_lengths", options.key_lengths, DType::i32, {sizes.B});
  expect_optional(op, "query_starts", options.query_starts, DType::i32, {sizes.B});
  expect_optional(op, "key_ranges", options.key_ranges, DType::i32, {sizes.B, sizes.Tq, 2});
  expect_optional(op, "slopes", options.slopes, DType::f32, {sizes.H});
  if (options.relative) check_relative(op, *options.relative, sizes);
  if (options.block_mask) check_block_mask(op, *options.block_mask, options.block_size, sizes);
  if (options.window < 0)
    fail(Code::range, "%s: expected a window of at least 0, got %lld", op, static_cast<long long>(options.window));
  if (!(std::isfinite(options.softcap) && options.softcap >= 0))
    fail(Code::range, "%s: expected a finite softcap of at least 0, got %g", op, options.softcap);
  if (!std::isfinite(options.scale)) fail(Code::range, "%s: expected a finite scale, got %g", op, options.scale);
  if (!(options.dropout_p >= 0 && options.dropout_p <= 1))
    fail(Code::range, "%s: expected dropout_p from 0 to 1, got %g", op, options.dropout_p);
  return sizes;
}

void check_cache_write(const char* op, AnyInOut cache, OptIn scales, In values, OptIn starts, OptIn pages) {
  expect_rank(op, "cache", cache, 4);
  expect_rank(op, "values", values, 4);
  if (pages) expect_page_table(op, *pages, values.shape[0]);
  const int64_t B = pages ? pages->shape[0] : cache.shape[0], H = cache.shape[2], D = cache.shape[3];
  const int64_t S = pages ? pages->shape[1] * cache.shape[1] : cache.shape[1];
  const int64_t T = values.shape[1];
  expect_shape(op, "values", values, {B, T, H, D});
  if (scales) {
    expect_dtype(op, "cache", cache, DType::u8);
    expect_float(op, "values", values);
    expect_scales(op, "scales", *scales, cache);
  } else if (values.dtype != DType::f32 || (cache.dtype != DType::bf16 && cache.dtype != DType::f16)) {
    expect_dtype(op, "values", values, cache.dtype);
  }
  if (T > S)
    fail(Code::shape, "%s: expected values of at most the cache's %lld tokens, got %lld", op, static_cast<long long>(S),
         static_cast<long long>(T));
  expect_contiguous_heads(op, "cache", cache);
  expect_contiguous_heads(op, "values", values);
  expect_optional(op, "starts", starts, DType::i32, {B});
}

}  // namespace heed
