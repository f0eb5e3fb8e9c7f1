// cache_write: cache[b, starts[b] + t] = values[b, t] adds the new keys or values of each sequence to the ones it has.
// cache is [B, S, H, D], or [N, S, H, D] with pages (ops.def), and values [B, T, H, D]. They have any strides with D
// contiguous. With scales, cache receives codes; f32 is rounded to a cache in 16 bits. The kernel is parallel over
// tokens.
#include "core/checks/attention.h"
#include "cpu/kernels/key_codes.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// out[D] = x[D], rounded to the type of out.
template <class T>
void round_row(const float* x, int64_t D, T* out) {
  int64_t d = 0;
  for (; d + kWidth <= D; d += kWidth) store(out + d, load(x + d));
  if (d < D) store_n(out + d, load_n(x + d, D - d), D - d);
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::cache_write(Stream& stream, AnyInOut cache, OptIn scales, In values, OptIn starts, OptIn pages) {
  constexpr const char* op = "cache_write";
  check_cache_write(op, cache, scales, values, starts, pages);
  const int64_t B = values.shape[0], T = values.shape[1], H = cache.shape[2], D = cache.shape[3];
  const int64_t N = cache.shape[0], size = cache.shape[1], P = pages ? pages->shape[1] : 1, S = P * size;
  if (values.empty()) return;

  float* const scale = scales ? scales->f32() : nullptr;
  const int32_t *first = starts ? starts->i32() : nullptr, *table = pages ? pages->i32() : nullptr;
  stream.launch(op, [=] {
    for (int64_t b = 0; first && b < B; b++)
      if (first[b] < 0 || first[b] > S - T)
        fail(Code::range, "expected starts from 0 to %lld, got %d", static_cast<long long>(S - T), first[b]);
    for (int64_t i = 0; table && i < B * T; i++) {
      const int64_t b = i / T, place = ((first ? first[b] : 0) + i % T) / size, page = table[b * P + place];
      if (page < 0 || page >= N)
        fail(Code::range, "expected pages from 0 to %lld, got %lld at place %lld of sequence %lld",
             static_cast<long long>(N - 1), static_cast<long long>(page), static_cast<long long>(place),
             static_cast<long long>(b));
    }
    const auto row_of = [](const TensorView& x, int64_t b, int64_t t, int64_t h) {
      const int64_t at = b * x.strides[0] + t * x.strides[1] + h * x.strides[2];
      return x.ptr<char>() + at * static_cast<int64_t>(size_of(x.dtype));
    };
    const size_t bytes = static_cast<size_t>(D) * size_of(values.dtype);
    const int64_t grain = max_of<int64_t>(1, 32768 / max_of<int64_t>(1, H * static_cast<int64_t>(bytes)));
    parallel_for(B * T, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / T, t = i % T, at = (first ? first[b] : 0) + t;
        const int64_t row = table ? table[b * P + at / size] : b, to = table ? at % size : at;
        for (int64_t h = 0; h < H; h++) {
          char* const out = row_of(cache, row, to, h);
          const char* const from = row_of(values, b, t, h);
          if (!scale && cache.dtype == values.dtype)
            std::memcpy(out, from, bytes);
          else if (!scale)
            with_float_type(cache.dtype, [&](auto element) {
              round_row(reinterpret_cast<const float*>(from), D, reinterpret_cast<decltype(element)*>(out));
            });
          else
            with_float_type(values.dtype, [&](auto element) {
              scale[(row * size + to) * H + h] =
                  encode_row(reinterpret_cast<const decltype(element)*>(from), D, reinterpret_cast<uint8_t*>(out));
            });
        }
      }
    });
  });
}

}  // namespace heed::cpu
