// Attention's forward pass on tensor cores: FlashAttention-2 (Dao 2023, algorithm 1). A block has 4 warps of kM · 16
// rows and goes over the keys in tiles of kKeys. Scores, probabilities and the output stay in registers (mma.h has
// their layout), and the softmax is kept online. While V's product runs, K of the next tile is being copied; while K's
// runs, V is.
//
// m, to which a row's exponents are relative, need not be the row's maximum. It only has to be close enough for powers
// of two to stay in range. So m is not renewed, and the output is not rescaled, before the maximum has grown by
// kGrowth.
//
// The kernel is instantiated for the head sizes below; any other size is padded with zeros in shared memory. Up to a
// head size of 64 a warp has 32 rows, which halves the keys and values that it reads from shared memory. For larger
// heads registers suffice for 16 rows, and from 192 on for keys in tiles of 32. Keys and values that are codes are read
// with 16 rows for any head, since turning them into numbers takes registers, too.
#include "cuda/kernels/attention_mma.h"
#include "cuda/kernels/attention_split.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

// Bytes of shared memory for the scale of a key that is codes: each thread that copies a part of the key keeps it.
constexpr int kScaleBytes = 32;

#if HEED_DEVICE_CODE

constexpr float kGrowth = 8;  // 2^8 is far from the largest f16

// Loads the tile at `key`, of which the block sees keys in [first, end): the next one of `tiles`, unless keys lie in
// pages or the tile begins before the first. A key before the first is not touched, because it may hold anything; the
// first one takes its place, with a weight of 0.
template <class T, int kD, int kKeys>
__device__ __forceinline__ void load_keys(KeyTiles<T, kD, kKeys>& tiles, uint32_t to, const ForwardItem& item, int key,
                                          int first, int end, const AttentionParams& p) {
  if (!p.pages.table && key >= first) return tiles.next(to, end - key, p);
  int at = key + TileCopy<kD>::row();
  copy_tile<T, kD, kKeys>(to, end - key, p, [&] {
    const int seen = min(max(at, first), end - 1);
    at += TileCopy<kD>::kStep;
    return key_row<T>(p, tiles.view, item.b, seen, item.g) + TileCopy<kD>::column();
  });
  tiles.seek(item.b, key + kKeys, item.g);
}

// Tiles of keys or values that are codes (ops.def). A thread copies codes and scales of its parts of a tile to a place
// of its own in shared memory, asynchronously, and turns them into elements of the tile when they have arrived. Keys
// and values take turns with this place.
template <class T, int kD, int kKeys>
struct CodeTiles {
  using Copy = TileCopy<kD>;
  static constexpr int kRows = kKeys / Copy::kStep;  // of a thread
  static constexpr int kCodes = kKeys * kD;
  static_assert(kRows * kMmaThreads * 4 <= kKeys * kScaleBytes, "room for the scales");
  unsigned char* place;

  __device__ __forceinline__ explicit CodeTiles(unsigned char* shared) : place(shared) {}
  // Copies the tile at `key`, of which the block sees keys in [first, end). The nearest of these takes the place of
  // each other key, with a weight of 0.
  __device__ __forceinline__ void load(const HeadsView& x, const float* scales, const ForwardItem& item, int key,
                                       int first, int end, const AttentionParams& p) const {
    const int left = p.D - Copy::column();
#pragma unroll
    for (int i = 0; i < kRows; i++) {
      const int seen = min(max(key + Copy::row() + i * Copy::kStep, first), end - 1);
      const CodedRow row = coded_row(p, x, scales, item.b, seen, item.g);
      cp_async<4>(scale(i), row.scale);
#pragma unroll
      for (int j = 0; j < Copy::kAcross; j++) {
        const int column = j * Copy::kSpan * 8, bytes = max(0, min(8, left - column));
        const uint8_t* const from = row.codes + Copy::column() + column;
        if (p.scales.aligned) {
          cp_async<8>(codes(i, j), from, bytes);
        } else {
#pragma unroll 1
          for (int e = 0; e < 8; e++) codes(i, j)[e] = e < bytes ? from[e] : 0;
        }
      }
    }
  }
  // Writes the thread's parts of the tile; `tile` is where the first of them belongs.
  __device__ __forceinline__ void decode(uint32_t tile) const {
    unsigned char* const to = static_cast<unsigned char*>(__cvta_shared_to_generic(tile));
#pragma unroll
    for (int i = 0; i < kRows; i++)
#pragma unroll
      for (int j = 0; j < Copy::kAcross; j++) {
        const uint2 eight = *reinterpret_cast<const uint2*>(codes(i, j));
        float low[4], high[4];
        decode_codes(eight.x, *scale(i), low);
        decode_codes(eight.y, *scale(i), high);
        *reinterpret_cast<uint4*>(to + (i * Copy::kStep * kD + j * Copy::kSpan * 8) * 2) = make_uint4(
            pack<T>(low[0], low[1]), pack<T>(low[2], low[3]), pack<T>(high[0], high[1]), pack<T>(high[2], high[3]));
      }
  }

 private:
  __device__ __forceinline__ unsigned char* codes(int i, int j) const {
    return place + ((i * Copy::kAcross + j) * kMmaThreads + threadIdx.x) * 8;
  }
  __device__ __forceinline__ float* scale(int i) const {
    return reinterpret_cast<float*>(place + kCodes) + i * kMmaThreads + threadIdx.x;
  }
};

template <class T, int kD, int kKeys, int kM, ForwardKind kKind>
__device__ void attention_forward_mma(const AttentionForwardParams& p) {
  constexpr bool kMasked = kKind == ForwardKind::masked, kCoded = kKind == ForwardKind::int8;
  constexpr int kRows = kMmaThreads / 32 * 16 * kM, kN = kKeys / 8, kOut = kD / 8;
  constexpr bool kKeepQueries = kD * kM <= 128;  // as fragments in registers
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int warp_row = threadIdx.x / 32 * 16 * kM;
  T* const q = reinterpret_cast<T*>(attention_shared);
  T* const k = q + kRows * kD;
  T* const v = k + kKeys * kD;
  __shared__ uint32_t kept[kRows * kKeys / 32];
  __shared__ KeptSums kept_sums;

  const ForwardItem item(p);
  const VisibleKeys visible(a, item.b);
  const int64_t first_row = item.block * kRows;
  const int count = static_cast<int>(min(static_cast<int64_t>(kRows), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const KeyBounds bounds = visible.of_all<kMmaThreads>(rows.query(0), rows.query(count - 1));
  const ItemKeys keys(p, item, bounds);
  if (keys.nothing_to_do()) return;
  // A split may end within a tile. Keys beyond its end are zeros in shared memory, and no row sees them.
  const int end = keys.end, all_first = bounds.all_first, all_end = min(bounds.all_end, end);
  const bool active = warp_row < count;
  const TileWalk<kMasked, kKeys> walk(a, (item.b * a.Hkv + item.g) * p.blocks + item.block);
  const int first_key = walk.first(keys.first / kKeys * kKeys, end);
  // Scores with a scale above 0 are scaled when their power is computed.
  const bool scaled_late = plain_scores(a) && a.scale_log2 > 0;
  const float factor = scaled_late ? a.scale_log2 : 1;

  RowTiles<T, kD, kRows> row_tiles(a, a.q, item.b);
  KeyTiles<T, kD, kKeys> k_tiles(a.k, item.b, first_key, item.g), v_tiles(a.v, item.b, first_key, item.g);
  const CodeTiles<T, kD, kKeys> coded(reinterpret_cast<unsigned char*>(v + kKeys * kD));
  uint32_t k_target = TileCopy<kD>::target(k);
  keep(k_target);
  const auto v_target = [&] { return k_target + static_cast<uint32_t>(kKeys * kD * sizeof(T)); };
  row_tiles.seek(rows);
  row_tiles.next(TileCopy<kD>::target(q), count, a, rows);
  const auto load_k = [&](int key) {
    if constexpr (kCoded)
      coded.load(a.k, a.scales.k, item, key, keys.first, end, a);
    else
      load_keys(k_tiles, k_target, item, key, keys.first, end, a);
  };
  if (first_key < end) load_k(first_key);
  cp_async_commit();

  const auto k_fragments = Fragments<kD>::across_first(k), v_fragments = Fragments<kD>::down_first(v);
  float out[kM][kOut][4] = {}, m[kM * 2], l[kM * 2];
  uint32_t queries[kKeepQueries ? kM : 1][kD / 16][4];
#pragma unroll
  for (int i = 0; i < kM * 2; i++) m[i] = kLowest, l[i] = 0;
  const auto element = [&](int v, int e) -> float& { return out[v / kOut][v % kOut][e]; };
  const auto row_of = [](int v, int e) { return v / kOut * 2 + e / 2; };
  const RowSums<kM * kOut, kM * 2, decltype(element), decltype(row_of)> sums(p, m, l, element, row_of);
  const auto finish_sums = [&] {
#pragma unroll
    for (int i = 0; i < kM * 2; i++) {
      l[i] += __shfl_xor_sync(kFullWarp, l[i], 1);
      l[i] += __shfl_xor_sync(kFullWarp, l[i], 2);
    }
  };
  kept_sums.begin(p, first_key);

  for (int key = first_key; key < end; key = walk.after(key, end)) {
    if (kept_sums.split_ends(key, first_key) && active) {
      finish_sums();
      kept_sums.put(p, attention_shared, sums);
    }
    cp_async_wait<0>();
    if constexpr (kCoded) coded.decode(k_target);
    __syncthreads();  // K has arrived, and V's tile is no longer read
    if constexpr (kCoded) {
      coded.load(a.v, a.scales.v, item, key, keys.first, end, a);
    } else if constexpr (kMasked || kD > 192) {  // computed again, because registers have no room for the place of V
      KeyTiles<T, kD, kKeys> tile(a.v, item.b, key, item.g);
      load_keys(tile, v_target(), item, key, keys.first, end, a);
    } else {
      load_keys(v_tiles, v_target(), item, key, keys.first, end, a);
    }
    cp_async_commit();
    kept_sums.go_on(p, key);
    float s[kM][kN][4];
    if (active) {
      if (a.drop_threshold != 0) {  // here, because registers are free before there are scores
        __syncwarp();               // the last tile's mask is no longer read
        for (int i = lane; i < 16 * kM * (kKeys / 32); i += 32) {
          const int r = warp_row + i / (kKeys / 32), word = i % (kKeys / 32);
          if (r < count) kept[r * (kKeys / 32) + word] = kept_keys(a, rows.index(a, item.b, r), key + word * 32);
        }
        __syncwarp();
      }
      int row = warp_row;
      if constexpr (!kKeepQueries) keep(row);  // keeps one value instead of four more addresses
      const auto q_fragments =
          v_fragments.moved((row - kRows - kKeys) * kD * static_cast<int>(sizeof(T)));  // from where the queries lie
      const auto load_queries = [&](uint32_t(&fragment)[4], auto i, auto column) {
        q_fragments.template load<false, decltype(i)() * 16, decltype(column)() * 16>(fragment);
      };
      if constexpr (kKeepQueries) {
        if (key == first_key)
          unrolled<kM>(
              [&](auto i) { unrolled<kD / 16>([&](auto column) { load_queries(queries[i][column], i, column); }); });
        multiply_rows<T>(
            s,
            [&](uint32_t(&fragment)[4], auto i, auto column) {
#pragma unroll
              for (int e = 0; e < 4; e++) fragment[e] = queries[i][column][e];
            },
            k_fragments);
      } else {
        multiply_rows<T>(s, load_queries, k_fragments);
      }
    }
    cp_async_wait<0>();
    if constexpr (kCoded) coded.decode(v_target());
    __syncthreads();  // V has arrived, and K's tile is no longer read
    if (const int next = walk.after(key, end); next < end) {
      if constexpr (kMasked) k_tiles.seek(item.b, next, item.g);
      load_k(next);
    }
    cp_async_commit();
    if (!active) continue;

    const auto for_each_row = [&](const auto& body) {
#pragma unroll
      for (int i = 0; i < kM * 2; i++) body(i);
    };
    // Returns the lane's first row. It is computed again whenever it is needed, because registers have no room for the
    // values that depend on it.
    const auto lane_row = [&] {
      int r = warp_row + g;
      keep(r);
      return r;
    };
    const auto for_each_score = [&](int i, const auto& body) {
#pragma unroll
      for (int n = 0; n < kN; n++)
#pragma unroll
        for (int c = 0; c < 2; c++) body(s[i / 2][n][i % 2 * 2 + c], n * 8 + c);
    };
    if (!scaled_late)
      for_each_row([&, first = lane_row()](int i) {
        const int r = first + i * 8;
        finish_scores(a, r < count ? rows.head(r) : 0, visible.position(rows.query(r)) - (key + 2 * t),
                      [&](const auto& body) { for_each_score(i, body); });
      });
    if (key < all_first || key + kKeys > all_end || !walk.whole(key))
      for_each_row([&, row = lane_row()](int i) {
        const int r = row + i * 8;
        const KeyInterval sees = r < count ? visible.of(rows.query(r)) : KeyInterval{0, 0};
        const int first = sees.first - (key + 2 * t), past = min(sees.end, end) - (key + 2 * t);
        for_each_score(i, [&](float& score, int column) {
          if (column < first || column >= past) score = -kInfinity;
        });
        if constexpr (kMasked) {
          const int head = r < count ? rows.head(r) : 0;
          const uint64_t bits = visible_keys<kKeys>(a, item.b, head, visible.position(rows.query(r)), key) >> (2 * t);
          for_each_score(i, [&](float& score, int column) {
            if (!(bits >> column & 1)) score = -kInfinity;
          });
        }
      });

    float highest[kM * 2];
    bool grows = false;
    for_each_row([&](int i) {
      float most = s[i / 2][0][i % 2 * 2];
      for_each_score(i, [&](float score, int) { most = fmaxf(most, score); });
      most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
      highest[i] = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2)) * factor;
      grows |= highest[i] > m[i] + kGrowth;
    });
    if (__any_sync(kFullWarp, grows))
      for_each_row([&](int i) {
        const float next = highest[i] > m[i] + kGrowth ? highest[i] : m[i], alpha = exp2_fast(m[i] - next);
        m[i] = next;
        l[i] *= alpha;
#pragma unroll
        for (int n = 0; n < kOut; n++)
#pragma unroll
          for (int c = 0; c < 2; c++) out[i / 2][n][i % 2 * 2 + c] *= alpha;
      });
    for_each_row([&](int i) {
      for_each_score(i, [&](float& score, int) {
        score = exp2_fast(fmaf(score, factor, -m[i]));
        l[i] += score;
      });
      compute_now(l[i]);  // before dropout changes the scores
    });
    if (a.drop_threshold != 0)
      for_each_row([&, first = lane_row()](int i) {
        const int r = first + i * 8;
        for_each_score(i, [&](float& prob, int column) {
          const uint32_t bits = r < count ? kept[r * (kKeys / 32) + column / 32] : 0;
          if (!(bits >> (column % 32 + 2 * t) & 1)) prob = 0;
        });
      });
    multiply_columns<T>(out, s, v_fragments);
  }

  finish_sums();
  if (active && first_key < end) kept_sums.finish(p, attention_shared, sums);
  if (keys.parts > 1 && !join_parts(p, keys, active, sums)) return;
  cp_async_wait<0>();
  __syncthreads();  // without keys, the queries may still be arriving in the memory that the output passes through
  if (!active) return;
#pragma unroll
  for (int i = 0; i < kM; i++) {
    const int row = warp_row + i * 16;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8 + g;
      if (p.lse && t == 0 && r < count) p.lse[rows.index(a, item.b, r)] = log_sum(m[i * 2 + half], l[i * 2 + half]);
    }
    store_rows<T, kD>(q + row * kD, out[i], row_factor(a, l[i * 2]), row_factor(a, l[i * 2 + 1]), 0, count - row, a,
                      [&](int r) { return rows.row<T>(p.out, item.b, row + r); });
  }
}

#endif

// Keys of a tile, and rows of a warp in units of sixteen.
#define KERNELS(X)              \
  X(int8, false, 32, 64, 1)     \
  X(int8, false, 64, 64, 1)     \
  X(int8, false, 96, 64, 1)     \
  X(int8, false, 128, 64, 1)    \
  X(int8, false, 192, 32, 1)    \
  X(int8, false, 256, 32, 1)    \
  X(forward, false, 32, 64, 2)  \
  X(forward, false, 64, 64, 2)  \
  X(forward, false, 96, 64, 1)  \
  X(forward, false, 128, 64, 1) \
  X(forward, false, 192, 32, 1) \
  X(forward, false, 256, 32, 1) \
  X(masked, true, 64, 64, 1)    \
  X(masked, true, 128, 64, 1)
HEED_CHECK_HEADS(KERNELS)

#define KERNEL(kind, masked, D, keys, m)                                             \
  HEED_KERNEL(attention_##kind##_##D##_bf16, AttentionForwardParams, kMmaThreads, 2, \
              attention_forward_mma<bf16, D, keys, m, ForwardKind::kind>)            \
  HEED_KERNEL(attention_##kind##_##D##_f16, AttentionForwardParams, kMmaThreads, 2,  \
              attention_forward_mma<f16, D, keys, m, ForwardKind::kind>)
KERNELS(KERNEL)

#if !HEED_DEVICE_CODE

ForwardKernel attention_mma_kernel(DType dtype, int D, ForwardKind kind) {
  const auto kernel = [&](auto& bf16, auto& f16, int size, int keys, int m) {
    const int rows = kMmaThreads / 32 * 16 * m;
    ForwardKernel kernel{};
    kernel.kernel = dtype == DType::bf16 ? &bf16 : &f16;
    kernel.rows = rows;
    kernel.columns = size;
    kernel.warp_rows = 16 * m;
    kernel.keys = keys;
    kernel.thread_floats = 4 * m * (size / 8 + 1);
    kernel.speed = 512;
    kernel.together = 1;
    const int codes = kind == ForwardKind::int8 ? keys * (size + kScaleBytes) : 0;
    kernel.shared = static_cast<size_t>((rows + 2 * keys) * size * 2 + codes);
    return kernel;
  };
#define CHOOSE(name, masked, size, keys, m)   \
  if (kind == ForwardKind::name && D <= size) \
    return kernel(attention_##name##_##size##_bf16, attention_##name##_##size##_f16, size, keys, m);
  KERNELS(CHOOSE)
  fail(Code::internal, "attention: there is no kernel for heads of a size of %d", D);
}

#endif

}  // namespace heed::cuda
