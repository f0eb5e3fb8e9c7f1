// gemm: out[..., M, N] (+)= epilogue(a[..., M, K] · b[..., K, N]), every transpose and batch by strides.
//
// bf16 and f16 are multiplied on tensor cores (gemm_mma.h), f32 exactly (gemm_f32.h); the epilogue (gemm_epilogue.h) is
// applied to the sums on their way to memory. One block computes one tile. Batch dimensions that are rows in disguise
// (b is the same for all of them) become rows first. Which tile:
//
//   few     16 ×  64   up to 16 rows: decoding, bound by reading b once
//   small   64 ×  64   products that would not fill the device with large tiles, and operands that cannot be copied
//                      16 bytes at a time
//   large  128 × 128   half the traffic between shared memory and registers
//
// and whether K is split is decided by choose(): as many parts as give every multiprocessor two blocks, of at least
// kLeastDepth each; between small and large the lesser of the estimated times. The choice depends on sizes, layout and
// device alone and sums over parts are added in order, so the same call gives the same bits.
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_f32.h"
#include "cuda/kernels/gemm_mma.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/checks/gemm.h"
#endif

namespace heed::cuda {

#if HEED_DEVICE_CODE

using MmaFew = GemmMmaShape<16, 64, 64, 16, 16, 4>;
using MmaSmall = GemmMmaShape<64, 64, 32, 32, 32, 4>;
using MmaLarge = GemmMmaShape<128, 128, 32, 64, 64, 4>;
using F32Few = GemmF32Shape<16, 64, 32, 4, 4, 3>;
using F32Small = GemmF32Shape<64, 64, 16, 8, 4, 3>;
using F32Large = GemmF32Shape<128, 128, 16, 8, 8, 3>;

#endif

// In the names: which of a and b is contiguous along K (k) or across it (o).
#define HEED_GEMM_LAYOUTS(name, threads, blocks, T, shape, aligned)                             \
  HEED_KERNEL(name##_kk, GemmParams, threads, blocks, gemm_mma<T, shape, true, true, aligned>)  \
  HEED_KERNEL(name##_ko, GemmParams, threads, blocks, gemm_mma<T, shape, true, false, aligned>) \
  HEED_KERNEL(name##_ok, GemmParams, threads, blocks, gemm_mma<T, shape, false, true, aligned>) \
  HEED_KERNEL(name##_oo, GemmParams, threads, blocks, gemm_mma<T, shape, false, false, aligned>)
#define HEED_GEMM_MMA(T)                                              \
  HEED_GEMM_LAYOUTS(gemm_##T##_few, 128, 4, T, MmaFew, true)          \
  HEED_GEMM_LAYOUTS(gemm_##T##_small, 128, 4, T, MmaSmall, true)      \
  HEED_GEMM_LAYOUTS(gemm_##T##_unaligned, 128, 2, T, MmaSmall, false) \
  HEED_GEMM_LAYOUTS(gemm_##T##_large, 128, 2, T, MmaLarge, true)

HEED_GEMM_MMA(bf16)
HEED_GEMM_MMA(f16)
HEED_KERNEL(gemm_f32_few, GemmParams, 64, 4, gemm_f32<F32Few>)
HEED_KERNEL(gemm_f32_small, GemmParams, 128, 4, gemm_f32<F32Small>)
HEED_KERNEL(gemm_f32_large, GemmParams, 256, 2, gemm_f32<F32Large>)

#if !HEED_DEVICE_CODE

namespace {

constexpr const char* kOp = "gemm";
constexpr int64_t kLeastDepth = 256;  // of K in a part
constexpr int64_t kMostSplits = 64;
constexpr int64_t kMostBlocks = 65535;  // of a grid's second dimension

struct Tile {
  int64_t m, n, k;
  int stages, pad;  // elements between the columns of a tile in shared memory, for f32
  double speed;     // products a second, in relation to the others
};
constexpr Tile kMmaTiles[] = {{16, 64, 64, 4, 0, 0.2}, {64, 64, 32, 4, 0, 0.6}, {128, 128, 32, 4, 0, 1.0}};
constexpr Tile kF32Tiles[] = {{16, 64, 32, 3, 4, 0.4}, {64, 64, 16, 3, 4, 0.8}, {128, 128, 16, 3, 4, 1.0}};
enum Size { few, small, large };

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---- layout -------------------------------------------------------------------------------------------------------

GemmMatrix matrix(const TensorView* view) {
  GemmMatrix x = {};
  if (!view) return x;
  x.data = view->data;
  x.row = view->stride(-2);
  x.f32 = view->dtype == DType::f32;
  return x;
}

// Takes the batch dimensions in: those of one matrix are dropped, neighbours that every operand steps through evenly
// become one, and what remains becomes rows if b is the same for all of it.
void take_batch(GemmParams& p, Out out, In a, In b, OptIn residual, OptOut preact, OptIn dact) {
  const TensorView* const views[] = {&out, &a, &b, residual, preact, dact};
  int64_t* const strides[] = {p.out.batch, p.a.batch, p.b.batch, p.residual.batch, p.preact.batch, p.dact.batch};
  constexpr int kCount = 6;
  p.batch = 1;
  int rank = 0;
  for (int d = 0; d < out.rank - 2; d++) {
    if (out.shape[d] == 1) continue;
    bool even = rank > 0;
    for (int i = 0; i < kCount && even; i++)
      even = !views[i] || strides[i][rank - 1] == out.shape[d] * views[i]->strides[d];
    const int at = even ? rank - 1 : rank++;
    p.batch_shape[at] = even ? p.batch_shape[at] * out.shape[d] : out.shape[d];
    p.batch *= out.shape[d];
    for (int i = 0; i < kCount; i++) strides[i][at] = views[i] ? views[i]->strides[d] : 0;
  }
  p.batch_rank = rank;

  bool rows = rank == 1 && p.b.batch[0] == 0;
  int64_t* const row_strides[] = {&p.out.row, &p.a.outer, nullptr, &p.residual.row, &p.preact.row, &p.dact.row};
  for (int i = 0; i < kCount && rows; i++)
    rows = !views[i] || !row_strides[i] || p.m == 1 || strides[i][0] == p.m * *row_strides[i];
  if (!rows) return;
  for (int i = 0; i < kCount; i++) {
    if (row_strides[i] && p.m == 1) *row_strides[i] = strides[i][0];
    strides[i][0] = 0;
  }
  p.m *= p.batch;
  p.batch = 1;
  p.batch_rank = 0;
}

bool multiples(const GemmParams& p, const int64_t (&batch)[kGemmBatchRank], int64_t of) {
  for (int d = 0; d < p.batch_rank; d++)
    if (batch[d] % of != 0) return false;
  return true;
}

bool aligned(const void* data, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0;
}

// Finds the contiguous dimension, and how many bytes can be copied at once along it.
void classify(const GemmParams& p, GemmOperand& x, int64_t outer_size, int64_t element) {
  if (outer_size == 1) x.outer = 0;
  if (p.k == 1) x.depth = 0;
  const bool depth_contiguous = x.depth == 1, outer_contiguous = x.outer == 1 || outer_size == 1;
  x.along_depth = depth_contiguous || !outer_contiguous;
  x.width = static_cast<int>(element);
  if (!depth_contiguous && !outer_contiguous && p.k > 1) return;
  const int64_t step = x.along_depth ? x.outer : x.depth;
  for (const int64_t width : {16, 4})
    if (aligned(x.data, width) && step * element % width == 0 && multiples(p, x.batch, width / element))
      return void(x.width = static_cast<int>(width));
}

bool in_vectors(const GemmParams& p, const GemmMatrix& x, int64_t element) {
  return !x.data || (aligned(x.data, 4 * (x.f32 ? 4 : element)) && x.row % 4 == 0 && multiples(p, x.batch, 4));
}

// ---- which kernel -------------------------------------------------------------------------------------------------

struct Choice {
  Size size;
  int64_t tiles_m, tiles_n, splits, depth;
  double time;
};

Choice cut(const GemmParams& p, Size size, const Tile& tile, int64_t multiprocessors) {
  Choice c = {size, ceil_div(p.m, tile.m), ceil_div(p.n, tile.n), 1, std::max(p.k, tile.k), 0};
  const int64_t blocks = p.batch * c.tiles_m * c.tiles_n;
  const int64_t splits = blocks < std::min(multiprocessors, Stream::kArrivals)
                             ? std::min({2 * multiprocessors / blocks, p.k / kLeastDepth, kMostSplits})
                             : 1;
  if (splits > 1) {
    c.depth = ceil_div(ceil_div(p.k, splits), tile.k) * tile.k;
    c.splits = ceil_div(p.k, c.depth);
  }
  const int64_t rounds = ceil_div(blocks * c.splits, multiprocessors);
  c.time = static_cast<double>(rounds * tile.m * tile.n * c.depth) / tile.speed;
  return c;
}

Choice choose(const GemmParams& p, const Tile (&tiles)[3], bool unaligned, int64_t multiprocessors) {
  if (unaligned) return cut(p, small, tiles[small], multiprocessors);
  if (p.m <= tiles[few].m) return cut(p, few, tiles[few], multiprocessors);
  const Choice a = cut(p, small, tiles[small], multiprocessors), b = cut(p, large, tiles[large], multiprocessors);
  return b.time <= a.time ? b : a;
}

Kernel<GemmParams>& layout(const GemmParams& p, Kernel<GemmParams>& kk, Kernel<GemmParams>& ko, Kernel<GemmParams>& ok,
                           Kernel<GemmParams>& oo) {
  return p.a.along_depth ? (p.b.along_depth ? kk : ko) : (p.b.along_depth ? ok : oo);
}
#define HEED_GEMM_CHOOSE(name) layout(p, name##_kk, name##_ko, name##_ok, name##_oo)

Kernel<GemmParams>& kernel(const GemmParams& p, DType dtype, Size size, bool unaligned) {
  if (dtype == DType::f32) return size == few ? gemm_f32_few : size == small ? gemm_f32_small : gemm_f32_large;
  if (dtype == DType::bf16) {
    if (unaligned) return HEED_GEMM_CHOOSE(gemm_bf16_unaligned);
    if (size == few) return HEED_GEMM_CHOOSE(gemm_bf16_few);
    return size == small ? HEED_GEMM_CHOOSE(gemm_bf16_small) : HEED_GEMM_CHOOSE(gemm_bf16_large);
  }
  if (unaligned) return HEED_GEMM_CHOOSE(gemm_f16_unaligned);
  if (size == few) return HEED_GEMM_CHOOSE(gemm_f16_few);
  return size == small ? HEED_GEMM_CHOOSE(gemm_f16_small) : HEED_GEMM_CHOOSE(gemm_f16_large);
}

size_t shared_bytes(const Tile& tile, int64_t element) {
  const int64_t stages = tile.stages * tile.k * (tile.m + tile.n + 2 * tile.pad) * element;
  return static_cast<size_t>(std::max(stages, tile.m * tile.n * int64_t{sizeof(float)}));
}

}  // namespace

void gemm(Stream& stream, Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact, OptIn dact_preact,
          Int activation, Bool sum_of_a, Bool accumulate, Bool accumulate_sum) {
  check_gemm(out, sum, a, b, bias, residual, preact, dact_preact, activation, sum_of_a);
  if (out.empty()) return;

  const auto element = static_cast<int64_t>(size_of(a.dtype));
  GemmParams p = {};
  p.m = out.dim(-2);
  p.n = out.dim(-1);
  p.k = a.dim(-1);
  p.a = {a.data, a.stride(-2), a.stride(-1), {}, 0, false};
  p.b = {b.data, b.stride(-1), b.stride(-2), {}, 0, false};
  p.out = matrix(&out);
  p.residual = matrix(residual);
  p.preact = matrix(preact);
  p.dact = matrix(dact_preact);
  if (bias) {
    p.bias = bias->data;
    p.bias_f32 = bias->dtype == DType::f32;
  }
  p.activation = static_cast<Activation>(activation);
  p.accumulate = accumulate;
  p.plain = !bias && !residual && !preact && !dact_preact && !activation && !accumulate;
  if (sum) p.sum = {sum->data, sum->dtype == DType::f32, accumulate_sum, sum_of_a};
  take_batch(p, out, a, b, residual, preact, dact_preact);
  classify(p, p.a, p.m, element);
  classify(p, p.b, p.n, element);
  p.vectors = p.n % 4 == 0 && aligned(p.bias, p.bias_f32 ? 16 : 4 * element);
  for (const GemmMatrix* x : {&p.out, &p.residual, &p.preact, &p.dact})
    p.vectors = p.vectors && in_vectors(p, *x, element);

  const Tile(&tiles)[3] = a.dtype == DType::f32 ? kF32Tiles : kMmaTiles;
  const bool unaligned = a.dtype != DType::f32 && (p.a.width != 16 || p.b.width != 16);
  const Choice c = choose(p, tiles, unaligned, stream.multiprocessors());
  p.tiles_m = static_cast<unsigned>(c.tiles_m);
  p.tiles_n = static_cast<unsigned>(c.tiles_n);
  p.splits = static_cast<int>(c.splits);
  p.split_depth = c.depth;
  const Tile& tile = tiles[c.size];
  const int64_t count = p.batch * c.tiles_m * c.tiles_n, sums = p.splits > 1 ? count * tile.m * tile.n : 0;
  const int64_t operand_sums = p.splits > 1 && sum ? (sum_of_a ? p.m : p.n) : 0;
  const Stream::Workspace partial(stream, kOp, static_cast<size_t>((sums + operand_sums) * p.splits) * sizeof(float));
  p.partial = partial.f32();
  p.partial_sum = p.partial + sums * p.splits;
  if (p.splits > 1) p.arrivals = stream.arrivals(kOp, count);
  const int64_t batches = std::min(p.batch, kMostBlocks);
  const Grid grid{c.tiles_m * c.tiles_n * c.splits, batches, ceil_div(p.batch, batches)};
  stream.launch(kOp, kernel(p, a.dtype, c.size, unaligned), grid, p, shared_bytes(tile, element));
}

#endif

}  // namespace heed::cuda
