// Normal and uniform random tensors, f32 and contiguous. Element i depends on the seed and i alone (philox.h).
//
// Normal: Box and Muller (1958): words 2j and 2j + 1 of a block give u in (0, 1] and v in [0, 1), and its elements
// 2j and 2j + 1 are sqrt(-2 ln u) · cos 2πv and sqrt(-2 ln u) · sin 2πv. In double by the C library and rounded once,
// so that every instruction set gives the same bits. Parallel over elements.
#include "core/checks/elementwise.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/philox.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kBuffer = 1024;  // a multiple of a block

// f(out, words, n) for the pieces of `out`; n is below kBuffer only at the end, and then a whole block of words is
// there.
template <class F>
void for_words(float* out, int64_t n, int64_t seed, const F& f) {
  parallel_for(n, 16 * kBuffer, [&](int64_t begin, int64_t end) {
    uint32_t words[kBuffer];
    for (int64_t i = begin; i < end; i += kBuffer) {
      const int64_t count = min_of(kBuffer, end - i);
      philox_words(words, ceil_div(count, 4) * 4, static_cast<uint64_t>(seed), static_cast<uint64_t>(i), 0);
      f(out + i, words, count);
    }
  });
}

void normal(float* out, const uint32_t* words, int64_t n, double mean, double stddev) {
  constexpr double kTwoPi = 6.283185307179586476925;
  for (int64_t i = 0; i < n; i += 2) {
    const double radius = stddev * sqrt(-2.0 * log((words[i] + 1.0) * 0x1p-32));
    const double angle = kTwoPi * (words[i + 1] * 0x1p-32);
    out[i] = static_cast<float>(mean + radius * cos(angle));
    if (i + 1 < n) out[i + 1] = static_cast<float>(mean + radius * sin(angle));
  }
}

// Rounding may take the largest draws to `high` itself, which the interval excludes.
void uniform(float* out, const uint32_t* words, int64_t n, float low, float high) {
  const double span = static_cast<double>(high) - low;
  const float last = low < high ? nextafterf(high, low) : low;
  for (int64_t i = 0; i < n; i++) {
    const float x = static_cast<float>(low + span * static_cast<double>(uniform01(words[i])));
    out[i] = x < high ? x : last;
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::random_normal(Stream& stream, Out out, Float mean, Float stddev, Int seed) {
  expect_dtype("random_normal", "out", out, DType::f32);
  check_random_normal(out, mean, stddev);
  if (out.empty()) return;
  stream.launch("random_normal", [out, mean, stddev, seed] {
    for_words(out.f32(), out.numel(), seed, [=](float* piece, const uint32_t* words, int64_t n) {
      normal(piece, words, n, static_cast<double>(mean), static_cast<double>(stddev));
    });
  });
}

void HEED_ISA::random_uniform(Stream& stream, Out out, Float low, Float high, Int seed) {
  expect_dtype("random_uniform", "out", out, DType::f32);
  check_random_uniform(out, low, high);
  if (out.empty()) return;
  stream.launch("random_uniform", [out, low, high, seed] {
    for_words(out.f32(), out.numel(), seed,
              [=](float* piece, const uint32_t* words, int64_t n) { uniform(piece, words, n, low, high); });
  });
}

}  // namespace heed::cpu
