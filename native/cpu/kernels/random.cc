// Normal and uniform random tensors, contiguous. Element i depends only on the seed and on i (philox.h).
//
// Normal: Box and Muller (1958). Words 2j and 2j + 1 of a block give u in (0, 1] and v in [0, 1), and its elements 2j
// and 2j + 1 are sqrt(-2 ln u) · cos 2πv and sqrt(-2 ln u) · sin 2πv. They are computed in double and rounded once;
// products and sums are not fused, so that every instruction set gives the same bits. The work is parallel over
// elements.
#include "core/checks/elementwise.h"
#include "cpu/kernels/philox.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

typedef double vd __attribute__((vector_size(kWidth * 4)));
typedef float half_vf __attribute__((vector_size(kWidth * 2)));
typedef uint32_t half_vu __attribute__((vector_size(kWidth * 2)));

constexpr int64_t kBuffer = 1024;  // a multiple of a block and of a vector

// Calls f(numbers, words, n), where n is a multiple of a vector, for the pieces of `out`.
template <class F>
void for_words(const TensorView& out, int64_t seed, const F& f) {
  parallel_for(out.numel(), 16 * kBuffer, [&](int64_t begin, int64_t end) {
    uint32_t words[kBuffer];
    float numbers[kBuffer];
    for (int64_t i = begin; i < end; i += kBuffer) {
      const int64_t count = min_of(kBuffer, end - i), whole = ceil_div(count, kWidth) * kWidth;
      philox_words(words, whole, static_cast<uint64_t>(seed), static_cast<uint64_t>(i), kTensorDraws);
      f(numbers, words, whole);
      with_float_type(out.dtype, [&](auto type) { convert_row(out.ptr<decltype(type)>() + i, numbers, count); });
    }
  });
}

inline vd set1d(double x) { return x - vd{}; }

// The coefficients begin with the highest power (Horner's rule).
template <int n>
inline vd polynomial(const double (&coefficients)[n], vd x) {
  vd p = set1d(coefficients[0]);
  for (int i = 1; i < n; i++) p = p * x + set1d(coefficients[i]);
  return p;
}

inline vd square_root(vd x) {
#if defined(__AVX512F__)
  return (vd)_mm512_sqrt_pd((__m512d)x);
#elif defined(__AVX2__)
  return (vd)_mm256_sqrt_pd((__m256d)x);
#elif defined(__aarch64__)
  return (vd)vsqrtq_f64((float64x2_t)x);
#else
  for (int i = 0; i < kWidth / 2; i++) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

// Converts x < 2^52 to a double: 2^52 + x has x in its last bits.
inline vd to_double(vu64 x) { return (vd)(x | 0x4330000000000000u) - set1d(0x1p52); }

// ln x for normal x > 0: x = 2^e m with m around 1, ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| <= 0.172.
inline vd natural_log(vd x) {
  constexpr double kSeries[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
  constexpr uint64_t kRootHalf = 0x3fe6a09e667f3bcdu;  // bits of √½, at which the range of m begins
  const vu64 offset = (vu64)x - kRootHalf;
  const vu64 exponent = (offset >> 52) + 1024;  // 2^52 + 1024 + e stays positive
  const vd e = to_double(exponent & 2047) - set1d(1024);
  const vd m = (vd)((offset & 0xfffffffffffffu) + kRootHalf);
  const vd s = (m - set1d(1)) / (m + set1d(1)), square = s * s;
  return e * set1d(0.693147180559945309417) + (s + s) * (square * polynomial(kSeries, square) + set1d(1));
}

// cos and sin of the part v in [0, 1) of a full turn, by quadrants: θ = (4v - q) π/2, |θ| <= π/4, and Taylor's series.
inline void turn(vd v, vd& cosine, vd& sine) {
  constexpr double kSine[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                              1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
  constexpr double kCosine[] = {1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
                                1.0 / 40320,          -1.0 / 720,         1.0 / 24,        -1.0 / 2};
  const vd quarters = v * set1d(4), magic = set1d(0x1.8p52), rounded = quarters + magic;
  const vu64 q = (vu64)rounded;  // its last bits are the quadrant
  const vd theta = (quarters - (rounded - magic)) * set1d(1.570796326794896619231), square = theta * theta;
  const vd s = theta * (square * polynomial(kSine, square)) + theta,
           c = square * polynomial(kCosine, square) + set1d(1);
  const vu64 odd = 0 - (q & 1);
  const vu64 a = ((vu64)c & ~odd) | ((vu64)s & odd), b = ((vu64)s & ~odd) | ((vu64)c & odd);
  cosine = (vd)(a ^ ((q + 1) & 2) << 62);
  sine = (vd)(b ^ (q & 2) << 62);
}

void normal(float* out, const uint32_t* words, int64_t n, double mean, double stddev) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const vu64 pair = load_as<vu64>(words + i);
    const vd u = (to_double(pair & 0xffffffffu) + set1d(1)) * set1d(0x1p-32),
             v = to_double(pair >> 32) * set1d(0x1p-32);
    const vd radius = set1d(stddev) * square_root(set1d(-2) * natural_log(u));
    vd cosine, sine;
    turn(v, cosine, sine);
    const half_vf x = __builtin_convertvector(set1d(mean) + radius * cosine, half_vf);
    const half_vf y = __builtin_convertvector(set1d(mean) + radius * sine, half_vf);
    store_as(out + i, __builtin_convertvector((half_vu)x, vu64) | __builtin_convertvector((half_vu)y, vu64) << 32);
  }
}

// If numbers stay between these bounds, rounding to the dtype does not leave the interval.
void uniform(float* out, const uint32_t* words, int64_t n, float low, float high, UniformBounds bounds) {
  const double span = static_cast<double>(high) - low;
  for (int64_t i = 0; i < n; i++) {
    const float x = static_cast<float>(low + span * static_cast<double>(uniform01(words[i])));
    out[i] = min_of(max_of(x, bounds.first), bounds.last);
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::random_normal(Stream& stream, Out out, Float mean, Float stddev, Int seed) {
  check_random_normal(out, mean, stddev);
  if (out.empty()) return;
  stream.launch("random_normal", [out, mean, stddev, seed] {
    for_words(out, seed, [=](float* piece, const uint32_t* words, int64_t n) {
      normal(piece, words, n, static_cast<double>(mean), static_cast<double>(stddev));
    });
  });
}

void HEED_ISA::random_uniform(Stream& stream, Out out, Float low, Float high, Int seed) {
  check_random_uniform(out, low, high);
  if (out.empty()) return;
  stream.launch("random_uniform", [out, low, high, seed] {
    const UniformBounds bounds = uniform_bounds(out.dtype, low, high);
    for_words(out, seed,
              [=](float* piece, const uint32_t* words, int64_t n) { uniform(piece, words, n, low, high, bounds); });
  });
}

}  // namespace heed::cpu
