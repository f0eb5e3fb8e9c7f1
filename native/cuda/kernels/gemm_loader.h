// Loads the tiles of a and b from global to shared memory, one after the other along K, swizzled, and from there into
// fragments.
//
// If the loop is unrolled kUnrolled = kStages times, the stage of a tile is a constant in its instructions. Otherwise
// kStage is always 0, and `at` is the distance of the stage from the first one. A loader loads whole tiles with next(),
// and the rest of K, if there is one, with last(), which pads with zeros. Rows and columns beyond the matrix cost
// nothing in the loop: they are read from its last row instead, or not at all, and their results go to elements of out
// that do not exist. A loader that decodes (gemm_decoded.h) knows by itself where K ends, and loads every tile with
// next().
#pragma once
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/mma.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Calls body(i) for the constants i from 0 to N - 1 until it returns false. Returns true if it never did.
template <class Body, int... I>
__device__ __forceinline__ bool unrolled_while(std::integer_sequence<int, I...>, const Body& body) {
  return (body(Constant<I>{}) && ...);
}
template <int N, class Body>
__device__ __forceinline__ bool unrolled_while(const Body& body) {
  return unrolled_while(std::make_integer_sequence<int, N>{}, body);
}

// Constants that the loaders of a kernel have in common.
template <int depth, int threads, int unrolled, int stage_bytes>
struct GemmStages {
  static constexpr int kDepth = depth, kThreads = threads, kUnrolled = unrolled, kStageBytes = stage_bytes;
};

// Returns the place of an element in a tile, whose rows are kColumns elements along K if the operand is contiguous
// along it, and otherwise across K. The tiles that ldmatrix reads are permuted for it; f32 across K is read in fours,
// by eight lanes from four rows.
template <class T, bool kAlongDepth, int kColumns>
__device__ __forceinline__ int tile_place(int row, int column) {
  if constexpr (sizeof(T) == 2)
    return swizzled<kColumns>(row, column);
  else if constexpr (kAlongDepth)
    return swizzled<2 * kColumns>(row, 2 * column) / 2;
  else
    return row * kColumns + (column ^ (row % 4 * 8));
}

// Loader of an operand that can be copied 16 bytes at a time.
template <class T, class Stages, int kOuter, bool kAlongDepth>
struct GemmLoader {
  static constexpr bool kAlong = kAlongDepth, kDecodes = false;
  static constexpr int kDepth = Stages::kDepth, kThreads = Stages::kThreads;
  static constexpr int kColumns = kAlongDepth ? kDepth : kOuter, kPart = 16 / sizeof(T), kParts = kColumns / kPart;
  static constexpr int kRowStep = kThreads / kParts, kCopies = kOuter * kDepth / kPart / kThreads;
  static_assert(kThreads % kParts == 0 && kOuter * kDepth % (kPart * kThreads) == 0, "threads share a tile evenly");
  static_assert(kRowStep % (sizeof(T) == 2 || kAlongDepth ? 8 : 4) == 0, "a thread's parts are permuted alike");

  const T* from[kCopies];
  int64_t depth_step;
  uint32_t to;  // in the first stage
  int row, column;
  int bytes;  // bytes of a part: fewer at the end of a row

  __device__ __forceinline__ GemmLoader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                        int64_t extent, uint32_t tile)
      : depth_step(kDepth * x.depth), row(threadIdx.x / kParts), column(threadIdx.x % kParts * kPart) {
    const T* const source = gemm_tile_source<T>(p, x, t, first);
    const int outer = gemm_left(extent, first);
    bytes = kAlongDepth ? 16 : min(max(outer - column, 0), kPart) * static_cast<int>(sizeof(T));
#pragma unroll
    for (int i = 0; i < kCopies; i++)
      from[i] = kAlongDepth ? source + min(row + i * kRowStep, outer - 1) * x.outer + column
                            : source + (row + i * kRowStep) * x.depth + column;
    to = tile + tile_place<T, kAlongDepth, kColumns>(row, column) * sizeof(T);
    keep(to);
    keep(bytes);
    keep(depth_step);
  }

  // The pointers advance once in kUnrolled tiles if the steps in between are constants.
  template <int kStage>
  __device__ __forceinline__ void next(uint32_t at) {
    unrolled<kCopies>([&](auto i) {
      if constexpr (kAlongDepth) {
        cp_async<16, place(kStage, i)>(to + at, from[i] + kStage * kDepth);
        if constexpr (kStage == Stages::kUnrolled - 1) from[i] += Stages::kUnrolled * kDepth;
      } else {
        cp_async<16, place(kStage, i)>(to + at, from[i], bytes);
        from[i] += depth_step;
      }
    });
  }

  // Loads `depth` elements of K.
  template <int kStage>
  __device__ __forceinline__ void last(uint32_t at, int depth) {
    const int part = kAlongDepth ? min(max(depth - column, 0), kPart) * static_cast<int>(sizeof(T)) : bytes;
    unrolled<kCopies>([&](auto i) {
      const bool present = kAlongDepth || row + i * kRowStep < depth;
      cp_async<16, place(kStage, i)>(to + at, from[i] + (kAlongDepth ? kStage * kDepth : 0), present ? part : 0);
    });
  }

 private:
  __host__ __device__ static constexpr int place(int stage, int copy) {
    return stage * Stages::kStageBytes + copy * kRowStep * kColumns * static_cast<int>(sizeof(T));
  }
};

// Loader of any operand. It copies 16 bytes at a time, 4 bytes, or element by element, according to the operand's
// width.
template <class T, class Stages, int kOuter, bool kAlongDepth>
struct GemmAnyLoader {
  static constexpr bool kAlong = kAlongDepth, kDecodes = false;
  static constexpr int kDepth = Stages::kDepth, kThreads = Stages::kThreads;
  static constexpr int kColumns = kAlongDepth ? kDepth : kOuter, kElements = kOuter * kDepth;

  const T* source;
  int64_t row_step, column_step, depth_step;
  int outer;
  int width;
  uint32_t tile;  // tile of the first stage

  __device__ __forceinline__ GemmAnyLoader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                           int64_t extent, uint32_t tile)
      : source(gemm_tile_source<T>(p, x, t, first)),
        row_step(kAlongDepth ? x.outer : x.depth),
        column_step(kAlongDepth ? x.depth : x.outer),
        depth_step(kDepth * x.depth),
        outer(gemm_left(extent, first)),
        width(x.width),
        tile(tile) {}

  template <int kStage>
  __device__ __forceinline__ void next(uint32_t at) {
    last<kStage>(at, kDepth);
    source += depth_step;
  }

  template <int kStage>
  __device__ __forceinline__ void last(uint32_t at, int depth) const {
    static_assert(kStage == 0, "too long to be in the code once a stage");
    const int rows = kAlongDepth ? outer : depth, columns = kAlongDepth ? depth : outer;
    if (width == 16)
      copy<8>(tile + at, rows, columns);
    else if (width == 4)
      copy<2>(tile + at, rows, columns);
    else
      gather(tile + at, rows, columns);
  }

 private:
  template <int kPart>
  __device__ __forceinline__ void copy(uint32_t tile, int rows, int columns) const {
    constexpr int kParts = kColumns / kPart, kCopies = kElements / kPart / kThreads;
    const int first = threadIdx.x / kParts, column = threadIdx.x % kParts * kPart;
    const int bytes = min(max(columns - column, 0), kPart) * static_cast<int>(sizeof(T));
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = first + i * (kThreads / kParts);
      cp_async<kPart * sizeof(T)>(tile + swizzled<kColumns>(row, column) * static_cast<int>(sizeof(T)),
                                  source + row * row_step + column, row < rows ? bytes : 0);
    }
  }

  // Copies two elements of a row at a time; all loads are in flight before the first element is stored.
  __device__ __forceinline__ void gather(uint32_t tile, int rows, int columns) const {
    constexpr int kPairs = kColumns / 2, kCopies = kElements / 2 / kThreads;
    const int first = threadIdx.x / kPairs, column = threadIdx.x % kPairs * 2;
    Vector<T, 2> pairs[kCopies];
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = first + i * (kThreads / kPairs);
      const T* from = source + row * row_step + column * column_step;
#pragma unroll
      for (int j = 0; j < 2; j++)
        pairs[i].at[j] = row < rows && column + j < columns ? from[j * column_step] : from_float<T>(0);
    }
#pragma unroll
    for (int i = 0; i < kCopies; i++)
      asm volatile("st.shared.b32 [%0], %1;" ::"r"(tile + swizzled<kColumns>(first + i * (kThreads / kPairs), column) *
                                                              static_cast<int>(sizeof(T))),
                   "r"(*reinterpret_cast<const uint32_t*>(&pairs[i]))
                   : "memory");
  }
};

// Reads 16 × 16 elements of a tile as four matrices: number `kBlock` across K, counted from the warp's first one, and
// number `kStep` along K. With kRowsFirst the second matrix is below the first in memory, otherwise beside it.
template <class T, class Stages, bool kAlongDepth, int kColumns, bool kRowsFirst, int kBlocks>
struct FragmentReader {
  static constexpr int kSteps = Stages::kDepth / 16;
  // Addresses in the first stage of the fragments in one row of them; the others lie whole rows below.
  static constexpr int kAddresses = kAlongDepth ? kSteps : kBlocks;
  uint32_t addresses[kAddresses];

  // `tile` is the tile of the first stage.
  __device__ __forceinline__ FragmentReader(uint32_t tile, int outer) {
    const int lane = threadIdx.x % 32;
    const int row = kRowsFirst ? lane % 16 : lane / 16 * 8 + lane % 8;
    const int column = kRowsFirst ? lane / 16 * 8 : lane / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < kAddresses; i++) {
      const int at = kAlongDepth ? swizzled<kColumns>(outer + row, i * 16 + column)
                                 : swizzled<kColumns>(row, outer + i * 16 + column);
      addresses[i] = tile + at * static_cast<int>(sizeof(T));
      keep(addresses[i]);
    }
  }

  template <int kBlock, int kStep, int kStage>
  __device__ __forceinline__ void load(uint32_t (&r)[4], uint32_t at) const {
    constexpr int kBelow = (kAlongDepth ? kBlock : kStep) * 16 * kColumns * static_cast<int>(sizeof(T));
    ldmatrix<!kAlongDepth, kStage * Stages::kStageBytes + kBelow>(r, addresses[kAlongDepth ? kStep : kBlock] + at);
  }
};

}  // namespace heed::cuda

#endif
