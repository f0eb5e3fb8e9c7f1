// quantize: codes and scales of a weight [K, N] of any strides, with one thread per group of a column. dequantize:
// columns of it, as rows, with one thread per word. core/quantized.h describes the layout and the rounding. An id out
// of range is reported, and its row of out is 0.
#include "cuda/kernels/quantized.h"

#if !HEED_DEVICE_CODE
#include "core/checks/quantized.h"
#endif

namespace heed::cuda {

struct QuantizeParams {
  QuantizedWeight weight;
  const void* from;
  int64_t row, column;  // strides of `from`
};

struct DequantizeParams {
  QuantizedWeight weight;
  void* out;
  const int32_t* ids;  // or null
  int64_t n;
  FaultSink fault;
};

constexpr int kQuantizeThreads = 128;

#if HEED_DEVICE_CODE

template <class T, int bits>
__device__ __forceinline__ void quantize_group(const QuantizeParams& p) {
  using C = QuantizedCodes<bits>;
  const QuantizedWeight& w = p.weight;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kQuantizeThreads + threadIdx.x;
  if (i >= w.panels * w.groups * kPanelColumns) return;
  const int lane = static_cast<int>(i % kPanelColumns);
  const int64_t block = i / kPanelColumns, n = block / w.groups * kPanelColumns + lane, k = block % w.groups * w.group;
  const int depth = n < w.N ? static_cast<int>(min(static_cast<int64_t>(w.group), w.K - k)) : 0;
  const T* const from = static_cast<const T*>(p.from) + k * p.row + n * p.column;

  float high = 0, low = 0;
  bool finite = true;
  for (int j = 0; j < depth; j++) {
    const float x = to_float(from[j * p.row]);
    finite = finite && fabsf(x) <= 3.402823466e38f;
    high = fmaxf(high, x);
    low = fmaxf(low, -x);
  }
  float scale;
  if constexpr (bits == 8)
    scale = __fdiv_rn(fmaxf(high, low), 127.0f);
  else if (low >= high)
    scale = fmaxf(__fdiv_rn(low, 8.0f), __fdiv_rn(high, 7.0f));
  else
    scale = -fmaxf(__fdiv_rn(high, 8.0f), __fdiv_rn(low, 7.0f));
  if (fmaxf(high, low) > 0 && fabsf(scale) < 1.17549435e-38f) scale = copysignf(1.17549435e-38f, scale);
  const bf16 stored = from_float<bf16>(finite ? scale : __int_as_float(0x7fc00000));
  reinterpret_cast<bf16*>(w.scales)[i] = stored;
  scale = to_float(stored);

  uint32_t* const words = reinterpret_cast<uint32_t*>(w.codes) + block * w.words_of_group * kPanelColumns + lane;
  for (int word = 0; word < w.words_of_group; word++) {
    uint32_t codes = 0;
#pragma unroll
    for (int j = 0; j < C::kPerWord; j++) {
      const int at = word * C::kPerWord + j;
      const float x = at < depth ? to_float(from[at * p.row]) : 0;
      // If all weights are 0, this is 0 / 0; that case and values that are not finite give a code of zero.
      const float quotient = fabsf(scale) > 0 ? rintf(__fdiv_rn(x, scale)) : 0;
      const int code = static_cast<int>(fminf(fmaxf(quotient, bits == 8 ? -127 : -8), bits == 8 ? 127 : 7));
      codes |= (static_cast<uint32_t>(code) & ((1u << bits) - 1)) << C::shift(j);
    }
    words[word * kPanelColumns] = codes ^ C::kZeros;
  }
}
template <class T>
__device__ __forceinline__ void quantize_8_body(const QuantizeParams& p) {
  quantize_group<T, 8>(p);
}
template <class T>
__device__ __forceinline__ void quantize_4_body(const QuantizeParams& p) {
  quantize_group<T, 4>(p);
}

template <class T, int bits>
__device__ __forceinline__ void dequantize_word(const DequantizeParams& p) {
  using C = QuantizedCodes<bits>;
  const QuantizedWeight& w = p.weight;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kQuantizeThreads + threadIdx.x;
  const int64_t words = w.groups * w.words_of_group;
  if (at >= p.n * words) return;
  const int64_t i = at / words, word = at % words, k = word * C::kPerWord;
  const int64_t n = p.ids ? p.ids[i] : i;
  const bool valid = n >= 0 && n < w.N;
  if (!valid && k == 0) report_fault(p.fault, FaultKind::id, n, w.N, i);
  uint32_t codes = C::kZeros;
  float scale = 0;
  if (valid) {
    const int64_t panel = n / kPanelColumns, lane = n % kPanelColumns;
    codes = reinterpret_cast<const uint32_t*>(w.codes)[(panel * words + word) * kPanelColumns + lane];
    scale = scale_of(w.scales[(panel * w.groups + word / w.words_of_group) * kPanelColumns + lane]);
  }
  T* const out = static_cast<T*>(p.out) + i * w.K + k;
#pragma unroll
  for (int j = 0; j < C::kPerWord; j++)
    if (k + j < w.K) out[j] = from_float<T>(C::weight(codes, j) * scale);
}
template <class T>
__device__ __forceinline__ void dequantize_8_body(const DequantizeParams& p) {
  dequantize_word<T, 8>(p);
}
template <class T>
__device__ __forceinline__ void dequantize_4_body(const DequantizeParams& p) {
  dequantize_word<T, 4>(p);
}

#endif

HEED_KERNEL_FLOATS(quantize_8, QuantizeParams, kQuantizeThreads, 1, quantize_8_body)
HEED_KERNEL_FLOATS(quantize_4, QuantizeParams, kQuantizeThreads, 1, quantize_4_body)
HEED_KERNEL_FLOATS(dequantize_8, DequantizeParams, kQuantizeThreads, 1, dequantize_8_body)
HEED_KERNEL_FLOATS(dequantize_4, DequantizeParams, kQuantizeThreads, 1, dequantize_4_body)

#if !HEED_DEVICE_CODE

void host::quantize(Stream& stream, Out codes, Out scales, In weight, Int bits) {
  const char* op = "quantize";
  const QuantizedLayout layout = check_quantize(codes, scales, weight, bits);
  const QuantizeParams p{quantized_weight(layout, codes, scales), weight.data, weight.stride(0), weight.stride(1)};
  if (scales.empty()) return;
  const Grid grid{ceil_div(scales.numel(), kQuantizeThreads)};
  stream.launch(op, bits == 8 ? quantize_8(weight.dtype) : quantize_4(weight.dtype), grid, p);
}

void host::dequantize(Stream& stream, Out out, OptIn ids, In codes, In scales, Int columns, Int bits) {
  const char* op = "dequantize";
  const QuantizedLayout layout = check_dequantize(out, ids, codes, scales, columns, bits);
  if (out.empty()) return;
  const int64_t n = ids ? ids->numel() : columns;
  const DequantizeParams p{quantized_weight(layout, codes, scales), out.data, ids ? ids->i32() : nullptr, n,
                           stream.fault(op)};
  const Grid grid{ceil_div(n * layout.words(), kQuantizeThreads)};
  stream.launch(op, bits == 8 ? dequantize_8(out.dtype) : dequantize_4(out.dtype), grid, p);
}

#endif

}  // namespace heed::cuda
