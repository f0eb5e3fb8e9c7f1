// Attention's forward pass in f32: the algorithm of attention_forward_mma.cu with the tiles of attention_fma.h. A block
// computes kOut columns of the output, which blockIdx.y selects; if a head has more columns, several blocks compute the
// same scores.
#include "cuda/kernels/attention_fma.h"
#include "cuda/kernels/attention_split.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

// Type of keys and values that are not codes, beside queries of type T.
template <class T, ForwardKind kKind>
using KeysOf =
    std::conditional_t<kKind == ForwardKind::bf16, bf16, std::conditional_t<kKind == ForwardKind::f16, f16, T>>;

template <class T, int kOut, ForwardKind kKind = ForwardKind::forward>
__device__ void attention_forward_fma(const AttentionForwardParams& p) {
  using Key = KeysOf<T, kKind>;
  constexpr bool kMasked = kKind == ForwardKind::masked;
  const AttentionParams& a = p.a;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float* chunks = reinterpret_cast<float*>(attention_shared);  // two buffers of queries and keys
  float* v = chunks + 4 * kChunkFloats;
  float* probs = v + kFmaTile * kOut;
  __shared__ uint32_t kept[kFmaTile][2];

  const ForwardItem item(p);
  const int first_column = static_cast<int>(blockIdx.y) * kOut;
  const VisibleKeys visible(a, item.b);
  const int64_t first_row = item.block * kFmaTile;
  const int count = static_cast<int>(min(static_cast<int64_t>(kFmaTile), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const KeyBounds bounds = visible.of_all<kFmaThreads>(rows.query(0), rows.query(count - 1));
  const ItemKeys keys(p, item, bounds);
  if (keys.nothing_to_do()) return;
  const int end = keys.end;
  const bool active = static_cast<int>(threadIdx.x / 32 * 8) < count;
  const TileWalk<kMasked, kFmaTile> walk(a, (item.b * a.Hkv + item.g) * p.blocks + item.block);
  const int first_key = walk.first(keys.first / kFmaTile * kFmaTile, end);
  // A key before the first one that the block sees is not touched, because it may hold anything; the first one takes
  // its place, with a weight of 0.
  const auto load_keys = [&](auto columns, auto stride, float* tile, const HeadsView& x, const float* scales, int key,
                             int first) {
    constexpr int kColumns = decltype(columns)(), kStride = decltype(stride)();
    const auto seen = [&](int r) { return min(max(key + r, keys.first), end - 1); };
    if constexpr (kKind == ForwardKind::int8)
      load_code_rows<T, kColumns, kStride>(tile, end - key, first, a,
                                           [&](int r) { return coded_row(a, x, scales, item.b, seen(r), item.g); });
    else
      load_tile_rows<Key, kColumns, kStride>(tile, end - key, first, a,
                                             [&](int r) { return key_row<Key>(a, x, item.b, seen(r), item.g); });
  };

  const auto load_chunk = [&](int buffer, int key, int first) {
    float* tile = chunks + buffer * 2 * kChunkFloats;
    load_tile_rows<T, kChunk, kChunkStride>(tile, count, first, a,
                                            [&](int r) { return rows.row<const T>(a.q, item.b, r); });
    load_keys(Constant<kChunk>(), Constant<kChunkStride>(), tile + kChunkFloats, a.k, a.scales.k, key, first);
    cp_async_commit();
  };

  float out[4][kOut / 16] = {}, m[4], l[4];
  KeyInterval sees[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    m[i] = kLowest;
    l[i] = 0;
    sees[i] = ty * 4 + i < count ? visible.of(rows.query(ty * 4 + i)) : KeyInterval{0, 0};
  }

  constexpr int kVectors = kOut / 64;  // vectors of a row
  const auto element = [&](int v, int e) -> float& { return out[v / kVectors][v % kVectors * 4 + e]; };
  const auto row_of = [](int v, int) { return v / kVectors; };
  const RowSums<4 * kVectors, 4, decltype(element), decltype(row_of)> sums(p, m, l, element, row_of);
  const auto finish_sums = [&] {
#pragma unroll
    for (int i = 0; i < 4; i++) l[i] = row_sum(l[i]);
  };
  __shared__ KeptSums kept_sums;
  kept_sums.begin(p, first_key);

  int buffer = 0;
  if (first_key < end) load_chunk(0, first_key, 0);
  for (int key = first_key; key < end; key = walk.after(key, end)) {
    if (kept_sums.split_ends(key, first_key) && active) {
      finish_sums();
      kept_sums.put(p, attention_shared, sums);
    }
    float s[4][4] = {};
    for (int first = 0; first < a.D; first += kChunk, buffer ^= 1) {
      cp_async_wait<0>();
      __syncthreads();  // this chunk has arrived, and the other buffer and V's tile are no longer read
      if (first + kChunk < a.D) {
        load_chunk(buffer ^ 1, key, first + kChunk);
      } else {
        load_keys(Constant<kOut>(), Constant<kOut>(), v, a.v, a.scales.v, key, first_column);
        cp_async_commit();
      }
      const float* tile = chunks + buffer * 2 * kChunkFloats;
      if (active) multiply_chunk(s, tile, tile + kChunkFloats, min(kChunk, a.D - first));
    }

    if (active) {
      if (a.drop_threshold != 0) draw_kept(kept, a, rows, item.b, count, key);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int r = min(ty * 4 + i, count - 1);
        float derivatives[4];
        finish_exact_scores(a, rows.head(r), visible.position(rows.query(r)) - (key + tx), s[i], derivatives);
        if constexpr (kMasked)
          if (!walk.whole(key)) {
            const uint64_t bits =
                visible_keys<kFmaTile>(a, item.b, rows.head(r), visible.position(rows.query(r)), key) >> tx;
#pragma unroll
            for (int j = 0; j < 4; j++)
              if (!(bits >> (16 * j) & 1)) s[i][j] = -kInfinity;
          }
        float highest = m[i];
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const int at = key + tx + 16 * j;
          if (at < sees[i].first || at >= min(sees[i].end, end)) s[i][j] = -kInfinity;
          highest = fmaxf(highest, s[i][j]);
        }
        highest = row_max(highest);
        const float alpha = exp2_fast(m[i] - highest);
        m[i] = highest;
        l[i] *= alpha;
#pragma unroll
        for (int j = 0; j < kOut / 16; j++) out[i][j] *= alpha;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          s[i][j] = exp2_fast(s[i][j] - highest);
          l[i] += s[i][j];
          if (a.drop_threshold != 0 && !is_kept(kept, i, j)) s[i][j] = 0;
        }
      }
      __syncwarp();  // the last tile's probabilities are no longer read
      store_probs(probs, s);
      __syncwarp();
    }
    kept_sums.go_on(p, key);
    cp_async_wait<0>();
    __syncthreads();  // V has arrived, and the chunks are no longer read
    if (const int next = walk.after(key, end); next < end) load_chunk(buffer, next, 0);
    if (active) multiply_tile<kOut>(out, probs, v, min(kFmaTile, end - key));
  }

  finish_sums();
  if (active && first_key < end) kept_sums.finish(p, attention_shared, sums);
  if (keys.parts > 1 && !join_parts(p, keys, active, sums)) return;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int r = ty * 4 + i;
    if (r >= count) continue;
    if (p.lse && tx == 0 && blockIdx.y == 0) p.lse[rows.index(a, item.b, r)] = log_sum(m[i], l[i]);
    store_columns<T, kOut>(rows.row<T>(p.out, item.b, r), out[i], row_factor(a, l[i]), first_column, a.D, a.aligned);
  }
}

#endif

HEED_KERNEL(attention_forward_64_f32, AttentionForwardParams, kFmaThreads, 1, attention_forward_fma<float, kFewColumns>)
HEED_KERNEL(attention_forward_128_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kManyColumns>)
HEED_KERNEL(attention_forward_large_bf16, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<bf16, kManyColumns>)
HEED_KERNEL(attention_forward_large_f16, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<f16, kManyColumns>)
HEED_KERNEL(attention_masked_64_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kFewColumns, ForwardKind::masked>)
HEED_KERNEL(attention_masked_128_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kManyColumns, ForwardKind::masked>)
HEED_KERNEL(attention_masked_large_bf16, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<bf16, kManyColumns, ForwardKind::masked>)
HEED_KERNEL(attention_masked_large_f16, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<f16, kManyColumns, ForwardKind::masked>)
HEED_KERNEL(attention_int8_64_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kFewColumns, ForwardKind::int8>)
HEED_KERNEL(attention_int8_128_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kManyColumns, ForwardKind::int8>)
HEED_KERNEL(attention_int8_large_bf16, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<bf16, kManyColumns, ForwardKind::int8>)
HEED_KERNEL(attention_int8_large_f16, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<f16, kManyColumns, ForwardKind::int8>)
HEED_KERNEL(attention_bf16_64_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kFewColumns, ForwardKind::bf16>)
HEED_KERNEL(attention_bf16_128_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kManyColumns, ForwardKind::bf16>)
HEED_KERNEL(attention_f16_64_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kFewColumns, ForwardKind::f16>)
HEED_KERNEL(attention_f16_128_f32, AttentionForwardParams, kFmaThreads, 1,
            attention_forward_fma<float, kManyColumns, ForwardKind::f16>)

#if !HEED_DEVICE_CODE

ForwardKernel attention_fma_kernel(DType dtype, int D, ForwardKind kind) {
  const auto kernel = [&](Kernel<AttentionForwardParams>& chosen, int columns) {
    ForwardKernel kernel{};
    kernel.kernel = &chosen;
    kernel.rows = kFmaTile;
    kernel.columns = columns;
    kernel.warp_rows = 8;
    kernel.keys = kFmaTile;
    kernel.thread_floats = 4 * (2 + columns / 16);
    kernel.speed = 48;
    kernel.together = 1;
    kernel.shared = static_cast<size_t>(4 * kChunkFloats + kFmaTile * (columns + kProbStride)) * 4;
    return kernel;
  };
  const auto large = [&](auto& plain, auto& masked, auto& int8) {
    return kernel(kind == ForwardKind::masked ? masked : kind == ForwardKind::int8 ? int8 : plain, kManyColumns);
  };
  if (dtype == DType::bf16)
    return large(attention_forward_large_bf16, attention_masked_large_bf16, attention_int8_large_bf16);
  if (dtype == DType::f16)
    return large(attention_forward_large_f16, attention_masked_large_f16, attention_int8_large_f16);
  const auto of_head = [&](auto& few, auto& many) {
    return D <= kFewColumns ? kernel(few, kFewColumns) : kernel(many, kManyColumns);
  };
  switch (kind) {
    case ForwardKind::masked:
      return of_head(attention_masked_64_f32, attention_masked_128_f32);
    case ForwardKind::int8:
      return of_head(attention_int8_64_f32, attention_int8_128_f32);
    case ForwardKind::bf16:
      return of_head(attention_bf16_64_f32, attention_bf16_128_f32);
    case ForwardKind::f16:
      return of_head(attention_f16_64_f32, attention_f16_128_f32);
    case ForwardKind::forward:
      break;
  }
  return of_head(attention_forward_64_f32, attention_forward_128_f32);
}

#endif

}  // namespace heed::cuda
