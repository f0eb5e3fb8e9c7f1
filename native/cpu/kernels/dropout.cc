// Inverted dropout (Srivastava et al., 2014): out = keep ? inp / (1 - p) : 0. Element i, in row-major order, is kept if
// its Philox draw under `seed` is at least p; p = 1 gives zeros. It takes any strides.
//
// Backward is the same function with the same seed and dout for inp: the mask is drawn again and never stored. The work
// is parallel over elements.
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/philox.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kBuffer = 1024;  // it divides kGrain and is a multiple of a block, so that no block is drawn twice

void run(const TensorView& out, const TensorView& inp, float p, int64_t seed, bool accumulate) {
  const Loop<2> loop = make_loop({&out, &inp}, Order::logical);
  const int64_t so = loop.stride(0), si = loop.stride(1);
  const vi threshold = set1i(static_cast<int32_t>(dropout_threshold(p)));
  const vf scale = set1(p < 1 ? 1 / (1 - p) : 0);
  const auto f = [=](vf x, vf word) { return select((vi)((vu)word >> 8) >= threshold, x * scale, vf{}); };
  parallel_for(loop.size, kGrain, [&](int64_t begin, int64_t end) {
    float words[kBuffer];  // bits, with the type that map_row's sources read
    for (int64_t i = begin; i < end; i += kBuffer) {
      const int64_t count = min_of(kBuffer, end - i);
      philox_words(reinterpret_cast<uint32_t*>(words), count, static_cast<uint64_t>(seed), static_cast<uint64_t>(i),
                   kDropoutDraws);
      float* word = words;
      for_rows(loop, i, i + count, [&](const int64_t* offsets, int64_t n) {
        const Contiguous<float> draws{word};
        if (so == 1 && si == 1)
          with_float_type(out.dtype, [&](auto type) {
            using T = decltype(type);
            map_row(Contiguous<T>{out.ptr<T>() + offsets[0]}, n, accumulate, f,
                    Contiguous<T>{inp.ptr<T>() + offsets[1]}, draws);
          });
        else
          map_row(strided(out, offsets[0], so), n, accumulate, f, strided(inp, offsets[1], si), draws);
        word += n;
      });
    }
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::dropout(Stream& stream, Out out, In inp, Float p, Int seed, Bool accumulate) {
  check_dropout(out, inp, p);
  if (out.empty()) return;
  stream.launch("dropout", [out, inp, p, seed, accumulate] { run(out, inp, p, seed, accumulate); });
}

}  // namespace heed::cpu
