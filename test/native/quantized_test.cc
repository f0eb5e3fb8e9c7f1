// Tests quantize, dequantize, gemm_quantized and its backward: awkward sizes in every dtype and size of groups, every
// epilogue, any number of rows, ids outside the table, and every error.
#include "core/quantized.h"
#include "core/kinds.h"
#include "sweep.h"

namespace heed::test {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

Operand codes(int64_t K, int64_t N, int64_t bits, int64_t group) {
  return {{(N + 15) / 16, (K + group - 1) / group * group * bits / 32, 64}, DType::u8, Layout::contiguous, 0, 256};
}
Operand scales(int64_t K, int64_t N, int64_t group) {
  return {{(N + 15) / 16, (K + group - 1) / group, 16}, DType::bf16};
}

TEST(quantize_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t bits : {8, 4})
      for (const int64_t group : {32, 64, 256})
        for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 17}, {300, 33}, {64, 16}})
          for (const DType dtype : kFloats)
            for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::stepped})
              s.check("quantize", 2, {codes(K, N, bits, group), scales(K, N, group), {{K, N}, dtype, layout}},
                      [&](const Views& v) { ops.quantize(stream, v[0], v[1], v[2], bits); });
  });
}

TEST(dequantize_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t bits : {8, 4})
      for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {37, 33}, {130, 20}})
        for (const DType dtype : kFloats) {
          const int64_t columns = N;
          s.check("dequantize", 1, {{{N, K}, dtype}, codes(K, N, bits, 64), scales(K, N, 64)},
                  [&](const Views& v) { ops.dequantize(stream, v[0], nullptr, v[1], v[2], columns, bits); });
          s.check("dequantize", 1, {{{2, 3, K}, dtype}, codes(K, N, bits, 64), scales(K, N, 64), integers({2, 3}, N)},
                  [&](const Views& v) { ops.dequantize(stream, v[0], &v[3], v[1], v[2], columns, bits); });
        }
  });
}

struct Case {
  int64_t M, K, N, bits, group = 32;
  DType dtype = DType::f32;
  bool bias = false, residual = false, wide = false;  // wide: parameters and out are f32 for every dtype
  bool preact = false;
  Int activation = 0;
};

void check(Sweep& s, Stream& stream, const Ops& ops, const Case& c) {
  const DType other = c.wide ? DType::f32 : c.dtype;
  s.check("gemm_quantized", c.preact ? 2 : 1,
          {{{c.M, c.N}, other},
           {{c.M, c.N}, c.dtype},
           {{c.M, c.K}, c.dtype},
           codes(c.K, c.N, c.bits, c.group),
           scales(c.K, c.N, c.group),
           {{c.N}, other},
           {{c.M, c.N}, other}},
          [&](const Views& v) {
            ops.gemm_quantized(stream, v[0], v[2], v[3], v[4], c.bias ? &v[5] : nullptr, c.residual ? &v[6] : nullptr,
                               c.preact ? &v[1] : nullptr, c.activation, 24, c.bits);
          });
}

TEST(gemm_quantized_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t bits : {8, 4}) {
      for (const DType dtype : kFloats)
        for (const int64_t M : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33})
          for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 17}, {33, 33}, {100, 16}, {64, 70}})
            check(s, stream, ops, {M, K, N, bits, 32, dtype});
      for (const int64_t group : {64, 128, 256}) check(s, stream, ops, {5, 300, 40, bits, group});
    }
    check(s, stream, ops, {600, 520, 40, 8, 32});  // blocks of rows
    for (const int64_t M : {1, 40}) check(s, stream, ops, {M, 1100, 200, 4});
    for (const int64_t bits : {8, 4})  // runs of four panels, and of two at the end
      for (const DType dtype : kFloats) check(s, stream, ops, {1, 70, 1000, bits, 32, dtype});
  });
}

TEST(gemm_quantized_every_epilogue) {
  sweep(stream, [&](Sweep& s) {
    for (const DType dtype : kFloats)
      for (const int64_t bits : {8, 4})
        for (int flags = 0; flags < 8; flags++)
          for (Int activation = 0; activation < kActivations; activation++)
            check(s, stream, ops,
                  {3, 40, 35, bits, 32, dtype, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0,
                   activation % 2 != 0, activation});
  });
}

TEST(gemm_quantized_backward_sizes) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](int64_t M, int64_t K, int64_t N, int64_t bits, int64_t group, DType dtype) {
      s.check_accumulating("gemm_quantized_backward", 1,
                           {{{M, K}, dtype}, {{M, N}, dtype}, codes(K, N, bits, group), scales(K, N, group)},
                           [&](const Views& v, bool accumulate) {
                             ops.gemm_quantized_backward(stream, v[0], v[1], v[2], v[3], accumulate, bits);
                           });
    };
    for (const int64_t bits : {8, 4}) {
      for (const DType dtype : kFloats)
        for (const int64_t M : {1, 2, 9, 33})
          for (const auto& [K, N] : {std::pair<int64_t, int64_t>{1, 1}, {31, 17}, {33, 33}, {100, 16}, {64, 70}})
            check(M, K, N, bits, 32, dtype);
      for (const int64_t group : {64, 128, 256}) check(5, 300, 40, bits, group, DType::f32);
      // More rows than are packed at once, and more than one pass over N, to the first of which an old value is added.
      for (const DType dtype : kFloats)
        for (const bool accumulate : {false, true})
          s.check(
              "gemm_quantized_backward", 1,
              {{{190, 70}, dtype}, {{190, 1100}, dtype}, codes(70, 1100, bits, 32), scales(70, 1100, 32)},
              [&](const Views& v) { ops.gemm_quantized_backward(stream, v[0], v[1], v[2], v[3], accumulate, bits); });
    }
  });
}

// Inputs of the tests of errors.
struct Quantized {
  Array<uint8_t> codes;
  Array<float> memory;
  TensorView scales;
  Quantized(int64_t K, int64_t N, int64_t bits, int64_t group)
      : codes({(N + 15) / 16, (K + group - 1) / group * group * bits / 32, 64}),
        memory({(N + 15) / 16, (K + group - 1) / group, 16}),
        scales(memory) {
    scales.dtype = DType::bf16;
  }
};

TEST(dequantize_ids_outside) {
  Quantized q(40, 20, 8, 32);
  Array<int32_t> ids({3});
  Array<float> out({3, 40});
  ids[1] = 20;
  ops.dequantize(stream, out, &ids, q.codes, q.scales, 20, 8);
  EXPECT(synchronize(stream) == "ERR_RANGE: dequantize: expected ids in [0, 20), got 20 at position 1");
  ids[1] = -1;
  ops.dequantize(stream, out, &ids, q.codes, q.scales, 20, 8);
  EXPECT(synchronize(stream) == "ERR_RANGE: dequantize: expected ids in [0, 20), got -1 at position 1");
}

TEST(gemm_quantized_empty) {
  Quantized none(0, 20, 8, 32), no_columns(40, 0, 4, 32), q(40, 20, 8, 32);
  Array<float> no_depth({3, 0}), out({3, 20}), a({3, 40}), nothing({3, 0}), no_rows({0, 40}), no_out({0, 20});
  Array<float> bias({20});
  for (int64_t i = 0; i < 20; i++) bias[i] = 2;
  ops.quantize(stream, none.codes, none.scales, Array<float>({0, 20}), 8);
  ops.gemm_quantized(stream, out, no_depth, none.codes, none.scales, &bias, nullptr, nullptr, 0, 24, 8);
  ops.gemm_quantized(stream, nothing, a, no_columns.codes, no_columns.scales, nullptr, nullptr, nullptr, 0, 24, 4);
  ops.gemm_quantized(stream, no_out, no_rows, q.codes, q.scales, nullptr, nullptr, nullptr, 0, 24, 8);
  ops.dequantize(stream, Array<float>({20, 0}), nullptr, none.codes, none.scales, 20, 8);
  ops.gemm_quantized_backward(stream, no_depth, out, none.codes, none.scales, false, 8);
  ops.gemm_quantized_backward(stream, no_rows, no_out, q.codes, q.scales, false, 8);
  for (int64_t i = 0; i < 120; i++) a[i] = 1;
  ops.gemm_quantized_backward(stream, a, nothing, no_columns.codes, no_columns.scales, false, 4);
  EXPECT(synchronize(stream).empty());
  for (int64_t i = 0; i < 120; i++) EXPECT(a[i] == 0);
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
    return error_of(
        [&] { ops.gemm_quantized(stream, y, x, codes, scales, b, nullptr, nullptr, activation, 24, bits); });
  };
  is(quantize(q.codes, q.scales, weight, 5), "ERR_ARGUMENT: quantize: expected bits of 8 or 4, got 5");
  is(quantize(q.codes, q.scales, flat, 8), "ERR_SHAPE: quantize: expected weight with 2 dimensions, got shape [40]");
  is(quantize(weight, q.scales, weight, 8), "ERR_DTYPE: quantize: expected codes of dtype u8, got f32");
  is(quantize(q.codes, weight, weight, 8), "ERR_DTYPE: quantize: expected scales of dtype bf16, got f32");
  is(quantize(q.codes, q.scales, ids, 8), "ERR_DTYPE: quantize: expected weight of dtype f32, bf16 or f16, got i32");
  is(quantize(q.codes, q.scales, wrong, 8), "ERR_SHAPE: quantize: expected scales of shape [3, 1, 16], got [2, 2, 16]");
  is(product(out, wrong, q.codes, q.scales, nullptr, 0, 4),
     "ERR_SHAPE: gemm_quantized: expected scales of shape [2, 1, 16], got [2, 2, 16]");
  is(product(out, a, q.codes, q.scales, &bias, 0, 8),
     "ERR_SHAPE: gemm_quantized: expected bias of shape [20], got [21]");
  is(product(wrong, a, q.codes, q.scales, nullptr, 0, 8),
     "ERR_SHAPE: gemm_quantized: expected scales of shape [3, 2, 16], got [2, 2, 16]");
  is(product(out, a, q.codes, q.scales, nullptr, 9, 8),
     "ERR_ARGUMENT: gemm_quantized: expected an activation from 0 to 5, got 9");
  is(error_of([&] { ops.gemm_quantized(stream, out, a, q.codes, q.scales, nullptr, nullptr, &a, 0, 24, 8); }),
     "ERR_SHAPE: gemm_quantized: expected preact of shape [3, 20], got [3, 40]");
  const auto backward = [&](Out dinp, In dout, In codes, In scales) {
    return error_of([&] { ops.gemm_quantized_backward(stream, dinp, dout, codes, scales, false, 8); });
  };
  is(backward(a, ids, q.codes, q.scales),
     "ERR_DTYPE: gemm_quantized_backward: expected dout of dtype f32, bf16 or f16, got i32");
  is(backward(weight, out, q.codes, q.scales),
     "ERR_SHAPE: gemm_quantized_backward: expected dinp of shape [3, 20], got [40, 20]");
  is(backward(wrong, a, q.codes, q.scales),
     "ERR_SHAPE: gemm_quantized_backward: expected scales of shape [3, 2, 16], got [2, 2, 16]");
  is(error_of([&] { ops.dequantize(stream, out, &ids, q.codes, q.scales, 20, 8); }),
     "ERR_SHAPE: dequantize: expected scales of shape [2, 1, 16], got [2, 2, 16]");
  Quantized odd(40, 20, 8, 16);
  is(quantize(odd.codes, odd.scales, weight, 8),
     "ERR_SHAPE: quantize: expected codes and scales of groups of 32, 64, 128 or 256, got 12 words and 3 groups");
}

}  // namespace
}  // namespace heed::test
