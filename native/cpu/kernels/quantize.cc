// quantize: codes and scales of a weight [K, N] of any strides. dequantize: columns of it, as rows. core/quantized.h
// describes their layout and the rounding.
#include <cfloat>

#include "core/checks/quantized.h"
#include "cpu/kernels/quantized.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kMostGroup = 256;

// Chooses the scale of each column of a block [group][16], kWidth columns at once.
template <int bits>
inline void choose_scales(const float* block, int64_t group, bf16* scales) {
  for (int64_t c = 0; c < kPanelColumns; c += kWidth) {
    vf high{}, low{};
    vi finite = set1i(-1);
    for (int64_t k = 0; k < group; k++) {
      const vf w = load(block + k * kPanelColumns + c);
      finite = finite & (vabs(w) <= set1(FLT_MAX));
      high = vmax(w, high);
      low = vmax(-w, low);
    }
    vf scale;
    if constexpr (bits == 8) {
      scale = vmax(high, low) / set1(127);
    } else {
      const vf negative = vmax(low / set1(8), high / set1(7)), positive = vmax(high / set1(8), low / set1(7));
      scale = select(low >= high, negative, -positive);
    }
    const vf least = set1(0x1p-126f);
    const vi small = (vmax(high, low) > vf{}) & (vabs(scale) < least);
    scale = select(small, select(scale < vf{}, -least, least), scale);
    store_f32(scales + c, select(finite, scale, set1(NAN)));
  }
}

// Chooses the codes of the same columns: words [group · bits / 32][16].
template <int bits>
inline void choose_codes(const float* block, int64_t group, const bf16* scales, uint8_t* codes) {
  using C = Codes<bits>;
  constexpr float kMost = bits == 8 ? 127 : 7, kLeast = bits == 8 ? -127 : -8;
  for (int64_t c = 0; c < kPanelColumns; c += kWidth) {
    const vf scale = load_f32(scales + c);
    for (int64_t k = 0; k < group; k += C::kPerWord) {
      vi word{};
      for (int j = 0; j < C::kPerWord; j++) {
        const vf w = load(block + (k + j) * kPanelColumns + c);
        // If all weights are 0, this is 0 / 0; that case and values that are not finite give a code of zero.
        const vf quotient = select(vabs(scale) > vf{}, w / scale, vf{});
        const vi code = __builtin_convertvector(vmin(vmax(round_even(quotient), set1(kLeast)), set1(kMost)), vi);
        const int low = bits == 8 ? 8 * j : 8 * (j % 4) + 4 * (j / 4);
        word = word | (code & ((1 << bits) - 1)) << low;
      }
      store_as(codes + k / C::kPerWord * kPanelBytes + c * 4, word ^ set1i(C::kZeros));
    }
  }
}

template <int bits, class T>
inline void quantize_panels(const QuantizedLayout& w, const T* from, int64_t row, int64_t column, uint8_t* codes,
                            bf16* scales) {
  parallel_for(w.panels() * w.groups(), 8, [&](int64_t begin, int64_t end) {
    alignas(64) float block[kMostGroup * kPanelColumns];
    for (int64_t i = begin; i < end; i++) {
      const int64_t n = i / w.groups() * kPanelColumns, k = i % w.groups() * w.group;
      const int64_t columns = min_of(kPanelColumns, w.N - n), depth = min_of(w.group, w.K - k);
      std::memset(block, 0, static_cast<size_t>(w.group) * kPanelColumns * sizeof(float));
      const T* const corner = from + k * row + n * column;
      for (int64_t j = 0; j < depth; j++)
        for (int64_t c = 0; c < columns; c++) block[j * kPanelColumns + c] = float_of(corner[j * row + c * column]);
      choose_scales<bits>(block, w.group, scales + i * kPanelColumns);
      choose_codes<bits>(block, w.group, scales + i * kPanelColumns, codes + i * w.words_of_group() * kPanelBytes);
    }
  });
}

// Reads column n of the weight, K numbers.
template <int bits, class T>
inline void read_column(const QuantizedLayout& w, const uint8_t* codes, const bf16* scales, int64_t n, T* out) {
  using C = Codes<bits>;
  const int64_t panel = n / kPanelColumns, lane = n % kPanelColumns;
  const uint8_t* const words = codes + panel * w.words() * kPanelBytes + lane * 4;
  const bf16* const steps = scales + panel * w.groups() * kPanelColumns + lane;
  for (int64_t k = 0; k < w.padded(); k += kWidth) {
    vi code{};
    for (int64_t i = 0; i < kWidth; i++) {
      const int64_t j = (k + i) % C::kPerWord;
      const int byte = words[(k + i) / C::kPerWord * kPanelBytes + j % 4];
      code[i] = bits == 8 ? byte - 128 : (byte >> (4 * (j / 4)) & 15) - 8;
    }
    const float scale = float_of(steps[k / w.group * kPanelColumns]);
    if (k < w.K) store_some(out + k, __builtin_convertvector(code, vf) * set1(scale), w.K - k);
  }
}

template <int bits>
inline void read_columns(const QuantizedLayout& w, const TensorView& out, const int32_t* ids, int64_t n,
                         const uint8_t* codes, const bf16* scales) {
  if (ids)
    for (int64_t i = 0; i < n; i++)
      if (ids[i] < 0 || ids[i] >= w.N)
        fail(Code::range, "expected ids in [0, %lld), got %d at position %lld", static_cast<long long>(w.N), ids[i],
             static_cast<long long>(i));
  with_float(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(n, max_of<int64_t>(1, 4096 / max_of<int64_t>(w.K, 1)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++)
        read_column<bits>(w, codes, scales, ids ? ids[i] : i, out.ptr<T>() + i * w.K);
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::quantize(Stream& stream, Out codes, Out scales, In weight, Int bits) {
  const QuantizedLayout layout = check_quantize(codes, scales, weight, bits);
  stream.launch("quantize", [layout, weight, codes = codes.ptr<uint8_t>(), scales = scales.ptr<bf16>()] {
    with_float(weight.dtype, [&](auto zero) {
      const auto* const from = weight.ptr<decltype(zero)>();
      if (layout.bits == 8)
        quantize_panels<8>(layout, from, weight.stride(0), weight.stride(1), codes, scales);
      else
        quantize_panels<4>(layout, from, weight.stride(0), weight.stride(1), codes, scales);
    });
  });
}

void HEED_ISA::dequantize(Stream& stream, Out out, OptIn ids, In codes, In scales, Int columns, Int bits) {
  const QuantizedLayout layout = check_dequantize(out, ids, codes, scales, columns, bits);
  const int32_t* const id = ids ? ids->i32() : nullptr;
  const int64_t n = ids ? ids->numel() : columns;
  stream.launch("dequantize", [=, out = out, codes = codes.ptr<uint8_t>(), scales = scales.ptr<bf16>()] {
    if (layout.bits == 8)
      read_columns<8>(layout, out, id, n, codes, scales);
    else
      read_columns<4>(layout, out, id, n, codes, scales);
  });
}

}  // namespace heed::cpu
