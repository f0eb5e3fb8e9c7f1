// gemm_quantized: out[M, N] = activation(a[M, K] · Ŵ + bias) + residual, with Ŵ in 8 or 4 bits (core/quantized.h).
//
// Up to 8 rows (decoding): a block computes a panel of 16 columns and up to 4 rows. Its warps take turns at the words
// of K, eight at a time: 512 bytes in one access, with one word of four columns per lane. Lanes and warps are summed at
// the end, in one order. For more rows, strips of columns are rounded to a's dtype, and gemm does the rest.
#include "cuda/kernels/activation.h"
#include "cuda/kernels/quantized.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/checks/quantized.h"
#endif

namespace heed::cuda {

struct GemmQuantizedParams {
  QuantizedWeight weight;
  const void *a, *bias, *residual;  // the last two may be null
  void* out;
  bool out_f32, bias_f32, residual_f32;
  bool vectors;  // true if rows of a can be read four elements at a time
  Activation activation;
  int64_t M;
};

constexpr int kQuantizedWarps = 4, kQuantizedRows = 4, kWordsTogether = 8;

#if HEED_DEVICE_CODE

template <class T>
__device__ __forceinline__ float load_one(const void* from, bool f32, int64_t i) {
  return f32 ? static_cast<const float*>(from)[i] : to_float(static_cast<const T*>(from)[i]);
}

template <class T, int bits, int R>
__device__ __forceinline__ void gemm_quantized_rows(const GemmQuantizedParams& p) {
  using C = QuantizedCodes<bits>;
  const QuantizedWeight& w = p.weight;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, part = lane / 4, column = lane % 4 * 4;
  const int64_t panel = blockIdx.x, row = static_cast<int64_t>(blockIdx.y) * kQuantizedRows;
  const int64_t words = w.groups * w.words_of_group;
  const uint8_t* const codes = w.codes + panel * words * kPanelBytes + column * 4;
  const uint16_t* const scales = w.scales + panel * w.groups * kPanelColumns + column;

  float sums[R][4] = {};
  for (int64_t word = warp * kWordsTogether + part; word < words; word += kQuantizedWarps * kWordsTogether) {
    const auto read = Vector<uint32_t, 4>::load(reinterpret_cast<const uint32_t*>(codes + word * kPanelBytes));
    const auto steps = Vector<uint16_t, 4>::load(scales + word / w.words_of_group * kPanelColumns);
    const int64_t k = word * C::kPerWord;
    float x[R][C::kPerWord];
#pragma unroll
    for (int r = 0; r < R; r++) {
      const T* const from = static_cast<const T*>(p.a) + (row + r) * w.K + k;
      const bool here = row + r < p.M;
#pragma unroll
      for (int four = 0; four < C::kPerWord; four += 4) {
        if (p.vectors && here && k + four < w.K) {
          const auto v = Vector<T, 4>::load(from + four);
#pragma unroll
          for (int j = 0; j < 4; j++) x[r][four + j] = to_float(v.at[j]);
        } else {
#pragma unroll
          for (int j = four; j < four + 4; j++) x[r][j] = !p.vectors && here && k + j < w.K ? to_float(from[j]) : 0;
        }
      }
    }
#pragma unroll
    for (int c = 0; c < 4; c++) {
      const float scale = scale_of(steps.at[c]);
#pragma unroll
      for (int j = 0; j < C::kPerWord; j++) {
        const float weight = C::weight(read.at[c], j) * scale;
#pragma unroll
        for (int r = 0; r < R; r++) sums[r][c] = fmaf(x[r][j], weight, sums[r][c]);
      }
    }
  }

  __shared__ float parts[kQuantizedWarps][R][kPanelColumns];
#pragma unroll
  for (int r = 0; r < R; r++)
#pragma unroll
    for (int c = 0; c < 4; c++) {
      float sum = sums[r][c];
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
      if (part == 0) parts[warp][r][column + c] = sum;
    }
  __syncthreads();
  if (threadIdx.x >= R * kPanelColumns) return;
  const int r = threadIdx.x / kPanelColumns, c = threadIdx.x % kPanelColumns;
  const int64_t n = panel * kPanelColumns + c, at = (row + r) * w.N + n;
  if (row + r >= p.M || n >= w.N) return;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kQuantizedWarps; i++) sum += parts[i][r][c];
  if (p.bias) sum += load_one<T>(p.bias, p.bias_f32, n);
  with_activation(p.activation, [&](auto value, auto) { sum = value(sum); });
  if (p.residual) sum += load_one<T>(p.residual, p.residual_f32, at);
  if (p.out_f32)
    static_cast<float*>(p.out)[at] = sum;
  else
    static_cast<T*>(p.out)[at] = from_float<T>(sum);
}

template <class T>
__device__ __forceinline__ void gemm_quantized_8_body(const GemmQuantizedParams& p) {
  gemm_quantized_rows<T, 8, kQuantizedRows>(p);
}
template <class T>
__device__ __forceinline__ void gemm_quantized_4_body(const GemmQuantizedParams& p) {
  gemm_quantized_rows<T, 4, kQuantizedRows>(p);
}
template <class T>
__device__ __forceinline__ void gemm_quantized_row_8_body(const GemmQuantizedParams& p) {
  gemm_quantized_rows<T, 8, 1>(p);
}
template <class T>
__device__ __forceinline__ void gemm_quantized_row_4_body(const GemmQuantizedParams& p) {
  gemm_quantized_rows<T, 4, 1>(p);
}

#endif

HEED_KERNEL_FLOATS(gemm_quantized_8, GemmQuantizedParams, kQuantizedWarps * 32, 4, gemm_quantized_8_body)
HEED_KERNEL_FLOATS(gemm_quantized_4, GemmQuantizedParams, kQuantizedWarps * 32, 4, gemm_quantized_4_body)
HEED_KERNEL_FLOATS(gemm_quantized_row_8, GemmQuantizedParams, kQuantizedWarps * 32, 8, gemm_quantized_row_8_body)
HEED_KERNEL_FLOATS(gemm_quantized_row_4, GemmQuantizedParams, kQuantizedWarps * 32, 8, gemm_quantized_row_4_body)

#if !HEED_DEVICE_CODE

namespace {

constexpr const char* kOp = "gemm_quantized";
constexpr int64_t kFewRows = 8;
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
                   OptIn residual, Int activation) {
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
    host::gemm(stream, cut(out, first, columns), nullptr, a, b, bias ? &some_bias : nullptr,
               residual ? &some_residual : nullptr, nullptr, nullptr, activation, false, false, false);
  }
}

}  // namespace

void host::gemm_quantized(Stream& stream, Out out, In a, In codes, In scales, OptIn bias, OptIn residual,
                          Int activation, Int bits) {
  const QuantizedLayout weight = check_gemm_quantized(out, a, codes, scales, bias, residual, activation, bits);
  if (out.empty()) return;
  const int64_t M = a.dim(0), element = static_cast<int64_t>(size_of(a.dtype));
  if (M > kFewRows) return multiply_many(stream, weight, out, a, codes, scales, bias, residual, activation);
  const auto is_f32 = [](OptIn x) { return x && x->dtype == DType::f32; };
  const GemmQuantizedParams p{quantized_weight(weight, codes, scales),
                              a.data,
                              bias ? bias->data : nullptr,
                              residual ? residual->data : nullptr,
                              out.data,
                              is_f32(&out),
                              is_f32(bias),
                              is_f32(residual),
                              weight.K % 4 == 0 && is_aligned(a.data, 4 * element),
                              static_cast<Activation>(activation),
                              M};
  auto& kernel = M == 1 ? (bits == 8 ? gemm_quantized_row_8(a.dtype) : gemm_quantized_row_4(a.dtype))
                        : (bits == 8 ? gemm_quantized_8(a.dtype) : gemm_quantized_4(a.dtype));
  stream.launch(kOp, kernel, {weight.panels(), ceil_div(M, kQuantizedRows)}, p);
}

#endif

}  // namespace heed::cuda
