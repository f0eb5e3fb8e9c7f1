// attention_backward's dq and delta on tensor cores (attention_gradients.h). A block has 4 warps of 16 rows; the keys
// that they see pass by in tiles. S = q k^T and dP = dout v^T stay in registers, and dS = P ∘ (dP - delta), rounded to
// T, is the first operand of dq += dS k.
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/attention_mma.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

// Elements [c, c + 8) of a row, zeros beyond D.
template <class T>
__device__ __forceinline__ void load_part(float (&x)[8], const T* row, int c, const AttentionParams& p) {
  if (p.aligned && c + 8 <= p.D) {
    const auto part = Vector<T, 8>::load(row + c);
#pragma unroll
    for (int e = 0; e < 8; e++) x[e] = to_float(part.at[e]);
  } else {
#pragma unroll
    for (int e = 0; e < 8; e++) x[e] = c + e < p.D ? to_float(row[c + e]) : 0;
  }
}

// rowsum(dout ∘ out) of the warp's 16 rows, 8 lanes a row; dout is in shared memory.
template <class T, int kD>
__device__ __forceinline__ void row_deltas(float (&delta)[2], const AttentionBackwardParams& p, const T* dout,
                                           const GroupRows& rows, int64_t b, int warp_row, int count) {
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int r = warp_row + i * 4 + lane / 8;
    float sum = 0;
    if (r < count)
      for (int c = lane % 8 * 8; c < a.D; c += 64) {
        float x[8];
        load_part(x, rows.row<const T>(p.out, b, r), c, a);
        const auto y = Vector<T, 8>::load(dout + swizzled<kD>(r, c));
#pragma unroll
        for (int e = 0; e < 8; e++) sum += x[e] * to_float(y.at[e]);
      }
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
    if (r < count && lane % 8 == 0) p.delta[rows.index(a, b, r)] = sum;
    // Rows i·4 to i·4 + 3 go to the lanes that have row lane / 4, and that plus 8, of a fragment.
    const float mine = __shfl_sync(kFullWarp, sum, lane / 4 % 4 * 8);
    if (lane / 16 == i % 2) delta[i / 2] = mine;
  }
}

template <class T, int kD, int kKeys, int kStages>
__device__ void attention_backward_queries_mma(const AttentionBackwardParams& p) {
  constexpr int kRows = 64, kN = kKeys / 8;
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp_row = threadIdx.x / 32 * 16;
  T* q = reinterpret_cast<T*>(attention_shared);
  T* dout = q + kRows * kD;
  T* keys = dout + kRows * kD;  // kStages tiles of k, each followed by one of v
  __shared__ uint32_t kept[kRows][kKeys / 32];

  const BackwardItem item(p);
  const VisibleKeys visible(a, item.b);
  // The last rows first: causal ones have the most keys.
  const int64_t first_row = (p.blocks - 1 - item.block) * kRows;
  const int count = static_cast<int>(min(static_cast<int64_t>(kRows), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const int end = visible.end(rows.query(count - 1));
  const int all_see = visible.end(rows.query(0));  // keys that every row sees
  const bool active = warp_row < count;

  const auto load_keys = [&](int stage, int key) {
    T* k = keys + stage * 2 * kKeys * kD;
    load_tile<T, kD, kKeys>(k, end - key, a, a.k.row<const T>(item.b, key, item.g), a.k.strides[1]);
    load_tile<T, kD, kKeys>(k + kKeys * kD, end - key, a, a.v.row<const T>(item.b, key, item.g), a.v.strides[1]);
  };
  load_tile<T, kD, kRows>(q, count, a, [&](int r) { return rows.row<const T>(a.q, item.b, r); });
  load_tile<T, kD, kRows>(dout, count, a, [&](int r) { return rows.row<const T>(p.dout, item.b, r); });
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  if (end > 0) load_keys(0, 0);
  cp_async_commit();

  float delta[2] = {}, lse[2], dq[1][kD / 8][4] = {};
  int row_end[2];
  if (active) row_deltas<T, kD>(delta, p, dout, rows, item.b, warp_row, count);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = warp_row + half * 8 + g;
    lse[half] = r < count ? p.lse[rows.index(a, item.b, r)] * kLog2E : 0;
    row_end[half] = r < count ? visible.end(rows.query(r)) : 0;
  }

  int stage = 0;
  for (int key = 0; key < end; key += kKeys) {
    if constexpr (kStages == 2) {
      if (key + kKeys < end) load_keys(stage ^ 1, key + kKeys);
      cp_async_commit();
    }
    cp_async_wait<kStages - 1>();
    __syncthreads();  // the tile is there
    if (active) {
      const T* k = keys + stage * 2 * kKeys * kD;
      float s[1][kN][4] = {}, ds[1][kN][4] = {};
      multiply_rows<T, kD>(
          s, [&](uint32_t(&fragment)[4], int, int column) { load_a<T, kD>(fragment, q, warp_row, column); }, k);
      multiply_rows<T, kD>(
          ds, [&](uint32_t(&fragment)[4], int, int column) { load_a<T, kD>(fragment, dout, warp_row, column); },
          k + kKeys * kD);
      if (a.drop_threshold != 0) {
        __syncwarp();  // the last tile's mask is no longer read
        for (int i = lane; i < 16 * (kKeys / 32); i += 32) {
          const int r = warp_row + i % 16, word = i / 16;
          kept[r][word] = r < count ? kept_keys(a, rows.index(a, item.b, r), key + word * 32) : 0;
        }
        __syncwarp();
      }
      const auto for_each_pair = [&](const auto& body) {
#pragma unroll
        for (int n = 0; n < kN; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) body(s[0][n][e], ds[0][n][e], e / 2, n * 8 + e % 2);
      };
      if (a.drop_threshold != 0)
        for_each_pair([&](float&, float& dp, int half, int column) {
          const uint32_t bits = kept[warp_row + half * 8 + g][column / 32] >> (column % 32);
          dp = bits >> (2 * t) & 1 ? dp * a.keep_scale : 0;
        });
      for_each_pair([&](float& score, float& dp, int half, int) {
        dp = exp2_fast(score * a.scale_log2 - lse[half]) * (dp - delta[half]);
      });
      if (key + kKeys > all_see)
        for_each_pair([&](float&, float& dp, int half, int column) {
          if (key + column + 2 * t >= row_end[half]) dp = 0;
        });
      multiply_columns<T, kD>(dq, ds, k, 0);
    }
    __syncthreads();  // the tile is no longer read
    if constexpr (kStages == 2) {
      stage ^= 1;
    } else {
      if (key + kKeys < end) load_keys(0, key + kKeys);
      cp_async_commit();
    }
  }
  if (!active) return;
  store_rows<T, kD>(q + warp_row * kD, dq[0], a.scale, a.scale, 0, count - warp_row, a,
                    [&](int r) { return rows.row<T>(p.dq, item.b, warp_row + r); });
}

#endif

// Two stages of keys where shared memory suffices (below 99 KiB, what a block can have on all of 8.x).
#define BACKWARD(D, keys, stages)                                                             \
  HEED_KERNEL(attention_backward_queries_##D##_bf16, AttentionBackwardParams, kMmaThreads, 2, \
              attention_backward_queries_mma<bf16, D, keys, stages>)                          \
  HEED_KERNEL(attention_backward_queries_##D##_f16, AttentionBackwardParams, kMmaThreads, 2,  \
              attention_backward_queries_mma<f16, D, keys, stages>)
BACKWARD(32, 64, 2)
BACKWARD(64, 64, 2)
BACKWARD(96, 64, 2)
BACKWARD(128, 32, 2)
BACKWARD(192, 32, 2)
BACKWARD(256, 32, 1)

#if !HEED_DEVICE_CODE

BackwardKernel attention_backward_queries_mma_kernel(DType dtype, int D) {
  const auto choose = [&](auto& bf16, auto& f16, int size, int keys, int stages) {
    return BackwardKernel{dtype == DType::bf16 ? &bf16 : &f16, 64, size,
                          static_cast<size_t>(2 * 64 + stages * 2 * keys) * size * 2};
  };
#define CHOOSE(D, keys, stages) \
  choose(attention_backward_queries_##D##_bf16, attention_backward_queries_##D##_f16, D, keys, stages)
  if (D <= 32) return CHOOSE(32, 64, 2);
  if (D <= 64) return CHOOSE(64, 64, 2);
  if (D <= 96) return CHOOSE(96, 64, 2);
  if (D <= 128) return CHOOSE(128, 32, 2);
  if (D <= 192) return CHOOSE(192, 32, 2);
  return CHOOSE(256, 32, 1);
}

#endif

}  // namespace heed::cuda
