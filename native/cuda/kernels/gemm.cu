// gemm: out[..., M, N] (+)= epilogue(a[..., M, K] · b[..., K, N]). Strides express every transpose and batch.
//
// bf16 and f16 are multiplied on tensor cores (gemm_mma.h). f32 is multiplied exactly (gemm_f32.h) or, if requested,
// rounded to tf32 (gemm_tf32.h). A b of another dtype than a is first converted to a's, into a workspace: f32 is
// rounded to 16 bits, and 16 bits are widened to f32. The epilogue (gemm_epilogue.h) is applied to the sums on their
// way to memory. One block computes one tile, or a part of its K. If b is the same for all matrices of a batch
// dimension, the dimension is first turned into more rows. The tiles are:
//
//   few        16 ×  32   few rows: decoding, bound by reading b once (f32: 16 × 64)
//   small      64 ×  64   products that would not fill the device with large tiles
//   large     128 × 128   half the traffic between shared memory and registers
//   unaligned  64 ×  64   16-bit operands that cannot be copied 16 bytes at a time, because they are not rows or
//                         columns without gaps, or do not begin at multiples of 16 bytes
//
// If a is contiguous along K, as activations are, a row of out has the same bits whatever rows are beside it. All tiles
// add the products of an element in the order of K: f32 one at a time, tensor cores 8 (tf32) or 16 of them by one
// instruction, whose result for a row depends on that row alone. bf16 and f16 are one such sum over all of K. f32 is
// cut into parts of kPartDepth, which are counted from the beginning of K and added in order: by blocks of their own if
// tiles are few, and else in turn by the block of the tile (gemm_parts.h).
//
// The gradient of a weight, in which a is transposed or out is added to, has the number of rows as its K. If there are
// fewer tiles than multiprocessors, this K is cut into enough parts to give each multiprocessor two blocks. A part has
// at least kPartDepth of K, because a shorter one would be all prologue and epilogue, and there are at most kMostSplits
// parts.
//
// Products by the transpose of a compressed weight (gemm_decoded.h) choose and cut in the same way.
//
// choose() takes the tile with the lowest estimated time: rounds of blocks · work of a block / speed of the tile. The
// speed is the share of its time that a tile of that size can spend on multiplying, relative to the large tile. It is
// an estimate from the tile's reads of shared memory per multiplication and, for few rows, from the latency of the
// instructions that wait for each other, not a measurement. The choice depends only on sizes, layout and device.
#include "cuda/kernels/gemm_decoded.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/checks/gemm.h"
#include "cuda/tf32.h"
#endif

namespace heed::cuda {

#if !HEED_DEVICE_CODE

namespace {

constexpr const char* kOp = "gemm";
constexpr int64_t kMostSplits = 64;
constexpr int64_t kMostSums = int64_t{32} << 20;  // of all parts of all tiles, if blocks of their own sum them

struct Tile {
  int64_t m, n, k;
  int64_t stage_elements;
  int stages;
  double speed;  // products per second, relative to the other tiles
};
template <class Shape>
constexpr Tile tile(double speed) {
  return {Shape::kM, Shape::kN, Shape::kK, Shape::kStageElements, Shape::kStages, speed};
}
// Indexed by GemmSize. tf32 has no tile for few rows.
constexpr Tile kMmaTiles[] = {tile<MmaFew>(0.15), tile<MmaSmall>(0.6), tile<MmaLarge>(1.0), tile<MmaSmall>(0.6)};
constexpr Tile kF32Tiles[] = {tile<F32Few>(0.4), tile<F32Small>(0.8), tile<F32Large>(1.0)};
constexpr Tile kTf32Tiles[] = {kF32Tiles[0], tile<Tf32Small>(0.6), tile<Tf32Large>(1.0)};

enum class Arithmetic { f32, tf32, mma };

// tf32 needs tiles that can be copied 16 bytes at a time. A single row always can, but the same row among others only
// if K allows it.
Arithmetic arithmetic_of(const GemmParams& p, DType dtype) {
  if (dtype != DType::f32) return Arithmetic::mma;
  const bool rounds = tf32() && p.a.width == 16 && p.b.width == 16 && (p.k % 4 == 0 || !p.a.along_depth);
  return rounds ? Arithmetic::tf32 : Arithmetic::f32;
}

const Tile& tile_of(Arithmetic arithmetic, GemmSize size) {
  const int i = static_cast<int>(size);
  return arithmetic == Arithmetic::mma ? kMmaTiles[i] : arithmetic == Arithmetic::tf32 ? kTf32Tiles[i] : kF32Tiles[i];
}

// ---- layout -------------------------------------------------------------------------------------------------------

GemmMatrix matrix(const TensorView* view) {
  GemmMatrix x = {};
  if (!view) return x;
  x.data = view->data;
  x.row = view->stride(-2);
  x.f32 = view->dtype == DType::f32;
  return x;
}

// Adds the batch dimensions. Those with one matrix are dropped, neighbours through which every operand steps evenly are
// merged, and what remains becomes rows if b is the same for all of it.
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

// Returns how many bytes can be copied at once along an operand's contiguous dimension.
int width_of(const GemmParams& p, const GemmOperand& x, int64_t element) {
  const int64_t step = x.along_depth ? x.outer : x.depth;
  for (const int64_t width : {16, 4})
    if (is_aligned(x.data, width) && step * element % width == 0 && multiples(p, x.batch, width / element))
      return static_cast<int>(width);
  return static_cast<int>(element);
}

// Finds the contiguous dimension, and how many bytes can be copied at once along it.
void classify(const GemmParams& p, GemmOperand& x, int64_t outer_size, int64_t element) {
  if (outer_size == 1) x.outer = 0;
  if (p.k == 1) x.depth = 0;
  const bool depth_contiguous = x.depth == 1, outer_contiguous = x.outer == 1 || outer_size == 1;
  x.along_depth = depth_contiguous || !outer_contiguous;
  x.width = static_cast<int>(element);
  if (depth_contiguous || outer_contiguous || p.k <= 1) x.width = width_of(p, x, element);
}

bool rows_in_fours(const GemmParams& p, const GemmMatrix& x, int64_t element) {
  return !x.data || (is_aligned(x.data, 4 * (x.f32 ? 4 : element)) && x.row % 4 == 0 && multiples(p, x.batch, 4));
}

// ---- which kernel -------------------------------------------------------------------------------------------------

struct Choice {
  GemmSize size;
  int64_t tiles_m, tiles_n, splits, turns, depth;
  double time;
};

// How K is cut: never, into parts of kPartDepth, or by the number of tiles.
enum class Cut { never, in_parts, freely };

Choice cut(const GemmParams& p, Cut kind, GemmSize size, const Tile& tile, int64_t multiprocessors) {
  Choice c = {size, ceil_div(p.m, tile.m), ceil_div(p.n, tile.n), 1, 1, std::max(p.k, tile.k), 0};
  const int64_t blocks = p.batch * c.tiles_m * c.tiles_n;
  const bool few = blocks < std::min(multiprocessors, Stream::kArrivals);
  if (kind == Cut::in_parts && p.k > kPartDepth) {
    c.depth = kPartDepth;
    c.splits = ceil_div(p.k, kPartDepth);
    c.turns = few && blocks * c.splits * tile.m * tile.n <= kMostSums ? 1 : c.splits;
  } else if (kind == Cut::freely && few) {
    const int64_t splits = std::min({2 * multiprocessors / blocks, p.k / kPartDepth, kMostSplits});
    if (splits > 1) {
      c.depth = ceil_div(ceil_div(p.k, splits), tile.k) * tile.k;
      c.splits = ceil_div(p.k, c.depth);
    }
  }
  const int64_t rounds = ceil_div(blocks * c.splits / c.turns, multiprocessors);
  c.time = static_cast<double>(rounds * tile.m * tile.n * c.depth * c.turns) / tile.speed;
  return c;
}

Choice choose(const GemmParams& p, Arithmetic arithmetic, Cut kind, int64_t multiprocessors) {
  const auto with = [&](GemmSize size) { return cut(p, kind, size, tile_of(arithmetic, size), multiprocessors); };
  if (arithmetic == Arithmetic::mma && (p.a.width != 16 || p.b.width != 16)) return with(GemmSize::unaligned);
  const bool has_few = arithmetic != Arithmetic::tf32;
  if (has_few && p.m <= tile_of(arithmetic, GemmSize::few).m) return with(GemmSize::few);
  Choice best = with(GemmSize::large);
  if (const Choice small = with(GemmSize::small); small.time < best.time) best = small;
  if (has_few && kind != Cut::freely)
    if (const Choice few = with(GemmSize::few); few.time < best.time) best = few;
  return best;
}

Kernel<GemmParams>& kernel(const GemmParams& p, Arithmetic arithmetic, DType dtype, GemmSize size) {
  if (arithmetic == Arithmetic::tf32) return gemm_kernel_tf32(p, size);
  if (arithmetic == Arithmetic::f32) return gemm_kernel_f32(size);
  return dtype == DType::bf16 ? gemm_kernel_bf16(p, size) : gemm_kernel_f16(p, size);
}

size_t shared_bytes(const Tile& tile, int64_t element) {
  const int64_t stages = tile.stages * tile.stage_elements * element;
  return static_cast<size_t>(std::max(stages, tile.m * tile.n * int64_t{sizeof(float)}));
}

// Chooses a kernel's tile and the parts of K, and launches kernel_of(arithmetic, size) with `params`, of which p is all
// or a part.
template <class Params, class KernelOf>
void launch(Stream& stream, const char* op, DType dtype, Params& params, GemmParams& p, const KernelOf& kernel_of) {
  const Arithmetic arithmetic = arithmetic_of(p, dtype);
  const bool gradient = !p.a.along_depth || p.accumulate || p.sum.data;
  const Cut kind = gradient ? Cut::freely : arithmetic == Arithmetic::mma ? Cut::never : Cut::in_parts;
  const Choice c = choose(p, arithmetic, kind, stream.multiprocessors());
  p.tiles_m = static_cast<unsigned>(c.tiles_m);
  p.tiles_n = static_cast<unsigned>(c.tiles_n);
  p.splits = static_cast<int>(c.splits);
  p.turns = static_cast<int>(c.turns);
  p.split_depth = c.depth;
  const Tile& tile = tile_of(arithmetic, c.size);
  const int64_t count = p.batch * c.tiles_m * c.tiles_n, sums = p.splits > p.turns ? count * tile.m * tile.n : 0;
  const int64_t operand_sums = p.splits > 1 && p.sum.data ? (p.sum.of_a ? p.m : p.n) : 0;
  const Stream::Workspace partial(stream, op, static_cast<size_t>((sums + operand_sums) * p.splits) * sizeof(float));
  p.partial = partial.f32();
  p.partial_sum = p.partial + sums * p.splits;
  if (p.splits > p.turns) p.arrivals = stream.arrivals(op, count);
  const Grid grid = tall_grid(c.tiles_m * c.tiles_n * (c.splits / c.turns), p.batch);
  const auto element = static_cast<int64_t>(size_of(dtype));
  stream.launch(op, kernel_of(arithmetic, c.size), grid, params, shared_bytes(tile, element));
}

// Returns a view of b's shape in another dtype and without gaps, contiguous in the same dimension as b.
TensorView dense(In b, DType dtype, void* data) {
  TensorView view = b;
  view.dtype = dtype;
  view.data = data;
  const int last = b.rank - 1, inner = b.stride(-2) == 1 ? last - 1 : last;
  int64_t stride = 1;
  const auto next = [&](int d) {
    view.strides[d] = stride;
    stride *= view.shape[d];
  };
  next(inner);
  next(inner == last ? last - 1 : last);
  for (int d = last - 2; d >= 0; d--) next(d);
  return view;
}

// Launches a product by the transpose of the weight in `params`: out[M, K] (+)= a[M, N] · Ŵᵀ.
template <class Params, class KernelOf>
void launch_decoded(Stream& stream, const char* op, Out out, In a, bool accumulate, Params& params,
                    const KernelOf& kernel_of) {
  GemmParams& p = params.product;
  const auto element = static_cast<int64_t>(size_of(a.dtype));
  p.m = out.dim(0);
  p.n = out.dim(1);
  p.k = a.dim(1);
  p.batch = 1;
  p.a = {a.data, p.m == 1 ? 0 : p.k, 1, {}, 0, true};
  p.a.width = width_of(p, p.a, element);
  p.b.width = 16;  // tiles are decoded whatever the sizes
  p.out = matrix(&out);
  p.accumulate = accumulate;
  p.plain = !accumulate;
  p.vectors = p.n % 4 == 0 && rows_in_fours(p, p.out, element);
  launch(stream, op, a.dtype, params, p, kernel_of);
}

void multiply(Stream& stream, Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact,
              OptIn dact_preact, Int activation, Bool sum_of_a, Bool accumulate, Bool accumulate_sum) {
  if (out.empty()) return;
  if (b.dtype != a.dtype) {
    const Stream::Workspace memory(stream, kOp, static_cast<size_t>(b.numel()) * size_of(a.dtype));
    const TensorView converted = dense(b, a.dtype, memory.as<void>());
    host::copy(stream, converted, b, false);
    return multiply(stream, out, sum, a, converted, bias, residual, preact, dact_preact, activation, sum_of_a,
                    accumulate, accumulate_sum);
  }

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
  p.vectors = p.n % 4 == 0 && is_aligned(p.bias, p.bias_f32 ? 16 : 4 * element);
  for (const GemmMatrix* x : {&p.out, &p.residual, &p.preact, &p.dact})
    p.vectors = p.vectors && rows_in_fours(p, *x, element);

  launch(stream, kOp, a.dtype, p, p,
         [&](Arithmetic arithmetic, GemmSize size) -> auto& { return kernel(p, arithmetic, a.dtype, size); });
}

}  // namespace

void multiply_decoded(Stream& stream, const char* op, Out out, In a, const QuantizedWeight& weight, Int bits,
                      bool accumulate) {
  DecodedCodesParams params = {{}, weight};
  launch_decoded(stream, op, out, a, accumulate, params, [&](Arithmetic arithmetic, GemmSize size) -> auto& {
    if (arithmetic == Arithmetic::tf32) return decoded_codes_kernel_tf32(bits, size);
    if (arithmetic == Arithmetic::f32) return decoded_codes_kernel_f32(bits, size);
    return a.dtype == DType::bf16 ? decoded_codes_kernel_bf16(bits, size) : decoded_codes_kernel_f16(bits, size);
  });
}

void multiply_decoded(Stream& stream, const char* op, Out out, In a, const BlockWeight& weight, bool accumulate) {
  DecodedBlocksParams params = {{}, weight};
  launch_decoded(stream, op, out, a, accumulate, params, [&](Arithmetic arithmetic, GemmSize size) -> auto& {
    if (arithmetic == Arithmetic::tf32) return decoded_blocks_kernel_tf32(size);
    if (arithmetic == Arithmetic::f32) return decoded_blocks_kernel_f32(size);
    return a.dtype == DType::bf16 ? decoded_blocks_kernel_bf16(size) : decoded_blocks_kernel_f16(size);
  });
}

void host::gemm(Stream& stream, Out out, OptOut sum, In a, In b, OptIn bias, OptIn residual, OptOut preact,
                OptIn dact_preact, Int activation, Bool sum_of_a, Bool accumulate, Bool accumulate_sum,
                Bool transpose_a, Bool transpose_b) {
  const GemmOperands of(out, a, b, residual, preact, dact_preact, transpose_a, transpose_b);
  check_gemm(of, sum, bias, activation, sum_of_a);
  multiply(stream, *of.out, sum, *of.a, *of.b, bias, of.residual, of.preact, of.dact_preact, activation, sum_of_a,
           accumulate, accumulate_sum);
}

#endif

}  // namespace heed::cuda
