// attention_forward: out = dropout(softmax(scale · q k^T + mask)) v, with lse, the natural log of Σ exp of each row's
// scaled scores. Keys pass by in tiles and the softmax is kept online (FlashAttention-2, Dao 2023; Milakov &
// Gimelshein 2018), so that no [Tq, Tk] matrix exists. Backward needs q, k, v, out and lse. A row that sees no key
// gives 0 and lse = -inf.
//
// Which kernel:
// - few rows a group and no backward to come: attention_decode.cu, bound by memory, any dtype;
// - bf16 and f16 with D <= 256: attention_forward_mma.cu, on tensor cores;
// - f32, and D > 256: attention_forward_fma.cu.
// Where blocks of rows are fewer than the multiprocessors, the keys are split (attention_split.h) into enough parts for
// two blocks each, of at least kSplitKeys keys. All of it depends on shapes and the device only.
#include <algorithm>

#include "cuda/kernels/attention_host.h"
#include "cuda/kernels/attention_split.h"

namespace heed::cuda {

constexpr int kCombineThreads = 128;

#if HEED_DEVICE_CODE

// One warp a row, lanes along D.
template <class T>
__device__ void combine_body(const AttentionForwardParams& p) {
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (kCombineThreads / 32) + threadIdx.x / 32;
  if (item >= a.B * a.Hkv * a.rows) return;
  const int64_t group = item / a.rows, row = item % a.rows, b = group / a.Hkv;
  const GroupRows rows(a, static_cast<int>(group % a.Hkv), row);

  const int64_t first = group * p.splits * a.rows + row;
  float m = -kInfinity, l = 0;
  for (int s = lane; s < p.splits; s += 32) {
    const float2 stats = reinterpret_cast<const float2*>(p.partial_stats)[first + s * a.rows];
    const float next = fmaxf(m, stats.x);
    if (stats.y > 0) l = l * exp2_fast(m - next) + stats.y * exp2_fast(stats.x - next);
    m = next;
  }
  const float highest = warp_max(m);
  l = warp_sum(l > 0 ? l * exp2_fast(m - highest) : 0);
  const float factor = row_factor(a, l);
  if (p.lse && lane == 0) p.lse[rows.index(a, b, 0)] = log_sum(highest, l);

  T* out = rows.row<T>(p.out, b, 0);
  for (int d = lane; d < a.D; d += 32) {
    float sum = 0;
    for (int s = 0; s < p.splits; s++) {
      const float2 stats = reinterpret_cast<const float2*>(p.partial_stats)[first + s * a.rows];
      // What a split without a visible key left is not even written.
      if (stats.y > 0) sum += exp2_fast(stats.x - highest) * p.partial_out[(first + s * a.rows) * a.D + d];
    }
    out[d] = from_float<T>(sum * factor);
  }
}

#endif

HEED_KERNEL_FLOATS(attention_combine, AttentionForwardParams, kCombineThreads, 1, combine_body)

#if !HEED_DEVICE_CODE

namespace {

constexpr int64_t kSplitKeys = 128;

ForwardKernel forward_kernel(DType dtype, int D, int64_t rows, bool may_decode) {
  // 16 rows fill a tensor core's tile in part only, but from 5 on it is faster than what decoding spends on them.
  if (may_decode && D <= kMostFastHead && rows <= (dtype == DType::f32 ? 16 : 4))
    return attention_decode_kernel(dtype, D, rows);
  return dtype != DType::f32 && D <= kMostFastHead ? attention_mma_kernel(dtype, D) : attention_fma_kernel(dtype, D);
}

}  // namespace

void attention_forward(Stream& stream, Out out, OptOut lse, In q, In k, In v, OptIn key_lengths, OptIn query_starts,
                       OptIn key_ranges, OptIn slopes, Bool causal, Int window, Float softcap, Float scale,
                       Float dropout_p, Int seed) {
  const char* op = "attention_forward";
  const AttentionOptions options{key_lengths, query_starts, key_ranges, slopes,    causal,
                                 window,      softcap,      scale,      dropout_p, seed};
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
  const ForwardKernel chosen = forward_kernel(q.dtype, p.a.D, p.a.rows, !lse && p.a.drop_threshold == 0);
  const int64_t column_blocks = ceil_div(n.D, chosen.columns);
  p.blocks = ceil_div(p.a.rows, chosen.rows);

  const int64_t blocks = groups * p.blocks * column_blocks, wanted = stream.multiprocessors();
  int64_t splits = 1;
  if (blocks < wanted) splits = std::min(ceil_div(2 * wanted, blocks), ceil_div(n.Tk, kSplitKeys));
  splits = std::max<int64_t>(splits, 1);
  p.split_keys = static_cast<int>(std::max<int64_t>(ceil_div(ceil_div(n.Tk, splits), 64) * 64, 64));
  p.splits = static_cast<int>(std::max<int64_t>(ceil_div(n.Tk, p.split_keys), 1));

  const int64_t partials = p.splits > 1 ? groups * p.splits * p.a.rows : 0;
  const int64_t stats = ceil_div(2 * partials, 4) * 4;  // so that partial_out is aligned to 16 bytes
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(stats + partials * n.D) * 4);
  p.partial_stats = workspace.f32();
  p.partial_out = p.partial_stats + stats;
  stream.launch(op, *chosen.kernel, {groups * p.blocks * p.splits, column_blocks}, p, chosen.shared);
  if (p.splits > 1)
    stream.launch(op, attention_combine(q.dtype), {ceil_div(groups * p.a.rows, kCombineThreads / 32)}, p);
}

#endif

}  // namespace heed::cuda
