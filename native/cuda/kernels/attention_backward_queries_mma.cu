// dq and delta of attention_backward on tensor cores (attention_gradients.h). A block has 4 warps of 16 rows and goes
// over the keys that they see in tiles. S = q k^T and dP = dout v^T stay in registers. dS = P ∘ (dP - delta), rounded
// to T, is the first operand of dq += dS k.
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/attention_mma.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

// Loads elements [c, c + 8) of a row, with zeros beyond D.
template <class T>
__device__ __forceinline__ void load_columns(float (&x)[8], const T* row, int c, const AttentionParams& p) {
  if (p.aligned && c + 8 <= p.D) {
    const auto part = Vector<T, 8>::load(row + c);
#pragma unroll
    for (int e = 0; e < 8; e++) x[e] = to_float(part.at[e]);
  } else {
#pragma unroll
    for (int e = 0; e < 8; e++) x[e] = c + e < p.D ? to_float(row[c + e]) : 0;
  }
}

// Computes rowsum(dout ∘ out) of the warp's 16 rows with 8 lanes per row; dout is in shared memory.
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
        load_columns(x, rows.row<const T>(p.out, b, r), c, a);
        const auto y = Vector<T, 8>::load(dout + swizzled<kD>(r, c));
#pragma unroll
        for (int e = 0; e < 8; e++) sum += x[e] * to_float(y.at[e]);
      }
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
    if (r < count && lane % 8 == 0) p.delta[rows.index(a, b, r)] = sum;
    // The sums of rows i·4 to i·4 + 3 go to the lanes that hold rows lane / 4 and lane / 4 + 8 of a fragment.
    const float mine = __shfl_sync(kFullWarp, sum, lane / 4 % 4 * 8);
    if (lane / 16 == i % 2) delta[i / 2] = mine;
  }
}

template <class T, int kD, int kKeys, int kStages, bool kMasked = false>
__device__ void attention_backward_queries_mma(const AttentionBackwardParams& p) {
  constexpr int kRows = kBackwardBlock, kN = kKeys / 8;
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp_row = threadIdx.x / 32 * 16;
  T* const q = reinterpret_cast<T*>(attention_shared);
  T* const dout = q + kRows * kD;
  T* const keys = dout + kRows * kD;  // kStages tiles of k, each followed by a tile of v
  __shared__ uint32_t kept[kRows][kKeys / 32];

  const BackwardItem item(p);
  const VisibleKeys visible(a, item.b);
  // The last rows come first, because causal rows there have the most keys.
  const int64_t first_row = (p.blocks - 1 - item.block) * kRows;
  const int count = static_cast<int>(min(static_cast<int64_t>(kRows), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const KeyBounds bounds = visible.of_all<kMmaThreads>(rows.query(0), rows.query(count - 1));
  const int end = bounds.end;
  const bool active = warp_row < count, plain = plain_scores(a);
  const TileWalk<kMasked, kKeys> walk(a, (item.b * a.Hkv + item.g) * p.blocks + first_row / kRows);
  const int first_key = walk.first(bounds.first, end);

  RowTiles<T, kD, kRows> q_tiles(a, a.q, item.b), dout_tiles(a, p.dout, item.b);
  q_tiles.seek(rows);
  dout_tiles.seek(rows);
  q_tiles.next(TileCopy<kD>::target(q), count, a, rows);
  dout_tiles.next(TileCopy<kD>::target(dout), count, a, rows);
  cp_async_commit();
  KeyTiles<T, kD, kKeys> k_tiles(a.k, item.b, first_key, item.g), v_tiles(a.v, item.b, first_key, item.g);
  uint32_t target = TileCopy<kD>::target(keys);
  keep(target);
  const auto load_keys = [&](int stage, int key) {
    const uint32_t to = target + stage * static_cast<uint32_t>(2 * kKeys * kD * sizeof(T));
    if constexpr (kMasked) {
      k_tiles.seek(item.b, key, item.g);
      v_tiles.seek(item.b, key, item.g);
    }
    k_tiles.next(to, end - key, a);
    v_tiles.next(to + static_cast<uint32_t>(kKeys * kD * sizeof(T)), end - key, a);
  };
  if (first_key < end) load_keys(0, first_key);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();  // q and dout have arrived

  float delta[2] = {}, lse[2], dq[1][kD / 8][4] = {};
  if (active) row_deltas<T, kD>(delta, p, dout, rows, item.b, warp_row, count);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = warp_row + half * 8 + g;
    lse[half] = r < count ? p.lse[rows.index(a, item.b, r)] * kLog2E : 0;
  }

  const auto row_fragments = Fragments<kD>::down_first(q, warp_row), rows_first = Fragments<kD>::across_first(keys),
             columns_first = Fragments<kD>::down_first(keys);
  const auto load_q = [&](uint32_t(&fragment)[4], auto, auto column) {
    row_fragments.template load<false, 0, decltype(column)() * 16>(fragment);
  };
  const auto load_dout = [&](uint32_t(&fragment)[4], auto, auto column) {
    row_fragments.template load<false, kRows, decltype(column)() * 16>(fragment);
  };
  int stage = 0;
  for (int key = first_key; key < end; key = walk.after(key, end)) {
    if constexpr (kStages == 2) {
      if (const int next = walk.after(key, end); next < end) load_keys(stage ^ 1, next);
      cp_async_commit();
    }
    cp_async_wait<kStages - 1>();
    __syncthreads();  // the tile has arrived
    if (active) {
      int lane_row = warp_row + g;
      keep(lane_row);  // values computed from it are seldom needed
      if (a.drop_threshold != 0) {
        __syncwarp();  // the last tile's mask is no longer read
        for (int i = lane; i < 16 * (kKeys / 32); i += 32) {
          const int r = warp_row + i % 16, word = i / 16;
          kept[r][word] = r < count ? kept_keys(a, rows.index(a, item.b, r), key + word * 32) : 0;
        }
        __syncwarp();
      }
      const uint32_t bytes = stage * (2 * kKeys * kD * sizeof(T));
      const auto by_row = rows_first.moved(bytes);
      float s[1][kN][4], ds[1][kN][4];
      multiply_rows<T>(s, load_q, by_row);
      multiply_rows<T, kKeys>(ds, load_dout, by_row);
      const auto for_each_pair = [&](int half, const auto& body) {
#pragma unroll
        for (int n = 0; n < kN; n++)
#pragma unroll
          for (int c = 0; c < 2; c++) body(s[0][n][half * 2 + c], ds[0][n][half * 2 + c], n * 8 + c);
      };
      const auto for_each_row = [&](const auto& body) {
#pragma unroll
        for (int half = 0; half < 2; half++) body(half, lane_row + half * 8);
      };
      if (a.drop_threshold != 0)
        for_each_row([&](int half, int r) {
          for_each_pair(half, [&](float&, float& dp, int column) {
            const uint32_t bits = kept[r][column / 32] >> (column % 32);
            dp = bits >> (2 * t) & 1 ? dp * a.keep_scale : 0;
          });
        });
      if (!plain)
        for_each_row([&](int half, int r) {
          const float slope = slope_log2(a, r < count ? rows.head(r) : 0);
          const auto distance = static_cast<float>(visible.position(rows.query(r)) - (key + 2 * t));
          for_each_pair(half, [&](float& score, float& dp, int column) {
            score = finish_score(a, score, dp, delta[half]);
            if (a.slopes) score -= slope * fabsf(distance - static_cast<float>(column));
          });
        });
      const float factor = plain ? a.scale_log2 : 1;
      for_each_row([&](int half, int) {
        for_each_pair(half, [&](float& score, float& dp, int) {
          dp = exp2_fast(fmaf(score, factor, -lse[half])) * (dp - delta[half]);
        });
      });
      if (key < bounds.all_first || key + kKeys > bounds.all_end || !walk.whole(key))
        for_each_row([&](int half, int r) {
          const KeyInterval sees = r < count ? visible.of(rows.query(r)) : KeyInterval{0, 0};
          const int first = sees.first - (key + 2 * t), past = sees.end - (key + 2 * t);
          for_each_pair(half, [&](float&, float& dp, int column) {
            if (column < first || column >= past) dp = 0;
          });
          if constexpr (kMasked) {
            const int head = r < count ? rows.head(r) : 0;
            const uint64_t bits = visible_keys<kKeys>(a, item.b, head, visible.position(rows.query(r)), key) >> (2 * t);
            for_each_pair(half, [&](float&, float& dp, int column) {
              if (!(bits >> column & 1)) dp = 0;
            });
          }
        });
      multiply_columns<T>(dq, ds, columns_first.moved(bytes));
    }
    __syncthreads();  // the tile is no longer read
    if constexpr (kStages == 2) {
      stage ^= 1;
    } else {
      if (const int next = walk.after(key, end); next < end) load_keys(0, next);
      cp_async_commit();
    }
  }
  if (!active) return;
  store_rows<T, kD>(q + warp_row * kD, dq[0], a.scale, a.scale, 0, count - warp_row, a,
                    [&](int r) { return rows.row<T>(p.dq, item.b, warp_row + r); });
}

#endif

// Two stages of keys if shared memory suffices (less than 99 KiB, which a block can have on all of 8.x).
#define KERNELS(X)               \
  X(backward, false, 32, 64, 2)  \
  X(backward, false, 64, 64, 2)  \
  X(backward, false, 96, 64, 2)  \
  X(backward, false, 128, 32, 2) \
  X(backward, false, 192, 32, 2) \
  X(backward, false, 256, 32, 1) \
  X(masked, true, 64, 64, 2)     \
  X(masked, true, 128, 32, 2)
HEED_CHECK_HEADS(KERNELS)

#define KERNEL(kind, masked, D, keys, stages)                                                 \
  HEED_KERNEL(attention_##kind##_queries_##D##_bf16, AttentionBackwardParams, kMmaThreads, 2, \
              attention_backward_queries_mma<bf16, D, keys, stages, masked>)                  \
  HEED_KERNEL(attention_##kind##_queries_##D##_f16, AttentionBackwardParams, kMmaThreads, 2,  \
              attention_backward_queries_mma<f16, D, keys, stages, masked>)
KERNELS(KERNEL)

#if !HEED_DEVICE_CODE

BackwardKernel attention_backward_queries_mma_kernel(DType dtype, int D, bool masked) {
  const auto kernel = [&](auto& bf16, auto& f16, int size, int keys, int stages) {
    return BackwardKernel{dtype == DType::bf16 ? &bf16 : &f16, kBackwardBlock, size, keys,
                          static_cast<size_t>(2 * kBackwardBlock + stages * 2 * keys) * size * 2};
  };
#define CHOOSE(kind, by_blocks, size, keys, stages)                                                              \
  if (masked == by_blocks && D <= size)                                                                          \
    return kernel(attention_##kind##_queries_##size##_bf16, attention_##kind##_queries_##size##_f16, size, keys, \
                  stages);
  KERNELS(CHOOSE)
  fail(Code::internal, "attention: there is no kernel for heads of a size of %d", D);
}

#endif

}  // namespace heed::cuda
