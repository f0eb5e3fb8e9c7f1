// quantize, dequantize and gemm_quantized against double: every code within half a step of its weight, columns read
// back exactly, and products of the dequantised weight in every dtype, epilogue and number of rows.
#include "core/quantized.h"
#include "activations.h"
#include "dtypes.h"

namespace heed::test {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

// A weight that is quantised, and what its codes say it is, read from their memory by the layout's definition.
struct Quantized {
  QuantizedLayout layout;
  Array<uint8_t> codes;
  Any scales;

  Quantized(int64_t K, int64_t N, int64_t bits, int64_t group)
      : layout{K, N, bits, group},
        codes({(N + 15) / 16, (K + group - 1) / group * group * bits / 32, 64}),
        scales(DType::bf16, {(N + 15) / 16, (K + group - 1) / group, 16}) {}

  double scale(int64_t k, int64_t n) const {
    return scales.get((n / 16 * layout.groups() + k / layout.group) * 16 + n % 16);
  }
  int code(int64_t k, int64_t n) const {
    const int64_t per_word = 32 / layout.bits, j = k % per_word;
    const uint8_t byte = codes[(n / 16 * layout.words() + k / per_word) * 64 + n % 16 * 4 + j % 4];
    return layout.bits == 8 ? byte - 128 : (j < 4 ? byte % 16 : byte / 16) - 8;
  }
  double value(int64_t k, int64_t n) const { return code(k, n) * scale(k, n); }
};

void fill(Any& any, Random& random, float low = -1, float high = 1) {
  for (int64_t i = 0; i < any.view.numel(); i++) any.set(i, converted(any.view.dtype, random.uniform(low, high)));
}

// The scale of a group by the definition.
double expected_scale(int64_t bits, double high, double low) {
  const auto divided = [](double x, double by) { return static_cast<float>(x) / static_cast<float>(by); };
  float scale;
  if (bits == 8)
    scale = divided(std::max(high, low), 127);
  else if (low >= high)
    scale = std::max(divided(low, 8), divided(high, 7));
  else
    scale = -std::max(divided(high, 8), divided(low, 7));
  if (std::max(high, low) > 0 && std::fabs(scale) < 0x1p-126f) scale = scale < 0 ? -0x1p-126f : 0x1p-126f;
  return round_to(kBf16, static_cast<double>(scale));
}

void check_codes(const Quantized& q, const Any& weight, const char* label) {
  const int64_t K = q.layout.K, N = q.layout.N;
  for (int64_t n = 0; n < q.layout.panels() * 16; n++)
    for (int64_t k = 0; k < q.layout.padded(); k++) {
      if (k % q.layout.group == 0) {
        double high = 0, low = 0;
        for (int64_t j = k; j < std::min(k + q.layout.group, K) && n < N; j++) {
          high = std::max(high, weight.get(j * N + n));
          low = std::max(low, -weight.get(j * N + n));
        }
        if (q.scale(k, n) != expected_scale(q.layout.bits, high, low))
          return report("%s: scale of %lld, %lld is %g, expected %g", label, static_cast<long long>(k),
                        static_cast<long long>(n), q.scale(k, n), expected_scale(q.layout.bits, high, low));
      }
      const double w = k < K && n < N ? weight.get(k * N + n) : 0, off = std::fabs(w - q.value(k, n));
      // The quotient that is rounded is itself rounded to f32.
      const double allowed = k < K && n < N ? std::fabs(q.scale(k, n)) * (0.5 + 128 * 0x1p-24) : 0;
      if (!(off <= allowed) || (allowed == 0 && q.code(k, n) != 0))
        return report("%s: weight %lld, %lld is %g, stored as %g", label, static_cast<long long>(k),
                      static_cast<long long>(n), w, q.value(k, n));
    }
}

TEST(quantize_within_half_a_step) {
  for (const int64_t bits : {8, 4})
    for (const int64_t group : {32, 64, 256})
      for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 17}, {300, 33}, {64, 16}})
        for (const DType dtype : kFloats)
          for (const Layout layout : {Layout::contiguous, Layout::transposed}) {
            Random random(static_cast<uint64_t>(K * 31 + N + group + bits));
            Any weight(dtype, {K, N}, layout);
            fill(weight, random, N % 2 ? -0.3f : -1, 1);
            Quantized q(K, N, bits, group);
            ops.quantize(stream, q.codes, q.scales.view, weight.view, bits);
            EXPECT(synchronize(stream).empty());
            check_codes(q, weight, "random");
          }
}

// Zeros, numbers near both ends of f32, and groups whose largest is of either sign.
TEST(quantize_extremes) {
  for (const int64_t bits : {8, 4}) {
    Any weight(DType::f32, {32, 8});
    Random random(9);
    const float sizes[] = {0, 0x1p-149f, 0x1p-130f, 0x1p-120f, 0x1p127f, 3.4028234e38f, 1, -1};
    for (int64_t k = 0; k < 32; k++)
      for (int64_t n = 0; n < 8; n++) weight.set_f32(k * 8 + n, sizes[n] * (k % 5 ? random.uniform(-1, 1) : 1));
    Quantized q(32, 8, bits, 32);
    ops.quantize(stream, q.codes, q.scales.view, weight.view, bits);
    EXPECT(synchronize(stream).empty());
    check_codes(q, weight, "extremes");
  }
}

// A group with a weight that is not finite is NaN; its neighbours are not.
TEST(quantize_not_finite) {
  for (const DType dtype : kFloats)
    for (const double bad : {HUGE_VAL, -HUGE_VAL, double{NAN}})
      for (const int64_t bits : {8, 4}) {
        Any weight(dtype, {64, 2}), out(dtype, {2, 64});
        for (int64_t i = 0; i < 128; i++) weight.set(i, 1);
        weight.set(40 * 2 + 1, bad);
        Quantized q(64, 2, bits, 32);
        ops.quantize(stream, q.codes, q.scales.view, weight.view, bits);
        ops.dequantize(stream, out.view, nullptr, q.codes, q.scales.view, 2, bits);
        EXPECT(synchronize(stream).empty());
        for (int64_t i = 0; i < 128; i++) EXPECT(i < 96 ? std::fabs(out.get(i) - 1) < 0.01 : std::isnan(out.get(i)));
      }
}

TEST(dequantize_reads_columns) {
  for (const int64_t bits : {8, 4})
    for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {37, 33}, {130, 20}})
      for (const DType dtype : kFloats) {
        Random random(static_cast<uint64_t>(K + bits));
        Any weight(DType::f32, {K, N}), all(dtype, {N, K}), some(dtype, {2, 3, K});
        fill(weight, random);
        Quantized q(K, N, bits, 64);
        Array<int32_t> ids({2, 3});
        for (int64_t i = 0; i < 6; i++) ids[i] = static_cast<int32_t>(random.below(N));
        ops.quantize(stream, q.codes, q.scales.view, weight.view, bits);
        ops.dequantize(stream, all.view, nullptr, q.codes, q.scales.view, N, bits);
        ops.dequantize(stream, some.view, &ids, q.codes, q.scales.view, N, bits);
        EXPECT(synchronize(stream).empty());
        for (int64_t i = 0; i < N * K; i++) EXPECT(all.get(i) == converted(dtype, q.value(i % K, i / K)));
        for (int64_t i = 0; i < 6 * K; i++) EXPECT(some.get(i) == converted(dtype, q.value(i % K, ids[i / K])));
      }
}

TEST(dequantize_ids_outside) {
  Quantized q(40, 20, 8, 32);
  Array<int32_t> ids({3});
  Array<float> out({3, 40});
  ids[1] = 20;
  ops.dequantize(stream, out, &ids, q.codes, q.scales.view, 20, 8);
  EXPECT(synchronize(stream) == "ERR_RANGE: dequantize: expected ids in [0, 20), got 20 at position 1");
  ids[1] = -1;
  ops.dequantize(stream, out, &ids, q.codes, q.scales.view, 20, 8);
  EXPECT(synchronize(stream) == "ERR_RANGE: dequantize: expected ids in [0, 20), got -1 at position 1");
}

struct Case {
  int64_t M, K, N, bits, group = 32;
  DType dtype = DType::f32;
  bool bias = false, residual = false, wide = false;  // wide: parameters and out in f32 whatever the dtype
  Activation activation = Activation::none;
};

// Bound of the error of a sum of K products: that of sums in f32 (gemm_test.cc), and, where activations are cut into
// bytes, half a step each: 2^-23 of the group's largest in f32, 2^-15 in 16 bits, and a hundredth more where the
// largest is just below a power of two.
std::vector<double> check(Stream& stream, const Ops& ops, const Case& c) {
  Random random(static_cast<uint64_t>(c.M * 7919 + c.N * 104729 + c.K));
  const DType other = c.wide ? DType::f32 : c.dtype;
  Any weight(DType::f32, {c.K, c.N}), a(c.dtype, {c.M, c.K}), out(other, {c.M, c.N});
  Any bias(other, {c.N}), residual(other, {c.M, c.N});
  fill(weight, random);
  for (Any* any : {&a, &bias, &residual}) fill(*any, random);
  for (int64_t i = 0; i < c.M * c.K; i += 7) a.set(i, converted(c.dtype, a.get(i) * 1e-3));
  Quantized q(c.K, c.N, c.bits, c.group);
  ops.quantize(stream, q.codes, q.scales.view, weight.view, c.bits);
  ops.gemm_quantized(stream, out.view, a.view, q.codes, q.scales.view, c.bias ? &bias.view : nullptr,
                     c.residual ? &residual.view : nullptr, static_cast<Int>(c.activation), c.bits);
  EXPECT(synchronize(stream).empty());
  std::vector<double> got, weights(static_cast<size_t>(c.N * c.K)), row(static_cast<size_t>(c.K));
  for (int64_t n = 0; n < c.N; n++)
    for (int64_t k = 0; k < c.K; k++) weights[static_cast<size_t>(n * c.K + k)] = q.value(k, n);
  for (int64_t i = 0; i < c.M; i++) {
    for (int64_t k = 0; k < c.K; k++) row[static_cast<size_t>(k)] = a.get(i * c.K + k);
    for (int64_t n = 0; n < c.N; n++) {
      double sum = 0, size = 0, cut = 0;
      for (int64_t g = 0; g < c.K; g += c.group) {
        double largest = 0, sizes = 0;
        for (int64_t k = g; k < std::min(g + c.group, c.K); k++) {
          const double x = row[static_cast<size_t>(k)], w = weights[static_cast<size_t>(n * c.K + k)];
          sum += x * w, size += std::fabs(x * w);
          largest = std::max(largest, std::fabs(x)), sizes += std::fabs(w);
        }
        cut += largest * sizes;
      }
      if (c.bias) sum += bias.get(n), size += std::fabs(bias.get(n));
      double allowed = static_cast<double>(c.K + 8) * 0x1p-24 * size;
      allowed += 1.01 * cut * (c.dtype == DType::f32 ? 0x1p-23 : 0x1p-15);
      double value = activate(c.activation, sum);
      allowed = 1.13 * allowed + (c.activation == Activation::none ? 0 : 2.5e-6 * std::fabs(value) + 1e-7);
      if (c.residual) value += residual.get(i * c.N + n), allowed += 0x1p-22 * (std::fabs(value) + 1);
      const double unit = other == DType::f32 ? 0x1p-24 : other == DType::bf16 ? 0x1p-8 : 0x1p-11;
      allowed += 1.01 * unit * (std::fabs(value) + allowed) + (other == DType::f16 ? 0x1p-25 : 0);
      got.push_back(out.get(i * c.N + n));
      if (!(std::fabs(got.back() - value) <= allowed)) {
        report("[%lld, %lld] of %lldx%lldx%lld in %s, %lld bits, groups of %lld: got %.9g, expected %.9g to %.2g",
               static_cast<long long>(i), static_cast<long long>(n), static_cast<long long>(c.M),
               static_cast<long long>(c.K), static_cast<long long>(c.N), name_of(c.dtype),
               static_cast<long long>(c.bits), static_cast<long long>(c.group), got.back(), value, allowed);
        return got;
      }
    }
  }
  return got;
}

TEST(gemm_quantized_sizes) {
  for (const int64_t bits : {8, 4})
    for (const DType dtype : kFloats)
      for (const int64_t M : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33})
        for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 17}, {33, 33}, {100, 16}, {64, 70}})
          check(stream, ops, {M, K, N, bits, 32, dtype});
  for (const int64_t group : {64, 128, 256})
    for (const int64_t bits : {8, 4}) check(stream, ops, {5, 300, 40, bits, group});
  check(stream, ops, {600, 520, 40, 8, 32});  // blocks of rows
}

TEST(gemm_quantized_every_epilogue) {
  for (const DType dtype : kFloats)
    for (const int64_t bits : {8, 4})
      for (int flags = 0; flags < 8; flags++)
        for (const auto activation : {Activation::none, Activation::relu, Activation::gelu_tanh, Activation::gelu_erf,
                                      Activation::silu, Activation::sigmoid}) {
          Case c{3, 40, 35, bits, 32, dtype};
          c.bias = flags & 1, c.residual = flags & 2, c.wide = flags & 4;
          c.activation = activation;
          check(stream, ops, c);
        }
}

TEST(gemm_quantized_same_bits_for_any_number_of_threads) {
  for (const int64_t M : {1, 40}) {
    std::vector<std::vector<double>> results;
    with_thread_counts([&] { results.push_back(check(stream, ops, {M, 1100, 200, 4})); });
    EXPECT(results[0] == results[1] && results[0] == results[2]);
  }
}

// A row with a number that is not finite has no finite result; the others have.
TEST(gemm_quantized_not_finite) {
  for (const DType dtype : kFloats)
    for (const double bad : {HUGE_VAL, -HUGE_VAL, double{NAN}})
      for (const int64_t bits : {8, 4}) {
        Any weight(DType::f32, {40, 20}), a(dtype, {3, 40}), out(dtype, {3, 20});
        for (int64_t i = 0; i < 800; i++) weight.set(i, 1);
        for (int64_t i = 0; i < 120; i++) a.set(i, 1);
        a.set(79, bad);
        Quantized q(40, 20, bits, 32);
        ops.quantize(stream, q.codes, q.scales.view, weight.view, bits);
        ops.gemm_quantized(stream, out.view, a.view, q.codes, q.scales.view, nullptr, nullptr, 0, bits);
        EXPECT(synchronize(stream).empty());
        for (int64_t i = 0; i < 60; i++)
          EXPECT(i / 20 == 1 ? !std::isfinite(out.get(i)) : std::fabs(out.get(i) - 40) < 1);
      }
}

// Activations near both ends of f32 keep their products, to the bound of `check`; below 2^-95, where they are cut into
// bytes, to half of the least step, 2^-118 each, and in f32 to the least number's half.
TEST(gemm_quantized_large_and_small) {
  for (const int64_t bits : {8, 4})
    for (const float size : {0x1p-140f, 0x1p-110f, 0x1p-100f, 0x1p-90f, 0x1p100f, 0x1p120f}) {
      Random random(bits);
      Any weight(DType::f32, {32, 16});
      Array<float> a({1, 32}), out({1, 16});
      fill(weight, random);
      for (int64_t k = 0; k < 32; k++) a[k] = size * random.uniform();
      Quantized q(32, 16, bits, 32);
      ops.quantize(stream, q.codes, q.scales.view, weight.view, bits);
      ops.gemm_quantized(stream, out, a, q.codes, q.scales.view, nullptr, nullptr, 0, bits);
      EXPECT(synchronize(stream).empty());
      for (int64_t n = 0; n < 16; n++) {
        double sum = 0, terms = 0, largest = 0, weights = 0;
        for (int64_t k = 0; k < 32; k++) {
          const double x = static_cast<double>(a[k]), w = q.value(k, n);
          sum += x * w, terms += std::fabs(x * w);
          largest = std::max(largest, std::fabs(x)), weights += std::fabs(w);
        }
        const double half_a_step = cpu::int8_dot() ? std::max(1.01 * 0x1p-23 * largest, 0x1p-118) : 0;
        const double allowed = 40 * 0x1p-24 * terms + half_a_step * weights + 32 * 0x1p-150;
        if (!(std::fabs(static_cast<double>(out[n]) - sum) <= allowed))
          report("%lld bits, size %g: got %.9g, expected %.9g to %.2g", static_cast<long long>(bits),
                 static_cast<double>(size), static_cast<double>(out[n]), sum, allowed);
      }
    }
}

TEST(gemm_quantized_empty) {
  Quantized none(0, 20, 8, 32), no_columns(40, 0, 4, 32), q(40, 20, 8, 32);
  Array<float> no_depth({3, 0}), out({3, 20}), a({3, 40}), nothing({3, 0}), no_rows({0, 40}), no_out({0, 20});
  Array<float> bias({20});
  for (int64_t i = 0; i < 20; i++) bias[i] = 2;
  ops.quantize(stream, none.codes, none.scales.view, Array<float>({0, 20}), 8);
  ops.gemm_quantized(stream, out, no_depth, none.codes, none.scales.view, &bias, nullptr, 0, 8);
  ops.gemm_quantized(stream, nothing, a, no_columns.codes, no_columns.scales.view, nullptr, nullptr, 0, 4);
  ops.gemm_quantized(stream, no_out, no_rows, q.codes, q.scales.view, nullptr, nullptr, 0, 8);
  ops.dequantize(stream, Array<float>({20, 0}), nullptr, none.codes, none.scales.view, 20, 8);
  EXPECT(synchronize(stream).empty());
  for (int64_t i = 0; i < 60; i++) EXPECT(out[i] == 2);
}

TEST(quantized_errors) {
  Quantized q(40, 20, 8, 32);
  Array<float> out({3, 20}), a({3, 40}), weight({40, 20}), wrong({3, 41}), bias({21}), flat({40});
  Array<int32_t> ids({3});
  const auto is = [](const std::string& got, const char* expected) {
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const auto quantize = [&](In codes, In scales, In w, Int bits) {
    return error_of([&] { ops.quantize(stream, codes, scales, w, bits); });
  };
  const auto product = [&](In y, In x, In codes, In scales, OptIn b, Int activation, Int bits) {
    return error_of([&] { ops.gemm_quantized(stream, y, x, codes, scales, b, nullptr, activation, bits); });
  };
  is(quantize(q.codes, q.scales.view, weight, 5), "ERR_ARGUMENT: quantize: expected bits of 8 or 4, got 5");
  is(quantize(q.codes, q.scales.view, flat, 8),
     "ERR_SHAPE: quantize: expected weight with 2 dimensions, got shape [40]");
  is(quantize(weight, q.scales.view, weight, 8), "ERR_DTYPE: quantize: expected codes of dtype u8, got f32");
  is(quantize(q.codes, weight, weight, 8), "ERR_DTYPE: quantize: expected scales of dtype bf16, got f32");
  is(quantize(q.codes, q.scales.view, ids, 8),
     "ERR_DTYPE: quantize: expected weight of dtype f32, bf16 or f16, got i32");
  is(quantize(q.codes, q.scales.view, wrong, 8),
     "ERR_SHAPE: quantize: expected scales of shape [3, 1, 16], got [2, 2, 16]");
  is(product(out, wrong, q.codes, q.scales.view, nullptr, 0, 4),
     "ERR_SHAPE: gemm_quantized: expected scales of shape [2, 1, 16], got [2, 2, 16]");
  is(product(out, a, q.codes, q.scales.view, &bias, 0, 8),
     "ERR_SHAPE: gemm_quantized: expected bias of shape [20], got [21]");
  is(product(wrong, a, q.codes, q.scales.view, nullptr, 0, 8),
     "ERR_SHAPE: gemm_quantized: expected scales of shape [3, 2, 16], got [2, 2, 16]");
  is(product(out, a, q.codes, q.scales.view, nullptr, 9, 8),
     "ERR_ARGUMENT: gemm_quantized: expected an activation from 0 to 5, got 9");
  is(error_of([&] { ops.dequantize(stream, out, &ids, q.codes, q.scales.view, 20, 8); }),
     "ERR_SHAPE: dequantize: expected scales of shape [2, 1, 16], got [2, 2, 16]");
  Quantized odd(40, 20, 8, 16);
  is(quantize(odd.codes, odd.scales.view, weight, 8),
     "ERR_SHAPE: quantize: expected codes and scales of groups of 32, 64, 128 or 256, got 12 words and 3 groups");
}

}  // namespace
}  // namespace heed::test
