// dk and dv of attention_backward on tensor cores (attention_gradients.h). A block has 4 warps of 16 keys and goes over
// the rows that see them in tiles. S^T = k q^T and dP^T = v dout^T stay in registers. P^T and dS^T = P^T ∘ (dP^T -
// delta), rounded to T, are the first operands of dv += P^T dout and dk += dS^T q. A block computes kOut columns of dk
// and dv, which blockIdx.y selects: more than 128 would not fit into registers, so for larger heads two blocks compute
// the same scores.
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/attention_mma.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

template <class T, int kD, int kOut, int kRows, int kStages, bool kMasked = false>
__device__ void attention_backward_keys_mma(const AttentionBackwardParams& p) {
  constexpr int kKeys = kBackwardBlock, kN = kRows / 8;
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp_key = threadIdx.x / 32 * 16;
  T* const k = reinterpret_cast<T*>(attention_shared);
  T* const v = k + kKeys * kD;
  T* const queries = v + kKeys * kD;  // kStages tiles of q, each followed by a tile of dout
  // Per row: the term that is added to its scores, the term that is subtracted from dP, the keys it sees, the distance
  // of its position from the first key, and its slope.
  __shared__ __align__(8) float minus_lse[kStages][kRows], delta[kStages][kRows];
  __shared__ int sees_first[kStages][kRows], sees_end[kStages][kRows];
  __shared__ float distance[kStages][kRows], slope[kStages][kRows];
  __shared__ uint32_t kept[kStages][kRows][kKeys / 32];
  __shared__ uint64_t unmasked[kMasked ? kStages : 1][kMasked ? kRows : 1];  // keys that the block mask leaves visible

  const BackwardItem item(p);
  const VisibleKeys visible(a, item.b);
  const int first_key = static_cast<int>(item.block) * kKeys, first_column = static_cast<int>(blockIdx.y) * kOut;
  const QueriesOfKeys<kMmaThreads> seeing(visible, first_key, first_key + kKeys);
  const int64_t end_row = seeing.end * a.G;
  const bool active = first_key + warp_key < visible.length, plain = plain_scores(a);
  const TileWalk<kMasked, kRows> walk(a, (item.b * a.Hkv + item.g) * p.blocks + item.block);
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
      return seeing.next_row(row + kRows, a.G);
  };

  RowTiles<T, kD, kRows> q_tiles(a, a.q, item.b), dout_tiles(a, p.dout, item.b);
  uint32_t target = TileCopy<kD>::target(queries);
  keep(target);
  int64_t next_row = -1;  // row at which the tiles continue without seek()
  // Returns true if the thread's row, if it has one, sees all keys of the block.
  const auto load_queries = [&](int stage, int64_t row) {
    const int count = static_cast<int>(min(static_cast<int64_t>(kRows), end_row - row));
    const GroupRows rows(a, item.g, row);
    const uint32_t to = target + stage * static_cast<uint32_t>(2 * kRows * kD * sizeof(T));
    if (row != next_row) {
      q_tiles.seek(rows);
      dout_tiles.seek(rows);
    }
    next_row = row + kRows;
    q_tiles.next(to, count, a, rows);
    dout_tiles.next(to + static_cast<uint32_t>(kRows * kD * sizeof(T)), count, a, rows);
    const int r = threadIdx.x % kRows;
    // Rows that do not exist are zeros in q and dout and see nothing, because a key that is not finite times 0 is not
    // 0.
    KeyInterval sees{0, INT32_MAX};
    bool covers = true;
    if (threadIdx.x < kRows) {
      const int64_t index = rows.index(a, item.b, r);
      sees = r < count ? visible.of(rows.query(r)) : KeyInterval{0, 0};
      minus_lse[stage][r] = r < count ? p.lse[index] * -kLog2E : 0;
      delta[stage][r] = r < count ? p.delta[index] : 0;
      sees_first[stage][r] = sees.first;
      sees_end[stage][r] = sees.end;
      if constexpr (kMasked)
        if (r < count && !walk.whole(row)) {
          const int64_t position = visible.position(rows.query(r));
          const uint64_t bits = visible_keys<kKeys>(a, item.b, rows.head(r), position, first_key);
          unmasked[stage][r] = bits;
          covers = bits == kAllKeys<kKeys>;
        } else {
          unmasked[stage][r] = kAllKeys<kKeys>;
        }
      if (a.slopes) {
        distance[stage][r] = static_cast<float>(visible.position(rows.query(r)) - first_key);
        slope[stage][r] = slope_log2(a, rows.head(r));
      }
    }
    if (a.drop_threshold != 0 && threadIdx.x < kRows * (kKeys / 32)) {
      const int word = threadIdx.x / kRows;
      kept[stage][r][word] = r < count ? kept_keys(a, rows.index(a, item.b, r), first_key + word * 32) : 0;
    }
    return covers && sees.first <= first_key && sees.end >= first_key + kKeys;
  };
  int64_t row = first_row();
  KeyTiles<T, kD, kKeys>(a.k, item.b, first_key, item.g).next(TileCopy<kD>::target(k), visible.length - first_key, a);
  KeyTiles<T, kD, kKeys>(a.v, item.b, first_key, item.g).next(TileCopy<kD>::target(v), visible.length - first_key, a);
  bool covers = row < end_row ? load_queries(0, row) : false;
  cp_async_commit();

  const auto keys = Fragments<kD>::down_first(k, warp_key), rows_first = Fragments<kD>::across_first(queries),
             columns_first = Fragments<kD>::down_first(queries, 0, first_column);
  const auto load_keys = [&](uint32_t(&fragment)[4], auto, auto column) {
    keys.template load<false, 0, decltype(column)() * 16>(fragment);
  };
  const auto load_values = [&](uint32_t(&fragment)[4], auto, auto column) {
    keys.template load<false, kKeys, decltype(column)() * 16>(fragment);
  };
  float dk[1][kOut / 8][4] = {}, dv[1][kOut / 8][4] = {};
  int stage = 0;
  while (row < end_row) {
    const int64_t following = row_after(row);
    const bool more = following < end_row;
    bool next_covers = false;
    if constexpr (kStages == 2) {
      if (more) next_covers = load_queries(stage ^ 1, following);
      cp_async_commit();
    }
    cp_async_wait<kStages - 1>();
    const bool all_see = __syncthreads_and(covers);  // the tile has arrived too
    if (active) {
      const uint32_t bytes = stage * (2 * kRows * kD * sizeof(T));
      const auto by_row = rows_first.moved(bytes);
      float probs[1][kN][4], ds[1][kN][4];
      multiply_rows<T>(probs, load_keys, by_row);
      multiply_rows<T, kRows>(ds, load_values, by_row);
      const auto for_each_pair = [&](const auto& body) {
#pragma unroll
        for (int n = 0; n < kN; n++)
#pragma unroll
          for (int c = 0; c < 2; c++)
#pragma unroll
            for (int half = 0; half < 2; half++)
              body(probs[0][n][half * 2 + c], ds[0][n][half * 2 + c], n * 8 + 2 * t + c, warp_key + half * 8 + g);
      };
      const auto is_kept = [&](int r, int key) { return kept[stage][r][warp_key / 32] >> (key % 32) & 1; };
      if (a.drop_threshold != 0)
        for_each_pair([&](float&, float& dp, int r, int key) { dp = is_kept(r, key) ? dp * a.keep_scale : 0; });
      if (!plain)
        for_each_pair([&](float& score, float& dp, int r, int key) {
          score = finish_score(a, score, dp, delta[stage][r]);
          if (a.slopes) score -= slope[stage][r] * fabsf(distance[stage][r] - static_cast<float>(key));
        });
      const float factor = plain ? a.scale_log2 : 1;
#pragma unroll
      for (int n = 0; n < kN; n++) {
        const auto lse_pair = Vector<float, 2>::load(&minus_lse[stage][n * 8 + 2 * t]),
                   delta_pair = Vector<float, 2>::load(&delta[stage][n * 8 + 2 * t]);
#pragma unroll
        for (int e = 0; e < 4; e++) {
          float& prob = probs[0][n][e];
          prob = exp2_fast(fmaf(prob, factor, lse_pair.at[e % 2]));
          ds[0][n][e] = prob * (ds[0][n][e] - delta_pair.at[e % 2]);
        }
      }
      if (!all_see)
        for_each_pair([&](float& prob, float& dp, int r, int key) {
          if (first_key + key < sees_first[stage][r] || first_key + key >= sees_end[stage][r]) prob = dp = 0;
          if constexpr (kMasked)
            if (!(unmasked[stage][r] >> key & 1)) prob = dp = 0;
        });
      if (a.drop_threshold != 0)
        for_each_pair([&](float& prob, float&, int r, int key) {
          if (!is_kept(r, key)) prob = 0;
        });
      const auto by_column = columns_first.moved(bytes);
      multiply_columns<T, kRows>(dv, probs, by_column);
      multiply_columns<T>(dk, ds, by_column);
    }
    __syncthreads();  // the tile is no longer read
    if constexpr (kStages == 2) {
      stage ^= 1;
    } else {
      if (more) next_covers = load_queries(0, following);
      cp_async_commit();
    }
    row = following;
    covers = next_covers;
  }

  cp_async_wait<0>();
  __syncthreads();  // without rows, the keys may still be arriving in the memory that the results pass through
  const int count = a.Tk - first_key - warp_key;
  const auto key_row = [&](const HeadsView& x) {
    return [&, first = first_key + warp_key](int r) { return x.row<T>(item.b, first + r, item.g); };
  };
  store_rows<T, kD>(k + warp_key * kD, dk[0], a.scale, a.scale, first_column, count, a, key_row(p.dk));
  store_rows<T, kD>(v + warp_key * kD, dv[0], a.keep_scale, a.keep_scale, first_column, count, a, key_row(p.dv));
}

#endif

// Two stages of rows if shared memory suffices (less than 99 KiB, which a block can have on all of 8.x).
#define KERNELS(X)                    \
  X(backward, false, 32, 32, 64, 2)   \
  X(backward, false, 64, 64, 64, 2)   \
  X(backward, false, 96, 96, 32, 2)   \
  X(backward, false, 128, 128, 32, 2) \
  X(backward, false, 192, 96, 32, 2)  \
  X(backward, false, 256, 128, 32, 1) \
  X(masked, true, 64, 64, 32, 2)      \
  X(masked, true, 128, 128, 32, 2)
HEED_CHECK_HEADS(KERNELS)

#define KERNEL(kind, masked, D, out, rows, stages)                                         \
  HEED_KERNEL(attention_##kind##_keys_##D##_bf16, AttentionBackwardParams, kMmaThreads, 2, \
              attention_backward_keys_mma<bf16, D, out, rows, stages, masked>)             \
  HEED_KERNEL(attention_##kind##_keys_##D##_f16, AttentionBackwardParams, kMmaThreads, 2,  \
              attention_backward_keys_mma<f16, D, out, rows, stages, masked>)
KERNELS(KERNEL)

#if !HEED_DEVICE_CODE

BackwardKernel attention_backward_keys_mma_kernel(DType dtype, int D, bool masked) {
  const auto kernel = [&](auto& bf16, auto& f16, int size, int columns, int rows, int stages) {
    return BackwardKernel{dtype == DType::bf16 ? &bf16 : &f16, kBackwardBlock, columns, rows,
                          static_cast<size_t>(2 * kBackwardBlock + stages * 2 * rows) * size * 2};
  };
#define CHOOSE(kind, by_blocks, size, out, rows, stages) \
  if (masked == by_blocks && D <= size)                  \
    return kernel(attention_##kind##_keys_##size##_bf16, attention_##kind##_keys_##size##_f16, size, out, rows, stages);
  KERNELS(CHOOSE)
  fail(Code::internal, "attention: there is no kernel for heads of a size of %d", D);
}

#endif

}  // namespace heed::cuda
