// gemm_quantized: out[M, N] = activation(a[M, K] · Ŵ + bias) + residual, with Ŵ in 8 or 4 bits (core/quantized.h).
//
// A few rows (decoding) read the codes and multiply with weights that are rounded to a's dtype, in the order of
// gemm.cu, so that a row has the same bits among few rows and among many. For more rows, strips of columns are rounded
// to a's dtype, and gemm does the rest.
//
// bf16 and f16, up to 16 rows: a block computes four panels of 16 columns, a warp each, on tensor cores. Rows, codes
// and scales are copied to shared memory kStages - 1 steps of kDepth ahead.
//
// f32, up to 8 rows: a block computes a panel and up to 4 rows. A thread sums one column over a part of K
// (kPartDepth), and the parts are added in order.
//
// gemm_quantized_backward: dinp[M, K] (+)= dout[M, N] · Ŵᵀ, for any number of rows (gemm_decoded.h).
#include "cuda/kernels/activation.h"
#include "cuda/kernels/gemm_decoded.h"
#include "cuda/kernels/mma.h"
#include "cuda/kernels/quantized.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/checks/quantized.h"
#endif

namespace heed::cuda {

struct GemmQuantizedParams {
  QuantizedWeight weight;
  const void *a, *bias, *residual;  // the last two may be null
  void *out, *preact;               // the last may be null
  bool out_f32, bias_f32, residual_f32;
  bool vectors;  // true if rows of a can be read four elements of f32 at a time, or eight of 16 bits
  Activation activation;
  int64_t M;
};

constexpr int kQuantizedThreads = 128, kQuantizedRows = 4, kQuantizedMmaRows = 16;

// What a step along K of the kernel for tensor cores has in shared memory: rows, and the codes and scales of a panel.
template <int bits>
struct QuantizedStep {
  static constexpr int kDepth = 128, kPanels = kQuantizedThreads / 32, kStages = bits == 8 ? 4 : 6;
  static constexpr int kPitch = kDepth + 8;  // elements: the rows of a fragment lie in different banks
  static constexpr int kRowBytes = kQuantizedMmaRows * kPitch * 2;
  static constexpr int kWords = kDepth * bits / 32, kCodeBytes = kWords * kPanelBytes;
  static constexpr int kLeastGroup = 32, kScaleBytes = kDepth / kLeastGroup * kPanelColumns * 2;
  static constexpr int kPanelPart = kCodeBytes + kScaleBytes, kBytes = kRowBytes + kPanels * kPanelPart;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ __forceinline__ float load_one(const void* from, bool f32, int64_t i) {
  return f32 ? static_cast<const float*>(from)[i] : to_float(static_cast<const T*>(from)[i]);
}

template <class T>
__device__ __forceinline__ void finish_quantized(const GemmQuantizedParams& p, int64_t row, int64_t n, float sum) {
  if (row >= p.M || n >= p.weight.N) return;
  const int64_t at = row * p.weight.N + n;
  if (p.bias) sum += load_one<T>(p.bias, p.bias_f32, n);
  if (p.preact) static_cast<T*>(p.preact)[at] = from_float<T>(sum);
  with_activation(p.activation, [&](auto value, auto) { sum = value(sum); });
  if (p.residual) sum += load_one<T>(p.residual, p.residual_f32, at);
  if (p.out_f32)
    static_cast<float*>(p.out)[at] = sum;
  else
    static_cast<T*>(p.out)[at] = from_float<T>(sum);
}

extern __shared__ __align__(128) unsigned char quantized_shared[];

template <class T, int bits>
__device__ __forceinline__ void gemm_quantized_mma(const GemmQuantizedParams& p) {
  using C = QuantizedCodes<bits>;
  using Step = QuantizedStep<bits>;
  const QuantizedWeight& w = p.weight;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int64_t panel = static_cast<int64_t>(blockIdx.x) * Step::kPanels + warp, words = w.groups * w.words_of_group;
  const uint8_t* const codes = w.codes + panel * words * kPanelBytes;
  const uint16_t* const scales = w.scales + panel * w.groups * kPanelColumns;
  const auto rows_of = [](int stage) { return reinterpret_cast<T*>(quantized_shared + stage * Step::kBytes); };
  const auto panel_of = [&](int stage) {
    return quantized_shared + stage * Step::kBytes + Step::kRowBytes + warp * Step::kPanelPart;
  };
  const int steps = static_cast<int>((w.K + Step::kDepth - 1) / Step::kDepth);

  const auto copy_rows = [&](T* to, int64_t k) {
    for (int i = threadIdx.x; i < kQuantizedMmaRows * Step::kDepth / 8; i += kQuantizedThreads) {
      const int row = i / (Step::kDepth / 8), column = i % (Step::kDepth / 8) * 8;
      const T* const from = static_cast<const T*>(p.a) + row * w.K + k + column;
      const int count = row < p.M ? static_cast<int>(max(int64_t{0}, min(int64_t{8}, w.K - k - column))) : 0;
      T* const part = to + row * Step::kPitch + column;
      if (p.vectors)
        cp_async<16>(part, from, count * static_cast<int>(sizeof(T)));
      else
        for (int e = 0; e < 8; e++) part[e] = e < count ? from[e] : from_float<T>(0);
    }
  };
  // Codes and scales beyond the last are zeros.
  const auto copy_panel = [&](unsigned char* to, int64_t k) {
    const int64_t word = k / C::kPerWord;
#pragma unroll
    for (int i = 0; i < Step::kCodeBytes / 512; i++) {
      const int at = i * 32 + lane;
      const bool here = panel < w.panels && word + at / 4 < words;
      cp_async<16>(to + at * 16, codes + word * kPanelBytes + at * 16, here ? 16 : 0);
    }
    if (lane >= Step::kScaleBytes / 16) return;
    const int64_t group = (k + lane / 2 * Step::kLeastGroup) / w.group;
    cp_async<16>(to + Step::kCodeBytes + lane * 16, scales + group * kPanelColumns + lane % 2 * 8,
                 panel < w.panels && group < w.groups ? 16 : 0);
  };
  const auto copy = [&](int step) {
    if (step < steps) {
      const int stage = step % Step::kStages;
      copy_rows(rows_of(stage), static_cast<int64_t>(step) * Step::kDepth);
      copy_panel(panel_of(stage), static_cast<int64_t>(step) * Step::kDepth);
    }
    cp_async_commit();
  };

  float sums[2][4] = {};
  // The codes of values 2t and 2t + 1 of a fragment's column lie in a word's bytes from here on.
  const int shift = 16 * (t % 2) + (bits == 4 ? 4 * (t / 2) : 0);
#pragma unroll 1
  for (int step = 0; step < Step::kStages - 1; step++) copy(step);
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    cp_async_wait<Step::kStages - 2>();
    __syncthreads();  // the step has arrived, and the stage of the last one is no longer read
    copy(step + Step::kStages - 1);
    const T* const rows = rows_of(step % Step::kStages) + g * Step::kPitch + 2 * t;
    const unsigned char* const part = panel_of(step % Step::kStages);
    const uint32_t* const column = reinterpret_cast<const uint32_t*>(part) + g;
    const uint16_t* const steps_of = reinterpret_cast<const uint16_t*>(part + Step::kCodeBytes) + g;
#pragma unroll
    for (int k = 0; k < Step::kDepth; k += 16) {
      const auto pair = [&](int row, int at) {
        return *reinterpret_cast<const uint32_t*>(rows + row * Step::kPitch + k + at);
      };
      const uint32_t a[4] = {pair(0, 0), pair(8, 0), pair(0, 8), pair(8, 8)};
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float scale = scale_of(steps_of[k / Step::kLeastGroup * kPanelColumns + half * 8]);
        uint32_t b[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int word = bits == 8 ? k / 4 + 2 * i + t / 2 : k / 8 + i;
          const uint32_t read = column[word * kPanelColumns + half * 8] >> shift;
          b[i] = pack<T>(C::weight(read, 0) * scale, C::weight(read, 1) * scale);
        }
        mma_16x8x16<T>(sums[half], a, b);
      }
    }
  }
  cp_async_wait<0>();
#pragma unroll
  for (int half = 0; half < 2; half++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      finish_quantized<T>(p, g + e / 2 * 8, panel * kPanelColumns + half * 8 + 2 * t + e % 2, sums[half][e]);
}

template <int bits, int R>
__device__ __forceinline__ void gemm_quantized_parts(const GemmQuantizedParams& p) {
  using C = QuantizedCodes<bits>;
  constexpr int kWords = kPartDepth / C::kPerWord, kParts = kQuantizedThreads / kPanelColumns;
  const QuantizedWeight& w = p.weight;
  const int column = threadIdx.x % kPanelColumns, thread_part = threadIdx.x / kPanelColumns;
  const int64_t panel = blockIdx.x, row = static_cast<int64_t>(blockIdx.y) * R;
  const int64_t words = w.groups * w.words_of_group, parts = (w.K + kPartDepth - 1) / kPartDepth;
  const uint32_t* const codes = reinterpret_cast<const uint32_t*>(w.codes) + panel * words * kPanelColumns + column;
  const uint16_t* const scales = w.scales + panel * w.groups * kPanelColumns + column;

  __shared__ float sums[kParts][R][kPanelColumns];
  float total = 0;  // of this thread's row and column, if it has one
#pragma unroll 1
  for (int64_t first = 0; first < parts; first += kParts) {
    const int64_t begin = (first + thread_part) * kWords, end = min(words, begin + kWords);
    float sum[R] = {};
#pragma unroll 2
    for (int64_t word = begin; word < end; word++) {
      const uint32_t read = codes[word * kPanelColumns];
      const float scale = scale_of(scales[word / w.words_of_group * kPanelColumns]);
      const int64_t k = word * C::kPerWord;
      float x[R][C::kPerWord];
#pragma unroll
      for (int r = 0; r < R; r++) {
        const float* const from = static_cast<const float*>(p.a) + (row + r) * w.K + k;
        const bool here = row + r < p.M;
#pragma unroll
        for (int four = 0; four < C::kPerWord; four += 4) {
          if (p.vectors && here && k + four < w.K) {
            const auto v = Vector<float, 4>::load(from + four);
#pragma unroll
            for (int j = 0; j < 4; j++) x[r][four + j] = v.at[j];
          } else {
#pragma unroll
            for (int j = four; j < four + 4; j++) x[r][j] = !p.vectors && here && k + j < w.K ? from[j] : 0;
          }
        }
      }
#pragma unroll
      for (int j = 0; j < C::kPerWord; j++) {
        const float weight = C::weight(read, j) * scale;
#pragma unroll
        for (int r = 0; r < R; r++) sum[r] = fmaf(x[r][j], weight, sum[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < R; r++) sums[thread_part][r][column] = sum[r];
    __syncthreads();
    if (threadIdx.x < R * kPanelColumns)
      for (int i = 0; i < kParts && first + i < parts; i++) {
        const float more = sums[i][thread_part][column];
        total = first + i == 0 ? more : total + more;
      }
    __syncthreads();
  }
  if (threadIdx.x < R * kPanelColumns)
    finish_quantized<float>(p, row + thread_part, panel * kPanelColumns + column, total);
}

#endif

#define KERNELS(bits)                                                                                                  \
  HEED_KERNEL(gemm_quantized_##bits##_bf16, GemmQuantizedParams, kQuantizedThreads, 2, gemm_quantized_mma<bf16, bits>) \
  HEED_KERNEL(gemm_quantized_##bits##_f16, GemmQuantizedParams, kQuantizedThreads, 2, gemm_quantized_mma<f16, bits>)   \
  HEED_KERNEL(gemm_quantized_##bits##_f32, GemmQuantizedParams, kQuantizedThreads, 4,                                  \
              gemm_quantized_parts<bits, kQuantizedRows>)                                                              \
  HEED_KERNEL(gemm_quantized_row_##bits##_f32, GemmQuantizedParams, kQuantizedThreads, 8, gemm_quantized_parts<bits, 1>)
KERNELS(8)
KERNELS(4)

#if !HEED_DEVICE_CODE

namespace {

constexpr const char* kOp = "gemm_quantized";
constexpr int64_t kFewRows = 8;                     // of f32
constexpr int64_t kStripBytes = int64_t{32} << 20;  // bytes of a strip's columns as floats

// Returns columns [first, first + count) of a row or of rows of N elements.
TensorView cut(const TensorView& x, int64_t first, int64_t count) {
  TensorView view = x;
  view.shape[view.rank - 1] = count;
  view.data = x.ptr<uint8_t>() + first * static_cast<int64_t>(size_of(x.dtype));
  return view;
}

// Returns whole panels of a weight.
TensorView panels_of(const TensorView& x, int64_t first, int64_t count) {
  TensorView view = x;
  view.shape[0] = count;
  view.data = x.ptr<uint8_t>() + first * x.strides[0] * static_cast<int64_t>(size_of(x.dtype));
  return view;
}

void multiply_many(Stream& stream, const QuantizedLayout& weight, Out out, In a, In codes, In scales, OptIn bias,
                   OptIn residual, OptOut preact, Int activation) {
  const int64_t K = weight.K, N = weight.N, bytes = std::max<int64_t>(K, 1) * static_cast<int64_t>(size_of(a.dtype));
  const int64_t strip = std::min(weight.panels(), std::max<int64_t>(1, kStripBytes / (bytes * kPanelColumns)));
  const Stream::Workspace memory(stream, kOp, static_cast<size_t>(strip * kPanelColumns * bytes));
  for (int64_t panel = 0; panel < weight.panels(); panel += strip) {
    const int64_t panels = std::min(strip, weight.panels() - panel), first = panel * kPanelColumns;
    const int64_t columns = std::min(panels * kPanelColumns, N - first);
    TensorView rows;  // columns of the weight, as rows
    rows.data = memory.as<void>();
    rows.dtype = a.dtype;
    rows.rank = 2;
    rows.shape[0] = columns, rows.shape[1] = rows.strides[0] = K;
    rows.strides[1] = 1;
    host::dequantize(stream, rows, nullptr, panels_of(codes, panel, panels), panels_of(scales, panel, panels), columns,
                     weight.bits);
    TensorView b = rows;
    b.shape[0] = K, b.shape[1] = columns, b.strides[0] = 1, b.strides[1] = K;
    const TensorView some_bias = bias ? cut(*bias, first, columns) : TensorView{};
    const TensorView some_residual = residual ? cut(*residual, first, columns) : TensorView{};
    const TensorView some_preact = preact ? cut(*preact, first, columns) : TensorView{};
    host::gemm(stream, cut(out, first, columns), nullptr, a, b, bias ? &some_bias : nullptr,
               residual ? &some_residual : nullptr, preact ? &some_preact : nullptr, nullptr, activation, false, false,
               false, false, false);
  }
}

}  // namespace

void host::gemm_quantized(Stream& stream, Out out, In a, In codes, In scales, OptIn bias, OptIn residual, OptOut preact,
                          Int activation, Int precision, Int bits) {
  const QuantizedLayout weight =
      check_gemm_quantized(out, a, codes, scales, bias, residual, preact, activation, precision, bits);
  if (out.empty()) return;
  const int64_t M = a.dim(0), element = static_cast<int64_t>(size_of(a.dtype));
  const bool mma = a.dtype != DType::f32;
  if (M > (mma ? kQuantizedMmaRows : kFewRows))
    return multiply_many(stream, weight, out, a, codes, scales, bias, residual, preact, activation);
  const auto is_f32 = [](OptIn x) { return x && x->dtype == DType::f32; };
  const GemmQuantizedParams p{quantized_weight(weight, codes, scales),
                              a.data,
                              bias ? bias->data : nullptr,
                              residual ? residual->data : nullptr,
                              out.data,
                              preact ? preact->data : nullptr,
                              is_f32(&out),
                              is_f32(bias),
                              is_f32(residual),
                              weight.K % (16 / element) == 0 && is_aligned(a.data),
                              static_cast<Activation>(activation),
                              M};
  const bool eight = bits == 8;
  if (mma) {
    const int stages = eight ? QuantizedStep<8>::kStages : QuantizedStep<4>::kStages;
    const int step = eight ? QuantizedStep<8>::kBytes : QuantizedStep<4>::kBytes;
    auto& kernel = a.dtype == DType::bf16 ? (eight ? gemm_quantized_8_bf16 : gemm_quantized_4_bf16)
                                          : (eight ? gemm_quantized_8_f16 : gemm_quantized_4_f16);
    const Grid grid{ceil_div(weight.panels(), QuantizedStep<8>::kPanels)};
    return stream.launch(kOp, kernel, grid, p, static_cast<size_t>(stages * step));
  }
  if (M == 1)
    return stream.launch(kOp, eight ? gemm_quantized_row_8_f32 : gemm_quantized_row_4_f32, {weight.panels(), M}, p);
  const Grid grid{weight.panels(), ceil_div(M, kQuantizedRows)};
  stream.launch(kOp, eight ? gemm_quantized_8_f32 : gemm_quantized_4_f32, grid, p);
}

void host::gemm_quantized_backward(Stream& stream, Out dinp, In dout, In codes, In scales, Bool accumulate, Int bits) {
  const char* op = "gemm_quantized_backward";
  const QuantizedLayout weight = check_gemm_quantized_backward(dinp, dout, codes, scales, bits);
  if (dinp.empty()) return;
  multiply_decoded(stream, op, dinp, dout, quantized_weight(weight, codes, scales), bits, accumulate);
}

#endif

}  // namespace heed::cuda
