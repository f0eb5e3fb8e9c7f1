// The matrix product of f32 on tensor cores: operands are rounded to tf32, which has f32's exponents and 10 bits after
// the point; sums are f32. It is used only on request (cuda/tf32.h).
//
// It works like gemm_mma.h except for the fragments. An operand that is contiguous along K has tiles [outer][K] and is
// read by ldmatrix, which sees two halves of an element in each register. From the tiles [K][outer] of another operand,
// a lane reads four elements across K at once, which thus belong to four fragments: eight rows or columns of a fragment
// are every fourth of 32. outer_of() returns the place of a fragment's rows and columns.
#pragma once
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_loader.h"
#include "cuda/kernels/gemm_parts.h"
#include "cuda/kernels/gemm_sum.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

__device__ __forceinline__ uint32_t to_tf32(uint32_t x) {
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(x)));
  return rounded;
}

// d[16, 8] = a[16, 8] · b[8, 8] + c. With g = lane / 4 and t = lane % 4:
//   a[0]: a[g][t]   a[1]: a[g+8][t]   a[2]: a[g][t+4]   a[3]: a[g+8][t+4]   b[0]: b[t][g]   b[1]: b[t+4][g]
__device__ __forceinline__ void mma_16x8x8_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The fragments of 8 rows or columns of an operand, kEighths of them: fragments[i][h] is element lane / 4 of the i-th
// one at K = lane % 4 + 4h.
template <class Stages, int kOuter, bool kAlongDepth, int kEighths>
struct Tf32Reader {
  static constexpr int kDepth = Stages::kDepth, kColumns = kAlongDepth ? kDepth : kOuter, kSteps = kDepth / 8;
  static constexpr int kAddresses = kAlongDepth ? kSteps : 1;
  uint32_t addresses[kAddresses];

  __device__ __forceinline__ Tf32Reader(uint32_t tile, int outer) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kAddresses; i++) {
      // Four matrices of 8 × 4: two eighths, and two steps of four along K.
      const int eighth = lane / 8 % 2, half = lane / 16;
      addresses[i] =
          tile + 4 * (kAlongDepth ? tile_place<float, true, kColumns>(outer + eighth * 8 + lane % 8, i * 8 + half * 4)
                                  : tile_place<float, false, kColumns>(lane % 4, outer + lane / 4 * 4));
      keep(addresses[i]);
    }
  }

  template <int kStep, int kStage>
  __device__ __forceinline__ void load(uint32_t (&fragments)[kEighths][2], uint32_t at) const {
    constexpr int kAt = kStage * Stages::kStageBytes;
    if constexpr (kAlongDepth) {
      unrolled<kEighths / 2>([&](auto i) {
        uint32_t r[4];
        ldmatrix<false, kAt + i * 16 * kColumns * 4>(r, addresses[kStep] + at);
        fragments[2 * i][0] = r[0], fragments[2 * i + 1][0] = r[1];
        fragments[2 * i][1] = r[2], fragments[2 * i + 1][1] = r[3];
      });
    } else {
      unrolled<kEighths / 4>([&](auto i) {
        unrolled<2>([&](auto half) {
          uint32_t r[4];
          asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
                       : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                       : "r"(addresses[0] + at), "n"(kAt + (kStep * 8 + half * 4) * kColumns * 4 + i * 128)
                       : "memory");
#pragma unroll
          for (int e = 0; e < 4; e++) fragments[4 * i + e][half] = r[e];
        });
      });
    }
#pragma unroll
    for (int i = 0; i < kEighths; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) fragments[i][half] = to_tf32(fragments[i][half]);
  }

  // Returns the place of element `at` of eighth `i`, counted from the warp's first row or column.
  __device__ __forceinline__ static int outer_of(int i, int at) {
    return kAlongDepth ? i * 8 + at : i / 4 * 32 + at * 4 + i % 4;
  }
};

// The stages that the loaders of a kernel share. The code has a copy for each stage, or one copy for all.
template <class Shape, bool kUnrolled>
using GemmTf32Stages =
    GemmStages<Shape::kK, Shape::kThreads, kUnrolled ? Shape::kStages : 1, Shape::kStageElements * 4>;

// Sums an operand's tile over K, exactly: a thread has one row or column.
template <int kOuter, int kDepth, bool kAlongDepth>
__device__ __forceinline__ void add_tf32_tile(const float* tile, float& sum) {
  const int outer = threadIdx.x;
  if (outer >= kOuter) return;
#pragma unroll
  for (int k = 0; k < kDepth; k++)
    sum += tile[kAlongDepth ? tile_place<float, true, kDepth>(outer, k) : tile_place<float, false, kOuter>(k, outer)];
}

// Multiplies the tiles that the loaders load; `operand_b` is what LoaderB loads from.
template <class Shape, class Stages, class LoaderA, class LoaderB, class OperandB>
__device__ __forceinline__ void gemm_tf32_part(const GemmParams& p, const OperandB& operand_b, const GemmTile& t) {
  constexpr int kM = Shape::kM, kN = Shape::kN, kK = Shape::kK, kStages = Shape::kStages;
  constexpr int kThreads = Shape::kThreads, kUnrolled = Stages::kUnrolled;
  constexpr bool kAlongA = LoaderA::kAlong, kAlongB = LoaderB::kAlong;
  constexpr int kRowBlocks = Shape::kWarpM / 16, kColumnBlocks = Shape::kWarpN / 8;
  constexpr int kTileA = kM * kK * 4, kStageBytes = kTileA + kN * kK * 4;
  static_assert(kStageBytes == Stages::kStageBytes, "what the host function allocates");

  const uint32_t tile_a = shared_address(gemm_shared), tile_b = tile_a + kTileA;
  LoaderA a(p, p.a, t, t.m, p.m, tile_a);
  LoaderB b(p, operand_b, t, t.n, p.n, tile_b);
  const int64_t depth = max(int64_t{0}, t.end - t.begin);
  const int whole = static_cast<int>(depth / kK), rest = static_cast<int>(depth % kK);
  const int steps = max(whole + (rest > 0), 1);  // an empty K takes one step of zeros
  // The part of the place of a step's stage that the unrolled code does not know.
  const auto place = [](int step) -> uint32_t { return kUnrolled > 1 ? 0 : step % kStages * kStageBytes; };
  // Every step commits a group of copies, even if nothing is left to copy.
  const auto copy = [&](int step, auto stage) {
    const uint32_t at = place(step);
    if (step < whole) {
      a.template next<stage>(at);
      if constexpr (!LoaderB::kDecodes) b.template next<stage>(at);
    } else if (step < steps) {
      a.template last<stage>(at, rest);
      if constexpr (!LoaderB::kDecodes) b.template last<stage>(at, rest);
    }
    if constexpr (LoaderB::kDecodes)
      if (step < steps) b.next(at);
    cp_async_commit();
  };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / (kN / Shape::kWarpN) * Shape::kWarpM, warp_n = warp % (kN / Shape::kWarpN) * Shape::kWarpN;
  using ReaderA = Tf32Reader<Stages, kM, kAlongA, kRowBlocks * 2>;
  using ReaderB = Tf32Reader<Stages, kN, kAlongB, kColumnBlocks>;
  const ReaderA reader_a(tile_a, warp_m);
  const ReaderB reader_b(tile_b, warp_n);
  const Summed summed = LoaderB::kDecodes ? Summed::none : gemm_summed(p, t);
  float operand_sum = 0;
  Four sums[kRowBlocks][kColumnBlocks] = {};

  // Runs one step; returns false after the last.
  int step = 0;
  const auto advance = [&](auto stage) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    // Copies into the stage that was read in the last step; the barrier guarantees that all threads have read it.
    copy(step + kStages - 1, Constant<(stage + kStages - 1) % kUnrolled>{});
    const uint32_t at = place(step);
    unrolled<kK / 8>([&](auto k) {
      uint32_t fa[kRowBlocks * 2][2], fb[kColumnBlocks][2];
      reader_a.template load<k, stage>(fa, at);
      reader_b.template load<k, stage>(fb, at);
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
        for (int j = 0; j < kColumnBlocks; j++)
          mma_16x8x8_tf32(sums[i][j].at, {fa[2 * i][0], fa[2 * i + 1][0], fa[2 * i][1], fa[2 * i + 1][1]}, fb[j]);
    });
    const float* const tiles = reinterpret_cast<const float*>(gemm_shared + stage * kStageBytes + at);
    if (summed == Summed::a)
      add_tf32_tile<kM, kK, kAlongA>(tiles, operand_sum);
    else if (summed == Summed::b)
      add_tf32_tile<kN, kK, kAlongB>(tiles + kM * kK, operand_sum);
    return ++step < steps;
  };
  if constexpr (kUnrolled > 1) {
    unrolled<kStages - 1>([&](auto stage) { copy(stage, stage); });
  } else {
#pragma unroll 1
    for (int ahead = 0; ahead < kStages - 1; ahead++) copy(ahead, Constant<0>{});
  }
#pragma unroll 1
  while (unrolled_while<kUnrolled>(advance)) {
  }
  if (summed == Summed::a && threadIdx.x < kM && t.m + threadIdx.x < p.m)
    gemm_put_sum<float>(p, t, t.m + threadIdx.x, p.m, operand_sum);
  if (summed == Summed::b && threadIdx.x < kN && t.n + threadIdx.x < p.n)
    gemm_put_sum<float>(p, t, t.n + threadIdx.x, p.n, operand_sum);

  // The stages are no longer needed; their memory takes the sums.
  cp_async_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_shared);
#pragma unroll
  for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = warp_m + ReaderA::outer_of(2 * i + half, lane / 4);
#pragma unroll
      for (int j = 0; j < kColumnBlocks; j++)
#pragma unroll
        for (int e = 0; e < 2; e++)
          tile[staged<kN>(row, warp_n + ReaderB::outer_of(j, lane % 4 * 2 + e))] = sums[i][j].at[half * 2 + e];
    }
  __syncthreads();
  gemm_finish<float, kM, kN, kThreads>(p, t, summed, tile);
}

template <class Shape, bool kAlongA, bool kAlongB>
__device__ void gemm_tf32(const GemmParams& p) {
  using Stages = GemmTf32Stages<Shape, true>;
  gemm_turns<Shape>(p, [&](const GemmTile& t) {
    gemm_tf32_part<Shape, Stages, GemmLoader<float, Stages, Shape::kM, kAlongA>,
                   GemmLoader<float, Stages, Shape::kN, kAlongB>>(p, p.b, t);
  });
}

}  // namespace heed::cuda

#endif
