// Operations on bf16 and f16: what they give is what they give for the same numbers in f32, rounded once by the
// definition, wherever it lies in memory; statistics and whatever else is f32 is the same bits. And every error.
#include <array>

#include "core/kinds.h"
#include "core/sampling.h"
#include "dtypes.h"

namespace heed::test {
namespace {

constexpr DType kShort[] = {DType::bf16, DType::f16};

struct Operand {
  Shape shape;
  bool is_short = true;  // otherwise f32
  Layout layout = Layout::contiguous;
};
using Views = std::vector<TensorView>;

// Numbers that rounding and comparisons treat specially, including subnormal numbers of both types.
constexpr double kSpecial[] = {NAN, HUGE_VAL, -HUGE_VAL, -0.0, 0x1p-24, 60000, -3.25};

// Runs `call` on tensors of `dtype` and on the same numbers in f32; it writes the first `outputs` of them. With
// `special`, every third number is one of those above.
void expect_twins(Stream& stream, const char* label, DType dtype, size_t outputs, const std::vector<Operand>& operands,
                  const std::function<void(const Views&)>& call, bool special = false) {
  Random random(operands.size());
  std::vector<std::unique_ptr<Any>> given, twins;
  Views given_views, twin_views;
  for (const Operand& operand : operands) {
    given.push_back(std::make_unique<Any>(operand.is_short ? dtype : DType::f32, operand.shape, operand.layout));
    twins.push_back(std::make_unique<Any>(DType::f32, operand.shape, operand.layout));
    for (int64_t i = 0; i < given.back()->view.numel(); i++) {
      const double usual = random.uniform(0.5, 2);
      const DType held = operand.is_short ? dtype : DType::f32;
      const double value = converted(held, special && random.below(3) == 0 ? kSpecial[random.below(7)] : usual);
      given.back()->set(i, value);
      twins.back()->set(i, value);
    }
    given_views.push_back(given.back()->view);
    twin_views.push_back(twins.back()->view);
  }
  call(given_views);
  call(twin_views);
  const std::string error = synchronize(stream);
  if (!error.empty()) return report("%s failed on the device: %s", label, error.c_str());
  for (size_t k = 0; k < operands.size(); k++) {
    const Any &got = *given[k], &twin = *twins[k];
    EXPECT(got.halves.gaps_are(0) && got.words.gaps_are(0));
    for (int64_t i = 0; i < got.view.numel(); i++) {
      const double exact = twin.get(i), expected = k < outputs ? converted(got.view.dtype, exact) : exact;
      if (got.get(i) == expected || (std::isnan(expected) && std::isnan(got.get(i)))) continue;
      report("%s, %s: element %lld of tensor %zu is %.9g, expected %.9g from %.9g", label, name_of(dtype),
             static_cast<long long>(i), k, got.get(i), expected, exact);
      return;
    }
  }
}

TEST(short_elementwise) {
  for (const DType dtype : kShort)
    for (const Layout out : kOutLayouts)
      for (const Layout in : kInLayouts)
        for (const bool accumulate : {false, true}) {
          const Shape shape = {3, 33, 17};
          const Operand result{shape, true, out}, operand{shape, true, in}, other{shape};
          expect_twins(stream, "unary", dtype, 1, {result, operand},
                       [&](const Views& v) { ops.unary(stream, v[0], v[1], 1); });
          expect_twins(stream, "unary_backward", dtype, 1, {result, operand, other},
                       [&](const Views& v) { ops.unary_backward(stream, v[0], v[1], v[2], 10, accumulate); });
          expect_twins(stream, "binary", dtype, 1, {result, operand, other},
                       [&](const Views& v) { ops.binary(stream, v[0], v[1], v[2], 3, accumulate); });
          expect_twins(stream, "gated", dtype, 1, {result, operand, other},
                       [&](const Views& v) { ops.gated(stream, v[0], v[1], v[2], 4); });
          expect_twins(stream, "gated_backward", dtype, 2, {result, result, operand, other, other},
                       [&](const Views& v) {
                         ops.gated_backward(stream, v[0], v[1], v[2], v[3], v[4], 4, accumulate, !accumulate);
                       });
          expect_twins(stream, "dropout", dtype, 1, {result, operand},
                       [&](const Views& v) { ops.dropout(stream, v[0], v[1], 0.25f, 7, accumulate); });
          expect_twins(stream, "reduce", dtype, 1, {{{3, 1, 17}, true, out}, operand},
                       [&](const Views& v) { ops.reduce(stream, v[0], v[1], 1, accumulate); });
          for (const bool from_short : {false, true})
            expect_twins(stream, "copy", dtype, 1, {result, {shape, from_short, in}},
                         [&](const Views& v) { ops.copy(stream, v[0], v[1], accumulate); });
        }
}

// A single f32 number, on either side, is not rounded to the tensors' type.
TEST(short_binary_with_f32_number) {
  const auto stretched = [](TensorView number, const TensorView& like) {
    number.rank = like.rank;
    for (int d = 0; d < like.rank; d++) number.shape[d] = like.shape[d], number.strides[d] = 0;
    return number;
  };
  for (const DType dtype : kShort)
    for (const Layout out : kOutLayouts)
      for (const Layout in : kInLayouts)
        for (const bool left : {false, true})
          for (Int kind = 0; kind < kBinaryKinds; kind++) {
            const Operand result{{3, 33, 17}, true, out}, operand{{3, 33, 17}, true, in}, number{{1}, false};
            expect_twins(stream, "binary with a number", dtype, 1, {result, operand, number}, [&](const Views& v) {
              const TensorView one = stretched(v[2], v[0]);
              ops.binary(stream, v[0], left ? one : v[1], left ? v[1] : one, kind, kind % 2 == 1);
            });
          }
}

// Lengths around the width of vectors, from an address to which no vector is aligned.
TEST(short_lengths) {
  const auto rest = [](TensorView view) {
    view.data = view.ptr<char>() + size_of(view.dtype);
    view.shape[0]--;
    return view;
  };
  for (const DType dtype : kShort)
    for (const int64_t n : {1, 7, 15, 17, 31, 33, 257})
      for (const bool accumulate : {false, true}) {
        const Operand x{{n + 1}};
        for (const Int kind : {0, 10, 15})
          expect_twins(
              stream, "unary", dtype, 1, {x, x},
              [&](const Views& v) { ops.unary(stream, rest(v[0]), rest(v[1]), kind); }, true);
        expect_twins(
            stream, "unary_backward", dtype, 1, {x, x, x},
            [&](const Views& v) { ops.unary_backward(stream, rest(v[0]), rest(v[1]), rest(v[2]), 5, accumulate); },
            true);
        for (const Int kind : {2, 4, 8})
          expect_twins(
              stream, "binary", dtype, 1, {x, x, x},
              [&](const Views& v) { ops.binary(stream, rest(v[0]), rest(v[1]), rest(v[2]), kind, accumulate); }, true);
        expect_twins(
            stream, "gated", dtype, 1, {x, x, x},
            [&](const Views& v) { ops.gated(stream, rest(v[0]), rest(v[1]), rest(v[2]), 1); }, true);
        expect_twins(
            stream, "gated_backward", dtype, 2, {x, x, x, x, x},
            [&](const Views& v) {
              ops.gated_backward(stream, rest(v[0]), rest(v[1]), rest(v[2]), rest(v[3]), rest(v[4]), 5, accumulate,
                                 !accumulate);
            },
            true);
        expect_twins(
            stream, "dropout", dtype, 1, {x, x},
            [&](const Views& v) { ops.dropout(stream, rest(v[0]), rest(v[1]), 0.5f, n, accumulate); }, true);
        expect_twins(stream, "softmax_forward", dtype, 1, {x, x},
                     [&](const Views& v) { ops.softmax_forward(stream, rest(v[0]), rest(v[1])); });
        expect_twins(stream, "softmax_backward", dtype, 1, {x, x, x}, [&](const Views& v) {
          ops.softmax_backward(stream, rest(v[0]), rest(v[1]), rest(v[2]), accumulate);
        });
        for (const Int kind : {0, 1, 2})
          expect_twins(stream, "reduce", dtype, 1, {{{1}}, x},
                       [&](const Views& v) { ops.reduce(stream, v[0], rest(v[1]), kind, accumulate); });
      }
}

TEST(short_lengths_of_rows) {
  constexpr int64_t kRows = 7;
  for (const DType dtype : kShort)
    for (const int64_t n : {1, 7, 15, 17, 31, 33, 257}) {
      const bool accumulate = n % 4 == 1;
      const Operand x{{kRows, n}}, statistic{{kRows}, false}, weight{{n}, accumulate};
      expect_twins(stream, "layernorm_forward", dtype, 4, {x, x, statistic, statistic, x, x, weight, weight},
                   [&](const Views& v) {
                     ops.layernorm_forward(stream, v[0], &v[1], &v[2], &v[3], v[4], &v[5], &v[6], &v[7], 1e-5f, false);
                   });
      expect_twins(stream, "RMS norm", dtype, 2, {x, statistic, x, weight}, [&](const Views& v) {
        ops.layernorm_forward(stream, v[0], nullptr, nullptr, &v[1], v[2], nullptr, &v[3], nullptr, 1e-5f, true);
      });
      expect_twins(stream, "layernorm_backward", dtype, 3, {x, weight, weight, x, x, weight, statistic, statistic},
                   [&](const Views& v) {
                     ops.layernorm_backward(stream, v[0], &v[1], &v[2], v[3], nullptr, v[4], &v[5], &v[6], v[7],
                                            accumulate, accumulate, !accumulate);
                   });
      Array<int32_t> ids({kRows}), chosen[2] = {Array<int32_t>({kRows}), Array<int32_t>({kRows})};
      for (int64_t i = 0; i < kRows; i++) ids[i] = static_cast<int32_t>(i * 5 % n);
      // In place, as in training, and with the sum of exponentials over more than one vector.
      expect_twins(stream, "cross_entropy", dtype, 2, {{{1}, false}, x}, [&](const Views& v) {
        ops.cross_entropy(stream, v[0], nullptr, &v[1], v[1], ids, 0, -1, accumulate ? 0.1f : 0, 1, false);
      });
      expect_twins(stream, "embedding_backward", dtype, 1, {{{n, 3}, accumulate}, {{kRows, 3}}},
                   [&](const Views& v) { ops.embedding_backward(stream, v[0], v[1], ids, accumulate); });
      expect_twins(stream, "bias_backward", dtype, 1, {weight, x},
                   [&](const Views& v) { ops.bias_backward(stream, v[0], v[1], accumulate); });
      int turn = 0;
      expect_twins(stream, "argmax", dtype, 0, {x}, [&](const Views& v) { ops.argmax(stream, chosen[turn++], v[0]); });
      for (int64_t i = 0; i < kRows; i++) EXPECT(chosen[0][i] == chosen[1][i]);
    }
}

TEST(short_random) {
  for (const DType dtype : kShort) {
    expect_twins(stream, "random_normal", dtype, 1, {{{5, 65}}},
                 [&](const Views& v) { ops.random_normal(stream, v[0], 1, 2, 3); });
    expect_twins(stream, "random_uniform", dtype, 1, {{{5, 65}}},
                 [&](const Views& v) { ops.random_uniform(stream, v[0], -1, 2, 3); });
  }
}

// Every choice of T or f32 for the operands that may be either, accumulated or not, including transposes. (If pairs of
// bf16 are multiplied, sums are rounded at other places than in f32.)
TEST(short_gemm) {
  for (const DType dtype : kShort)
    for (int choice = 0; choice < 32 && !(dtype == DType::bf16 && cpu::bf16_dot()); choice++) {
      const bool accumulate = choice & 8;
      const Layout layout = choice & 16 ? Layout::transposed : Layout::contiguous;
      const Shape out = {2, 33, 17};
      expect_twins(stream, "gemm", dtype, 2,
                   {{out, (choice & 1) != 0},
                    {out},
                    {{2, 33, 65}, true, layout},
                    {{2, 65, 17}, true, layout},
                    {{17}, (choice & 2) != 0},
                    {out, (choice & 4) != 0}},
                   [&](const Views& v) {
                     ops.gemm(stream, v[0], nullptr, v[2], v[3], &v[4], &v[5], &v[1], nullptr, 2, false, accumulate,
                              false, false, false);
                   });
      expect_twins(stream, "gemm with a derivative", dtype, 1,
                   {{out, (choice & 1) != 0}, {{2, 33, 5}, true, layout}, {{2, 5, 17}, true, layout}, {out}},
                   [&](const Views& v) {
                     ops.gemm(stream, v[0], nullptr, v[1], v[2], nullptr, nullptr, nullptr, &v[3], 2, false, accumulate,
                              false, false, false);
                   });
    }
}

TEST(short_bias_backward) {
  for (const DType dtype : kShort)
    for (const bool is_short : {false, true})
      for (const bool accumulate : {false, true})
        for (const int64_t rows : {1, 7, 300})
          expect_twins(stream, "bias_backward", dtype, 1, {{{65}, is_short}, {{3, rows, 65}}},
                       [&](const Views& v) { ops.bias_backward(stream, v[0], v[1], accumulate); });
}

// Packed queries, keys and values, and packed gradients: each is a window, and the others must stay unchanged.
TEST(short_attention) {
  constexpr int64_t B = 2, T = 35, H = 2, D = 17;
  const auto cut = [](TensorView packed, int64_t part) {
    packed.rank = 4;
    packed.shape[2] = H;
    packed.shape[3] = D;
    packed.strides[2] = D;
    packed.strides[3] = 1;
    packed.data = packed.ptr<char>() + part * H * D * static_cast<int64_t>(size_of(packed.dtype));
    return packed;
  };
  for (const DType dtype : kShort) {
    if (dtype == DType::bf16 && cpu::bf16_dot()) continue;  // products of bf16, and probabilities rounded to it
    const Operand packed{{B, T, 3 * H * D}}, rows{{B, T, H, D}}, lse{{B, H, T}, false};
    expect_twins(stream, "attention_forward", dtype, 2, {rows, lse, packed}, [&](const Views& v) {
      ops.attention_forward(stream, v[0], &v[1], cut(v[2], 0), cut(v[2], 1), cut(v[2], 2), nullptr, nullptr, nullptr,
                            nullptr, nullptr, nullptr, nullptr, nullptr, true, 20, 5, 0.3f, 0.1f, 5, nullptr, 0);
    });
    expect_twins(stream, "attention_backward", dtype, 1, {packed, packed, rows, rows, lse}, [&](const Views& v) {
      ops.attention_backward(stream, cut(v[0], 0), cut(v[0], 1), cut(v[0], 2), v[2], cut(v[1], 0), cut(v[1], 1),
                             cut(v[1], 2), v[3], v[4], nullptr, nullptr, nullptr, nullptr, true, 20, 5, 0.3f, 0.1f, 5,
                             nullptr, 0);
    });
  }
}

// Decoding: one row or a few rows of each sequence, without lse.
TEST(short_attention_of_few_rows) {
  constexpr int64_t B = 2, H = 4, Hkv = 2, D = 17;
  for (const DType dtype : kShort) {
    if (dtype == DType::bf16 && cpu::bf16_dot()) continue;  // as above: few rows have the bits of many
    for (const int64_t T : {1, 2})
      for (const int64_t keys : {1, 35, 600}) {
        const Operand rows{{B, T, H, D}}, cache{{B, keys, Hkv, D}};
        expect_twins(
            stream, "attention_forward of few rows", dtype, 1, {rows, rows, cache, cache}, [&](const Views& v) {
              ops.attention_forward(stream, v[0], nullptr, v[1], v[2], v[3], nullptr, nullptr, nullptr, nullptr,
                                    nullptr, nullptr, nullptr, nullptr, true, 0, 0, 0.3f, 0, 0, nullptr, 0);
            });
      }
  }
}

TEST(short_rotary) {
  for (const DType dtype : kShort)
    for (const bool accumulate : {false, true})
      for (const bool interleaved : {false, true})
        expect_twins(stream, "rotary", dtype, 1, {{{2, 7, 3, 37}}, {{2, 7, 3, 37}}, {{7, 17, 2}, false}},
                     [&](const Views& v) {
                       ops.rotary(stream, v[0], v[1], v[2], nullptr, nullptr, interleaved, false, accumulate);
                     });
}

TEST(short_rows) {
  const Shape rows = {3, 5}, x = {3, 5, 65};
  for (const DType dtype : kShort)
    for (int choice = 0; choice < 16; choice++) {
      const bool weights = choice & 1, a = choice & 2, b = choice & 4, c = choice & 8;
      const Operand weight{{65}, weights};
      expect_twins(stream, "softmax_forward", dtype, 1, {{x}, {x}},
                   [&](const Views& v) { ops.softmax_forward(stream, v[0], v[1]); });
      expect_twins(stream, "softmax_backward", dtype, 1, {{x}, {x}, {x}},
                   [&](const Views& v) { ops.softmax_backward(stream, v[0], v[1], v[2], a); });
      expect_twins(stream, "layernorm_forward", dtype, 4,
                   {{x}, {x}, {rows, false}, {rows, false}, {x}, {x}, weight, weight}, [&](const Views& v) {
                     ops.layernorm_forward(stream, v[0], &v[1], &v[2], &v[3], v[4], &v[5], &v[6], &v[7], 1e-5f, false);
                   });
      expect_twins(stream, "layernorm_backward", dtype, 3,
                   {{x}, weight, {{65}, !weights}, {x}, {x}, {x}, weight, {rows, false}, {rows, false}},
                   [&](const Views& v) {
                     ops.layernorm_backward(stream, v[0], &v[1], &v[2], v[3], &v[4], v[5], &v[6], &v[7], v[8], a, b, c);
                   });
    }
}

TEST(short_embedding_and_loss) {
  Array<int32_t> ids({2, 4}), targets({8});
  for (int64_t i = 0; i < 8; i++) {
    ids[i] = static_cast<int32_t>(i * 5 % 7);
    targets[i] = i == 3 ? -100 : static_cast<int32_t>(i * 11 % 65);
  }
  for (const DType dtype : kShort)
    for (const bool table : {false, true})
      for (const bool accumulate : {false, true}) {
        expect_twins(stream, "embedding_forward", dtype, 1, {{{2, 4, 33}}, {{7, 33}, table}},
                     [&](const Views& v) { ops.embedding_forward(stream, v[0], ids, v[1]); });
        expect_twins(stream, "embedding_backward", dtype, 1, {{{7, 33}, table}, {{2, 4, 33}}},
                     [&](const Views& v) { ops.embedding_backward(stream, v[0], v[1], ids, accumulate); });
        expect_twins(stream, "cross_entropy", dtype, 3, {{{1}, false}, {{8}, false}, {{8, 65}}, {{8, 65}}},
                     [&](const Views& v) {
                       ops.cross_entropy(stream, v[0], &v[1], &v[2], v[3], targets, 0, -100, 0.1f, 1, false);
                     });
      }
}

TEST(short_choice_of_tokens) {
  for (const DType dtype : kShort) {
    Array<int32_t> ids[2] = {Array<int32_t>({3}), Array<int32_t>({3})}, offsets({3});
    Array<int32_t> tops[2] = {Array<int32_t>({3, 4}), Array<int32_t>({3, 4})};
    for (int64_t i = 0; i < 3; i++) offsets[i] = static_cast<int32_t>(i);
    // Penalties, temperature, top-p, min-p and typical-p that change nothing, and top-k and the seed.
    Array<float> numbers({3, kSamplingNumbers});
    Array<int32_t> integers({3, kSamplingIntegers});
    for (int64_t i = 0; i < 3 * kSamplingNumbers; i++)
      numbers[i] = std::array{1.f, 0.f, 0.f, 1.f, 1.f, 0.f, 1.f}[static_cast<size_t>(i % kSamplingNumbers)];
    int turn = 0;
    expect_twins(stream, "topk", dtype, 1, {{{3, 4}}, {{3, 99}}},
                 [&](const Views& v) { ops.topk(stream, v[0], tops[turn++], v[1]); });
    for (int64_t i = 0; i < 12; i++) EXPECT(tops[0][i] == tops[1][i]);
    turn = 0;
    expect_twins(stream, "argmax", dtype, 0, {{{3, 99}}},
                 [&](const Views& v) { ops.argmax(stream, ids[turn++], v[0]); });
    for (int64_t i = 0; i < 3; i++) EXPECT(ids[0][i] == ids[1][i]);
    turn = 0;
    expect_twins(stream, "sample", dtype, 0, {{{3, 99}}}, [&](const Views& v) {
      ops.sample(stream, ids[turn++], nullptr, v[0], nullptr, nullptr, nullptr, nullptr, offsets, numbers, integers);
    });
    for (int64_t i = 0; i < 3; i++) EXPECT(ids[0][i] == ids[1][i]);
  }
}

TEST(short_empty) {
  for (const DType dtype : kShort) {
    expect_twins(stream, "unary", dtype, 1, {{{0, 5}}, {{0, 5}}},
                 [&](const Views& v) { ops.unary(stream, v[0], v[1], 1); });
    expect_twins(stream, "gemm", dtype, 1, {{{4, 3}}, {{4, 0}}, {{0, 3}}}, [&](const Views& v) {
      ops.gemm(stream, v[0], nullptr, v[1], v[2], nullptr, nullptr, nullptr, nullptr, 0, false, false, false, false,
               false);
    });
    expect_twins(stream, "bias_backward", dtype, 1, {{{5}}, {{0, 5}}},
                 [&](const Views& v) { ops.bias_backward(stream, v[0], v[1], false); });
  }
}

TEST(short_leaves_no_memory) {
  const int64_t before = stream.allocator().stats().live;
  Any out(DType::bf16, {3, 5}), inp(DType::bf16, {3, 5}), weight(DType::bf16, {5}), wrong(DType::bf16, {4});
  const auto norm = [&](const TensorView& parameter) {
    ops.layernorm_forward(stream, out.view, nullptr, nullptr, nullptr, inp.view, nullptr, &parameter, nullptr, 1e-5f,
                          false);
  };
  norm(weight.view);
  EXPECT(stream.allocator().stats().live == before);
  EXPECT(!error_of([&] { norm(wrong.view); }).empty());
  EXPECT(stream.allocator().stats().live == before);
  synchronize(stream);
}

TEST(short_errors) {
  Any b(DType::bf16, {2, 3}), h(DType::f16, {2, 3}), f(DType::f32, {2, 3}), i(DType::i32, {2, 3});
  Any rows(DType::bf16, {2}), floats(DType::f32, {2}), width(DType::bf16, {3}), halves(DType::f16, {3});
  Any square(DType::bf16, {3, 3}), weight(DType::f32, {3, 3});
  const auto expect = [](const char* message, const std::function<void()>& call) {
    const std::string got = error_of(call);
    if (got != message) report("expected \"%s\", got \"%s\"", message, got.c_str());
  };
  expect("ERR_DTYPE: unary: expected inp of dtype bf16, got f16", [&] { ops.unary(stream, b.view, h.view, 1); });
  expect("ERR_DTYPE: binary: expected b of dtype bf16, got f32",
         [&] { ops.binary(stream, b.view, b.view, f.view, 0, false); });
  expect("ERR_DTYPE: binary: expected a of dtype bf16 or f32, got i32",
         [&] { ops.binary(stream, b.view, i.view, b.view, 0, false); });
  expect("ERR_DTYPE: layernorm_forward: expected mean of dtype f32, got bf16", [&] {
    ops.layernorm_forward(stream, b.view, nullptr, &rows.view, &floats.view, b.view, nullptr, nullptr, nullptr, 1e-5f,
                          false);
  });
  expect("ERR_DTYPE: layernorm_forward: expected weight of dtype bf16 or f32, got f16", [&] {
    ops.layernorm_forward(stream, b.view, nullptr, nullptr, nullptr, b.view, nullptr, &halves.view, nullptr, 1e-5f,
                          false);
  });
  expect("ERR_DTYPE: gemm: expected bias of dtype f32, got bf16", [&] {
    ops.gemm(stream, f.view, nullptr, f.view, weight.view, &width.view, nullptr, nullptr, nullptr, 0, false, false,
             false, false, false);
  });
  expect("ERR_DTYPE: argmax: expected ids of dtype i32, got f32", [&] { ops.argmax(stream, floats.view, b.view); });
  expect("ERR_SHAPE: unary: expected inp of shape [2, 3], got [3, 3]",
         [&] { ops.unary(stream, b.view, square.view, 1); });
  TensorView repeated = b.view;
  repeated.strides[0] = 0;
  expect("ERR_SHAPE: unary_backward: expected dinp without broadcast dimensions, got a stride of 0 in shape [2, 3]",
         [&] { ops.unary_backward(stream, repeated, b.view, b.view, 1, true); });
}

}  // namespace
}  // namespace heed::test
