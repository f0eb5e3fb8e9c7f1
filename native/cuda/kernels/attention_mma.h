// Tiles of attention on tensor cores for bf16 and f16: rows of kD elements in shared memory, with the head size padded
// with zeros and the 16-byte parts permuted (mma.h). A warp multiplies kM · 16 rows of one operand with all rows of the
// other. Results stay in its registers, where the next product takes them as its first operand.
#pragma once
#include "cuda/kernels/attention.h"
#include "cuda/kernels/mma.h"

namespace heed::cuda {

constexpr int kMmaThreads = 128;

// Kernels are listed as X(kind, masked, D, …), those of a kind in rising order of D; `masked` means with a block mask.
// A head uses the first kernel that it fits.
#define HEED_LARGEST_HEAD(kind, masked, D, ...) largest[masked] = D;
#define HEED_CHECK_HEADS(KERNELS)                                                   \
  static_assert(                                                                    \
      [] {                                                                          \
        int largest[2] = {};                                                        \
        KERNELS(HEED_LARGEST_HEAD)                                                  \
        return largest[false] == kMostFastHead && largest[true] == kMostMaskedHead; \
      }(),                                                                          \
      "a kernel for every head that is sent here");

#if HEED_DEVICE_CODE

extern __shared__ __align__(128) unsigned char attention_shared[];

// Describes how the threads of a block copy a tile: kSpan of them side by side, each with a part of 16 bytes, and kStep
// rows at once. So a thread has the same place in the permutation of each of its rows, and all its targets lie at
// distances that are known at compile time.
template <int kD>
struct TileCopy {
  static constexpr int kSpan = kSwizzledParts<kD>, kStep = kMmaThreads / kSpan, kAcross = kD / 8 / kSpan;
  __device__ __forceinline__ static int row() { return threadIdx.x / kSpan; }
  __device__ __forceinline__ static int column() { return threadIdx.x % kSpan * 8; }
  // Returns the address of the thread's first part of a tile.
  template <class T>
  __device__ __forceinline__ static uint32_t target(const T* tile) {
    return shared_address(tile + swizzled<kD>(row(), column()));
  }
};

// tile[r] = the thread's parts of row r for r < count, with zeros in rows and columns beyond. next() returns where they
// begin in rows row(), row() + kStep, … in turn. The copy is asynchronous if addresses are aligned; the caller commits,
// waits and synchronises.
template <class T, int kD, int kRows, class Next>
__device__ __forceinline__ void copy_tile(uint32_t to, int count, const AttentionParams& p, const Next& next) {
  using Copy = TileCopy<kD>;
  int left = p.D - Copy::column();
  if constexpr (Copy::kAcross > 2) keep(left);  // with large heads there are no registers for values computed from it
  const int r = Copy::row();
  if (p.aligned) {
    const auto copy = [&](const auto& bytes_in_row) {
      unrolled<kRows / Copy::kStep>([&](auto i) {
        const T* const from = next();
        unrolled<Copy::kAcross>([&](auto j) {
          constexpr int kFirst = decltype(j)() * Copy::kSpan * 8;
          const int bytes = max(0, min(8, left - kFirst)) * 2;
          cp_async<16, (decltype(i)() * Copy::kStep * kD + kFirst) * 2>(
              to, from + kFirst, bytes_in_row(decltype(i)() * Copy::kStep, bytes));
        });
      });
    };
    if (count >= kRows)
      copy([](int, int bytes) { return bytes; });
    else
      copy([&](int i, int bytes) { return r + i < count ? bytes : 0; });
  } else {
    T* const first = static_cast<T*>(__cvta_shared_to_generic(to));
#pragma unroll 1
    for (int i = 0; i < kRows; i += Copy::kStep) {
      const T* const from = next();
#pragma unroll 1
      for (int j = 0; j < Copy::kAcross; j++) {
        const int elements = r + i < count ? left - j * Copy::kSpan * 8 : 0;
        T* const part = first + i * kD + j * Copy::kSpan * 8;
#pragma unroll 1
        for (int e = 0; e < 8; e++) part[e] = e < elements ? from[j * Copy::kSpan * 8 + e] : from_float<T>(0);
      }
    }
  }
}

// Loads one tile of keys or values after the other; addresses advance by additions.
template <class T, int kD, int kKeys>
struct KeyTiles {
  const HeadsView& view;
  const T* source;

  __device__ __forceinline__ KeyTiles(const HeadsView& view, int64_t b, int key, int head) : view(view) {
    seek(b, key, head);
  }
  __device__ __forceinline__ void seek(int64_t b, int key, int head) {
    source = view.row<const T>(b, key + TileCopy<kD>::row(), head) + TileCopy<kD>::column();
  }
  // Loads the first `count` keys, and zeros beyond.
  __device__ __forceinline__ void next(uint32_t to, int count, const AttentionParams& p) {
    int64_t step = TileCopy<kD>::kStep * view.strides[1];
    if constexpr (TileCopy<kD>::kAcross > 2) keep(step);
    copy_tile<T, kD, kKeys>(to, count, p, [&] {
      const T* const from = source;
      source += step;
      return from;
    });
  }
};

// Loads tiles of rows of a group (GroupRows). If G divides the distance between a thread's rows, its head is always the
// same, and addresses advance by additions here too.
template <class T, int kD, int kRows>
struct RowTiles {
  using Copy = TileCopy<kD>;
  const HeadsView& view;
  const T* source;
  int64_t step, b;
  bool even;

  __device__ __forceinline__ RowTiles(const AttentionParams& p, const HeadsView& view, int64_t b)
      : view(view), b(b), even(p.G == 1 || Copy::kStep % p.G == 0) {
    step = p.G == 1 ? Copy::kStep * view.strides[1] : Copy::kStep / p.G * view.strides[1];
  }
  __device__ __forceinline__ void seek(const GroupRows& rows) {
    if (even) source = rows.row<const T>(view, b, Copy::row()) + Copy::column();
  }
  // Loads the first `count` of `rows`, which were passed to seek() last or follow the last tile.
  __device__ __forceinline__ void next(uint32_t to, int count, const AttentionParams& p, const GroupRows& rows) {
    if (even) {
      copy_tile<T, kD, kRows>(to, count, p, [&] {
        const T* const from = source;
        source += step;
        return from;
      });
    } else {
      int r = Copy::row();
      copy_tile<T, kD, kRows>(to, count, p, [&] {
        const T* const from = rows.row<const T>(view, b, r) + Copy::column();
        r += Copy::kStep;
        return from;
      });
    }
  }
};

// The addresses from which a lane reads fragments of a tile: four 8 × 8 matrices, the second below the first or beside
// it. The permutation of parts repeats every 8 rows and every kSwizzledParts parts, so a few addresses serve the whole
// tile.
template <int kD>
struct Fragments {
  static constexpr int kColumns = kSwizzledParts<kD> * 8, kCount = kColumns / 16;
  uint32_t at[kCount];

  template <class T>
  __device__ __forceinline__ static Fragments down_first(const T* tile, int row = 0, int column = 0) {
    return {tile, row + lane() % 16, column + lane() / 16 * 8};
  }
  template <class T>
  __device__ __forceinline__ static Fragments across_first(const T* tile) {
    return {tile, lane() / 16 * 8 + lane() % 8, lane() / 8 % 2 * 8};
  }
  // Returns the fragments of a tile that lies `bytes` bytes further on.
  __device__ __forceinline__ Fragments moved(uint32_t bytes) const {
    Fragments f = *this;
#pragma unroll
    for (int i = 0; i < kCount; i++) f.at[i] += bytes;
    return f;
  }
  // Loads the matrices that begin at (kRow, kColumn), which are multiples of 8 and 16.
  template <bool kTransposed, int kRow, int kColumn>
  __device__ __forceinline__ void load(uint32_t (&r)[4]) const {
    ldmatrix<kTransposed, (kRow * kD + kColumn / kColumns * kColumns) * 2>(r, at[kColumn % kColumns / 16]);
  }

 private:
  template <class T>
  __device__ __forceinline__ Fragments(const T* tile, int row, int column) {
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      at[i] = shared_address(tile + swizzled<kD>(row, column + i * 16));
      keep(at[i]);
    }
  }
  __device__ __forceinline__ static int lane() { return threadIdx.x % 32; }
};

// acc[kM·16, 8·kN] = a[kM·16, kD] · b[8·kN, kD]^T. a(fragment, m, k) loads rows 16m… and columns 16k… of a; m and k are
// known at compile time. b begins at row kRow of a tile, and its fragments lie across first.
template <class T, int kRow = 0, int kD, int kM, int kN, class LoadA>
__device__ __forceinline__ void multiply_rows(float (&acc)[kM][kN][4], const LoadA& a, const Fragments<kD>& b) {
  unrolled<kD / 16>([&](auto step) {
    constexpr int k = decltype(step)();
    uint32_t left[kM][4];
    unrolled<kM>([&](auto m) { a(left[m], m, step); });
    unrolled<kN / 2>([&](auto pair) {
      constexpr int n = decltype(pair)() * 2;
      uint32_t right[4];
      b.template load<false, kRow + n * 8, k * 16>(right);
#pragma unroll
      for (int m = 0; m < kM; m++) {
        if constexpr (k == 0) {
          mma_16x8x16_first<T>(acc[m][n], left[m], {right[0], right[1]});
          mma_16x8x16_first<T>(acc[m][n + 1], left[m], {right[2], right[3]});
        } else {
          mma_16x8x16<T>(acc[m][n], left[m], {right[0], right[1]});
          mma_16x8x16<T>(acc[m][n + 1], left[m], {right[2], right[3]});
        }
      }
    });
  });
}

// acc[kM·16, 8·kN] += probs[kM·16, 8·kK] · b[8·kK, kN·8 columns]. probs are as a product left them, and are rounded to
// T. b begins at row kRow of a tile, and its fragments lie down first.
template <class T, int kRow = 0, int kD, int kM, int kN, int kK>
__device__ __forceinline__ void multiply_columns(float (&acc)[kM][kN][4], const float (&probs)[kM][kK][4],
                                                 const Fragments<kD>& b) {
  unrolled<kK / 2>([&](auto step) {
    constexpr int k = decltype(step)() * 2;
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        left[m][i] = pack<T>(probs[m][k + i / 2][i % 2 * 2], probs[m][k + i / 2][i % 2 * 2 + 1]);
    unrolled<kN / 2>([&](auto pair) {
      constexpr int n = decltype(pair)() * 2;
      uint32_t right[4];
      b.template load<true, kRow + k * 8, n * 8>(right);
#pragma unroll
      for (int m = 0; m < kM; m++) {
        mma_16x8x16<T>(acc[m][n], left[m], {right[0], right[1]});
        mma_16x8x16<T>(acc[m][n + 1], left[m], {right[2], right[3]});
      }
    });
  });
}

// Turns one row's products q · k that are not plain_scores into scores in powers of two: for_each(body) calls
// body(score, column) with each of them. `distance` is how far the row's own position is beyond column 0.
template <class ForEach>
__device__ __forceinline__ void finish_scores(const AttentionParams& p, int head, int64_t distance,
                                              const ForEach& for_each) {
  if (p.cap_log2 != 0)
    for_each([&](float& score, int) { score = p.cap_log2 * tanh_fast(score * p.cap_scale); });
  else
    for_each([&](float& score, int) { score *= p.scale_log2; });
  if (p.slopes) {
    const float slope = slope_log2(p, head), first = static_cast<float>(distance);
    for_each([&](float& score, int column) { score = fmaf(-slope, fabsf(first - static_cast<float>(column)), score); });
  }
  if (p.relative.table) {
    const RelativeBiases biases(p, head, distance);
    for_each([&](float& score, int column) { biases.add(score, column); });
  }
}

// A warp writes 16 rows of 8·kN columns, times factor0 (rows 0 to 7) and factor1 (rows 8 to 15), to row(r) + first for
// r < count. They pass through its own 16 rows of `tile`, so that whole parts of 16 bytes are written.
template <class T, int kD, int kN, class Row>
__device__ __forceinline__ void store_rows(T* tile, const float (&acc)[kN][4], float factor0, float factor1, int first,
                                           int count, const AttentionParams& p, const Row& row) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kN; n++) {
    // Because the permutation repeats, there are few different addresses.
    constexpr int kParts = kSwizzledParts<kD>;
    T* const at = tile + swizzled<kD>(g, n % kParts * 8) + 2 * t + n / kParts * kParts * 8;
    *reinterpret_cast<uint32_t*>(at) = pack<T>(acc[n][0] * factor0, acc[n][1] * factor0);
    *reinterpret_cast<uint32_t*>(at + 8 * kD) = pack<T>(acc[n][2] * factor1, acc[n][3] * factor1);
  }
  __syncwarp();
#pragma unroll 1
  for (int i = lane; i < 16 * kN; i += 32) {
    const int r = i / kN, c = i % kN * 8;
    const int elements = r < count ? p.D - first - c : 0;
    if (elements <= 0) continue;
    const auto part = Vector<T, 8>::load(tile + swizzled<kD>(r, c));
    T* out = row(r) + first + c;
    if (p.aligned && elements >= 8) {
      part.store(out);
    } else {
#pragma unroll
      for (int e = 0; e < 8; e++)
        if (e < elements) out[e] = part.at[e];
    }
  }
}

#endif

}  // namespace heed::cuda
