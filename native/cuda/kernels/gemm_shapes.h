// The tiles of the matrix product, for its kernels and for the host function that chooses among them (gemm.cu).
#pragma once

namespace heed::cuda {

// In products of f32, K is cut into parts of this size, whatever the number of rows (gemm.cu).
constexpr int kPartDepth = 256;

// A block computes kM × kN elements in steps of kK along K, and a warp kWarpM × kWarpN of them. kStages steps are in
// shared memory, and each has kStageElements elements.
template <int m, int n, int k, int warp_m, int warp_n, int stages>
struct GemmMmaShape {
  static constexpr int kM = m, kN = n, kK = k, kWarpM = warp_m, kWarpN = warp_n, kStages = stages;
  static constexpr int kThreads = m / warp_m * (n / warp_n) * 32;
  static constexpr int kStageElements = k * (m + n);
};

// The same for f32; a thread computes kThreadM × kThreadN elements, and kPad elements lie between the columns of a
// tile.
template <int m, int n, int k, int thread_m, int thread_n, int stages>
struct GemmF32Shape {
  static constexpr int kM = m, kN = n, kK = k, kThreadM = thread_m, kThreadN = thread_n, kStages = stages;
  static constexpr int kThreads = m / thread_m * (n / thread_n);
  static constexpr int kPad = 4, kStageElements = k * (m + n + 2 * kPad);
};

using MmaFew = GemmMmaShape<16, 32, 64, 16, 16, 6>;
using MmaSmall = GemmMmaShape<64, 64, 32, 32, 32, 4>;
using MmaLarge = GemmMmaShape<128, 128, 32, 64, 64, 4>;
using F32Few = GemmF32Shape<16, 64, 32, 4, 4, 3>;
using F32Small = GemmF32Shape<64, 64, 16, 8, 4, 3>;
using F32Large = GemmF32Shape<128, 128, 16, 8, 8, 3>;
using Tf32Small = GemmMmaShape<64, 64, 16, 32, 32, 4>;
using Tf32Large = GemmMmaShape<128, 128, 16, 64, 64, 4>;

}  // namespace heed::cuda
