// Definitions that attention's kernels share: the problem, the keys that a query sees, the numbering of the rows of a
// head group, and the dropout mask. ops.def has the shapes.
//
// The H / Hkv = G query heads that share one key head are processed together: row r of group g is query r / G of head g
// · G + r % G, so that a group has Tq · G rows. A key tile is then read once for the whole group. Because rows keep the
// order of the queries, the number of keys that a causal row sees never falls from one row to the next.
#pragma once
#include "core/visible_keys.h"
#include "cuda/kernels/kernel.h"
#include "cuda/kernels/philox.h"

namespace heed::cuda {

// The largest head size that tensor cores and decoding can handle.
constexpr int kMostFastHead = 256;
// The largest head size that they can handle with a block mask.
constexpr int kMostMaskedHead = 128;

// A [B, T, heads, D] tensor with D contiguous.
struct HeadsView {
  void* data;
  int64_t strides[3];
#if HEED_DEVICE_CODE
  template <class T>
  __device__ __forceinline__ T* row(int64_t b, int64_t t, int64_t h) const {
    return static_cast<T*>(data) + b * strides[0] + t * strides[1] + h * strides[2];
  }
#endif
};

// Where keys and values lie that are in pages (ops.def).
struct KeyPages {
  const int32_t* table;  // [B, columns] or null
  int64_t columns;
  int size, count;  // tokens of a page, and number of pages
};

// The scales of keys and values that are codes (ops.def), [N, S, Hkv], or null.
struct KeyScales {
  const float *k, *v;
  int64_t size;  // S
  bool aligned;  // all rows of codes start at multiples of 8 bytes
};

// The biases of keys by their distance from the query (ops.def), [H, 2 reach + 1] or null.
struct RelativeBias {
  const float* table;
  int reach;
};

// The mask of blocks (ops.def).
struct KeyBlocks {
  const uint8_t* mask;  // or null
  int64_t rows, columns;
  int64_t batch_stride, head_stride;  // 0 if all share one mask
  int size;
};

// One bit for each of 32 tiles: `any` says that the mask leaves some of the tile visible, `all` that it leaves all of
// it.
struct alignas(8) TileWord {
  uint32_t any, all;
};

struct AttentionParams {
  HeadsView q, k, v;
  int64_t B, Tq, rows;  // `rows` of a group: Tq · G
  int Tk, H, Hkv, G, D;
  const int32_t* key_lengths;   // [B] or null
  const int32_t* query_starts;  // [B] or null
  const int32_t* key_ranges;    // [B, Tq, 2] or null
  const float* slopes;          // [H] or null
  RelativeBias relative;
  KeyPages pages;
  KeyScales scales;
  KeyBlocks blocks;
  const TileWord* tiles;  // if there is a block mask: tile_words words for each block of the launch
  int tile_words;
  int64_t window;  // 0 if there is no window
  bool causal;
  bool aligned;      // all rows of all views start at multiples of 16 bytes, codes aside
  float scale_log2;  // scale · log2 e, because the softmax is computed with powers of 2
  float scale;
  float cap_log2;           // softcap · log2 e; 0 if there is no cap
  float cap_scale;          // scale / softcap
  float keep_scale;         // factor of the probabilities that are kept: 1 / (1 - p)
  uint32_t drop_threshold;  // 0 if there is no dropout
  uint64_t seed;
  FaultSink fault;
};

#if HEED_DEVICE_CODE

constexpr float kLn2 = 0.693147180559945f, kLog2E = 1.44269504088896f;
constexpr float kInfinity = __builtin_huge_valf(), kLowest = -3.402823466e38f;

// Key bounds of a block of rows: the keys that any of its rows sees lie in [first, end), and every row sees the keys in
// [all_first, all_end).
struct KeyBounds {
  int first, end, all_first, all_end;
};

// The visible keys of one sequence. Every kernel gets them here and nowhere else.
struct VisibleKeys : SequenceKeys {
  __device__ __forceinline__ VisibleKeys(const AttentionParams& p, int64_t b) {
    window = p.window;
    ranges = p.key_ranges;
    queries = p.Tq;
    length = p.Tk;
    causal = p.causal;
    if (p.key_lengths) {
      const int given = p.key_lengths[b];
      length = max(0, min(given, p.Tk));
      if (length != given && threadIdx.x == 0) report_fault(p.fault, FaultKind::key_length, given, p.Tk, b);
    }
    start = p.query_starts ? p.query_starts[b] : length - p.Tq;
    if (ranges) ranges += b * p.Tq * 2;
  }

  // Returns the bounds for queries [first, last]. All kThreads threads of the block must call it.
  template <int kThreads>
  __device__ __forceinline__ KeyBounds of_all(int64_t first, int64_t last) const {
    const KeyInterval low = by_position(first), high = by_position(last);  // neither bound falls with the position
    KeyBounds bounds{low.first, high.end, high.first, low.end};
    if (!ranges) return bounds;
    __shared__ int shared[4];
    if (threadIdx.x == 0) shared[0] = shared[3] = length, shared[1] = shared[2] = 0;
    __syncthreads();
    for (int64_t query = first + threadIdx.x; query <= last; query += kThreads) {
      const KeyInterval keys = of(query);
      if (keys.first < keys.end) {
        atomicMin(&shared[0], keys.first);
        atomicMax(&shared[1], keys.end);
      }
      atomicMax(&shared[2], keys.first);
      atomicMin(&shared[3], keys.end);
    }
    __syncthreads();
    return {shared[0], shared[1], shared[2], shared[3]};
  }
};

// Where a key of a sequence lies: its page and its place there, or the sequence itself and the key. A page that does
// not exist is reported, and replaced by the first.
struct KeyPlace {
  int64_t page;
  int token;

  __device__ __forceinline__ KeyPlace(const AttentionParams& p, int64_t b, int key) : page(b), token(key) {
    if (!p.pages.table) return;
    const int place = key / p.pages.size, given = p.pages.table[b * p.pages.columns + place];
    const bool exists = given >= 0 && given < p.pages.count;
    if (!exists)
      report_fault(p.fault, FaultKind::page, given, p.pages.count - 1, b * p.pages.columns + place, p.pages.columns);
    page = exists ? given : 0;
    token = key % p.pages.size;
  }
};

template <class T>
__device__ __forceinline__ const T* key_row(const AttentionParams& p, const HeadsView& x, int64_t b, int key, int g) {
  const KeyPlace place(p, b, key);
  return x.row<const T>(place.page, place.token, g);
}

// A key or value that is codes, and where its scale is.
struct CodedRow {
  const uint8_t* codes;
  const float* scale;
};
__device__ __forceinline__ CodedRow coded_row(const AttentionParams& p, const HeadsView& x, const float* scales,
                                              int64_t b, int key, int g) {
  const KeyPlace place(p, b, key);
  return {x.row<const uint8_t>(place.page, place.token, g),
          scales + (place.page * p.scales.size + place.token) * p.Hkv + g};
}

// Turns four codes into numbers. The bits of 2^23 + n are those of 2^23 with n in the last byte.
__device__ __forceinline__ void decode_codes(uint32_t codes, float scale, float (&out)[4]) {
  constexpr uint32_t kBits = 0x4b000000;
  codes ^= 0x80808080;  // n = code + 128
#pragma unroll
  for (int i = 0; i < 4; i++)
    out[i] = (__uint_as_float(__byte_perm(codes, kBits, 0x7650 | i)) - (8388608.0f + 128.0f)) * scale;
}

// Rows first, first + 1, … of a group.
struct GroupRows {
  int64_t query0;
  int head0, past, G;

  __device__ __forceinline__ GroupRows(const AttentionParams& p, int g, int64_t first)
      : query0(p.G == 1 ? first : first / p.G), head0(g * p.G), past(0), G(p.G) {
    if (G > 1) past = static_cast<int>(first - query0 * G);
  }
  __device__ __forceinline__ int64_t query(int r) const { return query0 + (G == 1 ? r : (past + r) / G); }
  __device__ __forceinline__ int head(int r) const { return head0 + (G == 1 ? 0 : (past + r) % G); }
  template <class T>
  __device__ __forceinline__ T* row(const HeadsView& x, int64_t b, int r) const {
    return x.row<T>(b, query(r), head(r));
  }
  // Returns the index of row r in a [B, H, Tq] tensor.
  __device__ __forceinline__ int64_t index(const AttentionParams& p, int64_t b, int r) const {
    return (b * p.H + head(r)) * p.Tq + query(r);
  }
};

// Bit j says whether dropout keeps key `key` + j of the row. Element ((b·H + h)·Tq + i)·Tk + key of the random stream
// decides it.
__device__ __forceinline__ uint32_t kept_keys(const AttentionParams& p, int64_t row_index, int key) {
  const uint64_t first = static_cast<uint64_t>(row_index) * static_cast<uint64_t>(p.Tk) + static_cast<uint64_t>(key);
  const int skip = static_cast<int>(first % 4);
  uint64_t bits = 0;
#pragma unroll 1
  for (int block = 0; block < (skip ? 9 : 8); block++) {
    const PhiloxBlock words = philox(p.seed, first / 4 + block, kDropoutDraws);
#pragma unroll
    for (int w = 0; w < 4; w++)
      bits |= static_cast<uint64_t>(words.word[w] >> 8 >= p.drop_threshold) << (4 * block + w);
  }
  return static_cast<uint32_t>(bits >> skip);
}

// Returns 2^x to 2 ulp, and 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// These turn a product q · k into a score in powers of two. The score is factor · q·k if scores are plain; otherwise
//   s = scale · q·k,  softcap · tanh(s / softcap) with a cap,  - slope · |p - j| with slopes,  + a relative bias.
__device__ __forceinline__ bool plain_scores(const AttentionParams& p) {
  return p.cap_log2 == 0 && !p.slopes && !p.relative.table;
}

// Exact to f32 except for the digits that a difference from 1 loses (1e-7).
__device__ __forceinline__ float tanh_fast(float x) { return 1 - __fdividef(2, 1 + exp2_fast(x * (2 * kLog2E))); }

// Returns the ALiBi slope of a head, in powers of two.
__device__ __forceinline__ float slope_log2(const AttentionParams& p, int head) {
  return p.slopes ? p.slopes[head] * kLog2E : 0;
}

// The biases of keys for a row of a head, whose position is `distance` beyond column 0. Places are in 32 bits, because
// registers have no room for addresses beside the scores. Columns are fewer than kColumns.
struct RelativeBiases {
  static constexpr int kColumns = 1 << 10;
  const RelativeBias& biases;
  unsigned middle;  // the place of the bias of distance 0
  int position;     // as far from the columns as makes a difference

  __device__ __forceinline__ RelativeBiases(const AttentionParams& p, int head, int64_t distance)
      : biases(p.relative), middle(static_cast<unsigned>(head) * (2 * biases.reach + 1) + biases.reach) {
    const int64_t most = int64_t{biases.reach} + kColumns;
    position = static_cast<int>(max(-most, min(distance, most)));
  }
  // Adds the bias of the key in a column to its score in powers of two.
  __device__ __forceinline__ void add(float& score, int column) const {
    const int place = max(-biases.reach, min(column - position, biases.reach));
    score = fmaf(biases.table[middle + place], kLog2E, score);
  }
};

#endif

}  // namespace heed::cuda
