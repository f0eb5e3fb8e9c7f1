// attention_backward in f32 (attention_gradients.h, with the tiles of attention_fma.h): blocks of 64 rows compute dq
// and delta, and blocks of 64 keys compute dk and dv. A block computes kOut columns of its result, which blockIdx.y
// selects; if a head has more columns, several blocks compute the same scores.
#include "cuda/kernels/attention_fma.h"
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

// Up to 64 rows against up to 64 keys, beginning at `key`.
template <class T, bool kMasked>
struct Pairs {
  const AttentionBackwardParams& p;
  float* chunks;  // two buffers
  int64_t b;
  int g;
  GroupRows rows;
  int row_count, key, key_count;

  __device__ __forceinline__ int steps() const { return (p.a.D + kChunk - 1) / kChunk; }

  // The first steps() steps load chunks of q and k, and as many further steps load those of dout and v.
  __device__ __forceinline__ void load(int buffer, int step) const {
    const bool scores = step < steps();
    const int first = (scores ? step : step - steps()) * kChunk;
    const HeadsView &left = scores ? p.a.q : p.dout, &right = scores ? p.a.k : p.a.v;
    float* tile = chunks + buffer * 2 * kChunkFloats;
    load_tile_rows<T, kChunk, kChunkStride>(tile, row_count, first, p.a,
                                            [&](int r) { return rows.row<const T>(left, b, r); });
    load_tile_rows<T, kChunk, kChunkStride>(tile + kChunkFloats, key_count, first, p.a,
                                            [&](int r) { return right.row<const T>(b, key + r, g); });
    cp_async_commit();
  }

  // s = q k^T and dp = dout v^T. Step 0 is already being copied to `buffer`. While the last step is in use, load_next()
  // issues the copies that come after.
  template <class LoadNext>
  __device__ __forceinline__ void multiply(float (&s)[4][4], float (&dp)[4][4], int& buffer,
                                           const LoadNext& load_next) const {
    const bool active = static_cast<int>(threadIdx.x / 32 * 8) < row_count;
    for (int step = 0; step < 2 * steps(); step++, buffer ^= 1) {
      cp_async_wait<0>();
      __syncthreads();  // this step has arrived, and the rest of shared memory is no longer read
      if (step + 1 < 2 * steps()) {
        load(buffer ^ 1, step + 1);
      } else {
        load_next();
        cp_async_commit();
      }
      if (!active) continue;
      const float* tile = chunks + buffer * 2 * kChunkFloats;
      const int columns = min(kChunk, p.a.D - step % steps() * kChunk);
      if (step < steps())
        multiply_chunk(s, tile, tile + kChunkFloats, columns);
      else
        multiply_chunk(dp, tile, tile + kChunkFloats, columns);
    }
  }

  // Turns s into P after dropout, but without dropout's factor, and dp into dS.
  __device__ __forceinline__ void differentiate(float (&s)[4][4], float (&dp)[4][4], const float (&lse)[4],
                                                const float (&delta)[4], const VisibleKeys& visible,
                                                uint32_t (&kept)[kFmaTile][2]) const {
    if (p.a.drop_threshold != 0) draw_kept(kept, p.a, rows, b, row_count, key);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int r = static_cast<int>(threadIdx.x / 16) * 4 + i, tx = threadIdx.x % 16;
      const KeyInterval sees = r < row_count ? visible.of(rows.query(r)) : KeyInterval{0, 0};
      uint64_t unmasked = kAllKeys<kFmaTile>;
      if constexpr (kMasked)
        if (r < row_count)
          unmasked = visible_keys<kFmaTile>(p.a, b, rows.head(r), visible.position(rows.query(r)), key) >> tx;
      float derivatives[4];
      finish_exact_scores(p.a, rows.head(r), visible.position(rows.query(r)) - (key + tx), s[i], derivatives);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int at = key + tx + 16 * j;
        const bool seen = at >= sees.first && at < sees.end && (!kMasked || (unmasked >> (16 * j) & 1));
        const float prob = seen ? exp2_fast(s[i][j] - lse[i]) : 0;
        const bool keep = p.a.drop_threshold == 0 || is_kept(kept, i, j);
        const float ds = prob * ((keep ? dp[i][j] * p.a.keep_scale : 0) - delta[i]) * derivatives[j];
        dp[i][j] = seen ? ds : 0;  // if the key or value is not finite, 0 times a value computed from it is not 0
        s[i][j] = keep ? prob : 0;
      }
    }
  }
};

template <class T, int kOut, bool kMasked = false>
__device__ void attention_backward_queries_fma(const AttentionBackwardParams& p) {
  const AttentionParams& a = p.a;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float* chunks = reinterpret_cast<float*>(attention_shared);
  float* k = chunks + 4 * kChunkFloats;
  float* probs = k + kFmaTile * kOut;
  __shared__ uint32_t kept[kFmaTile][2];

  const BackwardItem item(p);
  const int first_column = static_cast<int>(blockIdx.y) * kOut;
  const VisibleKeys visible(a, item.b);
  // The last rows come first, because causal rows there have the most keys.
  const int64_t first_row = (p.blocks - 1 - item.block) * kFmaTile;
  const int count = static_cast<int>(min(static_cast<int64_t>(kFmaTile), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const KeyBounds bounds = visible.of_all<kFmaThreads>(rows.query(0), rows.query(count - 1));
  const int end = bounds.end;
  const bool active = static_cast<int>(threadIdx.x / 32 * 8) < count;
  const auto pairs_at = [&](int key) {
    return Pairs<T, kMasked>{p, chunks, item.b, item.g, rows, count, key, min(kFmaTile, end - key)};
  };
  const TileWalk<kMasked, kFmaTile> walk(a, (item.b * a.Hkv + item.g) * p.blocks + first_row / kFmaTile);
  const int first_key = walk.first(bounds.first, end);

  int buffer = 0;
  if (first_key < end) pairs_at(first_key).load(0, 0);
  float dq[4][kOut / 16] = {}, lse[4] = {}, delta[4] = {};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int r = ty * 4 + i;
    float sum = 0;
    if (r < count) {
      const T* out = rows.row<const T>(p.out, item.b, r);
      const T* dout = rows.row<const T>(p.dout, item.b, r);
      for (int d = tx; d < a.D; d += 16) sum += to_float(out[d]) * to_float(dout[d]);
    }
    delta[i] = row_sum(sum);
    if (r >= count) continue;
    const int64_t index = rows.index(a, item.b, r);
    if (tx == 0 && blockIdx.y == 0) p.delta[index] = delta[i];
    lse[i] = p.lse[index] * kLog2E;
  }

  for (int key = first_key; key < end; key = walk.after(key, end)) {
    const Pairs<T, kMasked> pairs = pairs_at(key);
    float s[4][4] = {}, ds[4][4] = {};
    pairs.multiply(s, ds, buffer, [&] {
      load_tile_rows<T, kOut, kOut>(k, pairs.key_count, first_column, a,
                                    [&](int r) { return a.k.row<const T>(item.b, key + r, item.g); });
    });
    if (active) {
      pairs.differentiate(s, ds, lse, delta, visible, kept);
      __syncwarp();  // the last tile's dS is no longer read
      store_probs(probs, ds);
      __syncwarp();
    }
    cp_async_wait<0>();
    __syncthreads();  // the keys have arrived, and the chunks are no longer read
    if (const int next = walk.after(key, end); next < end) pairs_at(next).load(buffer, 0);
    if (active) multiply_tile<kOut>(dq, probs, k, pairs.key_count);
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (ty * 4 + i < count)
      store_columns<T, kOut>(rows.row<T>(p.dq, item.b, ty * 4 + i), dq[i], a.scale, first_column, a.D, a.aligned);
}

template <class T, int kOut, bool kMasked = false>
__device__ void attention_backward_keys_fma(const AttentionBackwardParams& p) {
  const AttentionParams& a = p.a;
  const int ty = threadIdx.x / 16;
  float* chunks = reinterpret_cast<float*>(attention_shared);
  float* tile = chunks + 4 * kChunkFloats;  // of dout, then of q
  float* probs = tile + kFmaTile * kOut;    // P, then dS
  __shared__ uint32_t kept[kFmaTile][2];

  const BackwardItem item(p);
  const int first_column = static_cast<int>(blockIdx.y) * kOut;
  const VisibleKeys visible(a, item.b);
  const int first_key = static_cast<int>(item.block) * kFmaTile;
  const QueriesOfKeys<kFmaThreads> seeing(visible, first_key, first_key + kFmaTile);
  const int64_t end_row = seeing.end * a.G;
  const int key_count = min(kFmaTile, visible.length - first_key);
  const bool active = static_cast<int>(threadIdx.x / 32 * 8) < key_count;
  const auto pairs_at = [&](int64_t row) {
    return Pairs<T, kMasked>{p,
                             chunks,
                             item.b,
                             item.g,
                             GroupRows(a, item.g, row),
                             static_cast<int>(min(static_cast<int64_t>(kFmaTile), end_row - row)),
                             first_key,
                             key_count};
  };
  const TileWalk<kMasked, kFmaTile> walk(a, (item.b * a.Hkv + item.g) * p.blocks + item.block);
  const auto first_row = [&] {
    if constexpr (kMasked)
      return walk.first(seeing.first * a.G, end_row);
    else
      return seeing.next_row(0, a.G);
  };
  const auto row_after = [&](int64_t row) {
    if constexpr (kMasked)
      return walk.after(row, end_row);
    else
      return seeing.next_row(row + kFmaTile, a.G);
  };

  int buffer = 0;
  int64_t row = first_row();
  if (row < end_row) pairs_at(row).load(0, 0);
  float dk[4][kOut / 16] = {}, dv[4][kOut / 16] = {};
  while (row < end_row) {
    const Pairs<T, kMasked> pairs = pairs_at(row);
    const auto load_rows = [&](const HeadsView& x) {
      load_tile_rows<T, kOut, kOut>(tile, pairs.row_count, first_column, a,
                                    [&](int r) { return pairs.rows.template row<const T>(x, item.b, r); });
    };
    float s[4][4] = {}, ds[4][4] = {}, lse[4] = {}, delta[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int r = ty * 4 + i;
      if (r >= pairs.row_count) continue;
      const int64_t index = pairs.rows.index(a, item.b, r);
      lse[i] = p.lse[index] * kLog2E;
      delta[i] = p.delta[index];
    }
    pairs.multiply(s, ds, buffer, [&] { load_rows(p.dout); });
    pairs.differentiate(s, ds, lse, delta, visible, kept);
    store_probs(probs, s);
    cp_async_wait<0>();
    __syncthreads();  // P and dout are complete
    if (active) multiply_transposed<kOut>(dv, probs, tile, pairs.row_count);
    __syncthreads();  // they are no longer read
    store_probs(probs, ds);
    load_rows(a.q);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();  // dS and q are complete
    row = row_after(row);
    if (row < end_row) pairs_at(row).load(buffer, 0);
    if (active) multiply_transposed<kOut>(dk, probs, tile, pairs.row_count);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int key = first_key + ty * 4 + i;
    if (key >= a.Tk) continue;
    store_columns<T, kOut>(p.dk.row<T>(item.b, key, item.g), dk[i], a.scale, first_column, a.D, a.aligned);
    store_columns<T, kOut>(p.dv.row<T>(item.b, key, item.g), dv[i], a.keep_scale, first_column, a.D, a.aligned);
  }
}

#endif

#define KERNELS(kind, pass, masked)                                                            \
  HEED_KERNEL(attention_##kind##_##pass##_64_f32, AttentionBackwardParams, kFmaThreads, 1,     \
              attention_backward_##pass##_fma<float, kFewColumns, masked>)                     \
  HEED_KERNEL(attention_##kind##_##pass##_128_f32, AttentionBackwardParams, kFmaThreads, 1,    \
              attention_backward_##pass##_fma<float, kManyColumns, masked>)                    \
  HEED_KERNEL(attention_##kind##_##pass##_large_bf16, AttentionBackwardParams, kFmaThreads, 1, \
              attention_backward_##pass##_fma<bf16, kManyColumns, masked>)                     \
  HEED_KERNEL(attention_##kind##_##pass##_large_f16, AttentionBackwardParams, kFmaThreads, 1,  \
              attention_backward_##pass##_fma<f16, kManyColumns, masked>)
KERNELS(backward, queries, false)
KERNELS(backward, keys, false)
KERNELS(masked, queries, true)
KERNELS(masked, keys, true)

#if !HEED_DEVICE_CODE

namespace {

using Entry = Kernel<AttentionBackwardParams>;

BackwardKernel choose(DType dtype, int D, Entry& small_f32, Entry& f32, Entry& bf16, Entry& f16) {
  const bool small = dtype == DType::f32 && D <= kFewColumns;
  const int columns = small ? kFewColumns : kManyColumns;
  return {small                  ? &small_f32
          : dtype == DType::f32  ? &f32
          : dtype == DType::bf16 ? &bf16
                                 : &f16,
          kFmaTile, columns, kFmaTile, static_cast<size_t>(4 * kChunkFloats + kFmaTile * (columns + kProbStride)) * 4};
}

}  // namespace

#define CHOOSE(kind)                                                                                     \
  choose(dtype, D, attention_##kind##_64_f32, attention_##kind##_128_f32, attention_##kind##_large_bf16, \
         attention_##kind##_large_f16)

BackwardKernel attention_backward_queries_fma_kernel(DType dtype, int D, bool masked) {
  return masked ? CHOOSE(masked_queries) : CHOOSE(backward_queries);
}

BackwardKernel attention_backward_keys_fma_kernel(DType dtype, int D, bool masked) {
  return masked ? CHOOSE(masked_keys) : CHOOSE(backward_keys);
}

#endif

}  // namespace heed::cuda
