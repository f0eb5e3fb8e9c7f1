// gemm and bias_backward against products in double: every transpose, layout, epilogue and path, and the same bits for
// any number of threads.
#include <algorithm>
#include <array>

#include "gemm_reference.h"

namespace heed::test::gemm {
namespace {

constexpr Layout kTransposes[] = {Layout::contiguous, Layout::transposed};
constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

// The case in another dtype.
Case of(DType dtype, Case c, bool wide = false) {
  c.dtype = dtype;
  c.wide = wide;
  return c;
}

TEST(gemm_sizes_in_every_transpose) {
  const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 29, 31, 32, 33, 63, 65, 129};
  Random random(3);
  const auto any = [&] { return sizes[random.below(sizeof sizes / sizeof *sizes)]; };
  for (const DType dtype : kFloats)
    for (int i = 0; i < (dtype == DType::f32 ? 150 : 40); i++)
      for (const Layout a : kTransposes)
        for (const Layout b : kTransposes) check(stream, ops, of(dtype, {{}, any(), any(), any(), a, b}, i % 2));
}

// Several passes over K, several blocks of rows and of columns; and few rows of a long or of a wide b.
TEST(gemm_beyond_one_block) {
  for (const Layout a : kTransposes)
    for (const Layout b : kTransposes) {
      for (const auto& [m, n, k] :
           {std::array<int64_t, 3>{257, 300, 40}, {17, 65, 2100}, {190, 33, 1030}, {33, 600, 515}})
        for (const DType dtype : kFloats) check(stream, ops, of(dtype, {{}, m, n, k, a, b}));
      for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8})
        for (const auto& [n, k] : {std::array<int64_t, 2>{1100, 67}, {70, 1030}, {1, 4097}, {515, 1}})
          for (const DType dtype : kFloats) check(stream, ops, of(dtype, {{}, m, n, k, a, b}));
    }
  // Slices of k in strips of columns.
  for (const int64_t m : {1, 2, 8})
    for (const DType dtype : kFloats) check(stream, ops, of(dtype, {{}, m, 1100, 300}));
}

TEST(gemm_any_strides) {
  for (const Layout a : kInLayouts)
    for (const Layout b : kInLayouts)
      for (const int64_t m : {1, 3, 33})
        for (const Shape& batch : {Shape{}, Shape{3}, Shape{2, 1, 3}, Shape{1, 2, 1, 2, 1, 2}})
          for (const DType dtype : kFloats) check(stream, ops, of(dtype, {batch, m, 35, 19, a, b, 3}));
}

TEST(gemm_a_batch_of_many_small_matrices) {
  for (const Layout b : kTransposes) {
    check(stream, ops, {{7, 12}, 16, 16, 64, Layout::contiguous, b});
    check(stream, ops, {{40}, 1, 64, 48, Layout::contiguous, b});
    check(stream, ops, {{3}, 65, 70, 600, Layout::contiguous, b});
  }
}

// Permuted batches: heads of a [B, T, H, D] tensor as [B, H, T, D], read and written in place.
TEST(gemm_heads_in_place) {
  constexpr int64_t B = 2, T = 19, H = 3, D = 17;
  Random random(5);
  Array<float> a({B, T, H, D}), weight({D, D}), out({B, T, H, D});
  random.fill(a);
  random.fill(weight);
  TensorView shared = weight.view;
  shared.rank = 4;
  const int64_t shape[] = {B, H, D, D}, strides[] = {0, 0, D, 1};
  std::copy_n(shape, 4, shared.shape);
  std::copy_n(strides, 4, shared.strides);
  ops.gemm(stream, permute(out, {0, 2, 1, 3}), nullptr, permute(a, {0, 2, 1, 3}), shared, nullptr, nullptr, nullptr,
           nullptr, 0, false, false, false);
  synchronize(stream);
  std::vector<double> expected;
  for (int64_t row = 0; row < B * T * H; row++)
    for (int64_t j = 0; j < D; j++) {
      double sum = 0;
      for (int64_t p = 0; p < D; p++)
        sum += static_cast<double>(a[row * D + p]) * static_cast<double>(weight[p * D + j]);
      expected.push_back(sum);
    }
  // |a|, |b| <= 1: Σ|a b| <= D.
  expect_near("out", out.values.get(), expected.data(), out.size, (D + 8) * kRounding * D, 0);
}

TEST(gemm_every_epilogue) {
  const std::array<int64_t, 3> sizes[] = {{3, 35, 20}, {3, 35, 0}, {33, 37, 20}, {33, 37, 530}, {33, 37, 0}};
  for (const auto& [m, n, k] : sizes)
    for (int flags = 0; flags < 32; flags++)
      for (const auto activation : {Activation::none, Activation::relu, Activation::gelu_tanh, Activation::gelu_erf,
                                    Activation::silu, Activation::sigmoid}) {
        Case c{{}, m, n, k};
        c.bias = flags & 1, c.residual = flags & 2, c.preact = flags & 4, c.dact = flags & 8, c.accumulate = flags & 16;
        c.activation = activation;
        c.b = flags % 3 ? Layout::contiguous : Layout::transposed;
        c.padding = flags % 2 * 5;
        check(stream, ops, c);
        // A word has two numbers of bf16, and a pass over k 512 words.
        if (k > 512) c.k = 1030;
        for (const DType dtype : {DType::bf16, DType::f16})
          if (flags % 6 == static_cast<int>(activation))
            check(stream, ops, of(dtype, c)), check(stream, ops, of(dtype, c, true));
      }
}

TEST(gemm_epilogues_of_a_batch) {
  for (const int64_t m : {2, 20})
    for (const auto& batch : {Shape{3}, Shape{2, 2}}) {
      Case c{batch, m, 33, 18, Layout::contiguous, Layout::repeated_first, 7};
      c.bias = c.residual = c.preact = c.accumulate = true;
      c.activation = Activation::gelu_erf;
      check(stream, ops, c);
    }
}

TEST(gemm_same_bits_for_any_number_of_threads) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{5, 700, 1030}, {130, 100, 1030}, {31, 33, 4100}})
    for (const Layout b : kTransposes)
      for (const bool accumulate : {false, true}) {
        Case c{{2}, m, n, k, Layout::contiguous, b};
        c.bias = true;
        c.accumulate = accumulate;
        for (const DType dtype : {DType::f32, DType::bf16}) {
          if (dtype == DType::bf16 && (m != 31 || !accumulate)) continue;
          std::vector<std::vector<char>> results;
          with_thread_counts([&] { results.push_back(check(stream, ops, of(dtype, c))); });
          EXPECT(results[0] == results[1] && results[0] == results[2]);
        }
      }
}

// A value that is not finite shows where it belongs and nowhere else: what fills up panels and vectors is never part
// of a sum that is kept.
TEST(gemm_non_finite_values_stay_in_their_row) {
  for (const DType dtype : kFloats)
    for (const int64_t m : {1, 3, 33})
      for (const Layout layout : kTransposes) {
        Any a(dtype, {m, 37}, layout), b(dtype, {37, 35}, layout), out(dtype, {m, 35});
        for (Any* any : {&a, &b})
          for (int64_t i = 0; i < any->view.numel(); i++) any->set(i, 1);
        a.set((m - 1) * 37 + 36, HUGE_VAL);
        b.set(36 * 35 + 34, NAN);
        ops.gemm(stream, out.view, nullptr, a.view, b.view, nullptr, nullptr, nullptr, nullptr, 0, false, false, false);
        synchronize(stream);
        for (int64_t i = 0; i < m; i++)
          for (int64_t j = 0; j < 35; j++) {
            const double got = out.get(i * 35 + j);
            EXPECT(j == 34 ? std::isnan(got) : i == m - 1 ? got == HUGE_VAL : got == 37);
          }
      }
}

TEST(gemm_empty) {
  Array<float> row({0, 5}), column({5, 0}), a({4, 5}), batch_a({0, 4, 5}), batch_b({0, 5, 3}), batch_out({0, 4, 3});
  Array<float> no_rows({0, 3}), no_columns({4, 0}), b({5, 3}), bias({0});
  ops.gemm(stream, no_rows, nullptr, row, b, nullptr, nullptr, nullptr, nullptr, 0, false, true, false);
  ops.gemm(stream, no_columns, nullptr, a, column, &bias, nullptr, nullptr, nullptr, 1, false, false, false);
  ops.gemm(stream, batch_out, nullptr, batch_a, batch_b, nullptr, nullptr, nullptr, nullptr, 0, false, false, false);
  EXPECT(synchronize(stream).empty());
}

TEST(gemm_errors) {
  Array<float> out({4, 3}), a({4, 5}), b({5, 3}), bias({3}), flat({3}), other({3, 4}), wide({4, 6}), deep({2, 4, 3});
  Array<int32_t> ids({4, 3}), ids_a({4, 5}), ids_b({5, 3}), ids_bias({3});
  TensorView stepped = wide.view;
  stepped.shape[1] = 3;
  stepped.strides[1] = 2;
  TensorView uneven = deep.view;
  uneven.shape[0] = 1;
  const auto error = [&](Out o, In x, In y, OptIn v, OptIn r, OptOut p, OptIn d, Int activation = 0) {
    return error_of([&] { ops.gemm(stream, o, nullptr, x, y, v, r, p, d, activation, false, false, false); });
  };
  const auto starts = [](const std::string& text, const char* with) { return text.rfind(with, 0) == 0; };
  EXPECT(error(flat, a, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected out with at least 2 dimensions, got shape [3]");
  EXPECT(error(out, flat, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected a with 2 dimensions, got shape [3]");
  EXPECT(error(out, a, deep, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected b with 2 dimensions, got shape [2, 4, 3]");
  EXPECT(error(ids, a, b, nullptr, nullptr, nullptr, nullptr) == "ERR_DTYPE: gemm: expected out of dtype f32, got i32");
  EXPECT(error(out, ids_a, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_DTYPE: gemm: expected a of dtype f32, bf16 or f16, got i32");
  EXPECT(error(out, a, ids_b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_DTYPE: gemm: expected b of a's dtype f32, got i32");
  EXPECT(
      error(out, other, b, nullptr, nullptr, nullptr, nullptr) ==
      "ERR_SHAPE: gemm: expected a [..., 4, K] and b [..., K, 3] with the leading sizes of out, got [3, 4] and [5, 3]");
  EXPECT(starts(error(out, a, other, nullptr, nullptr, nullptr, nullptr), "ERR_SHAPE: gemm: expected a [..., 4, K]"));
  EXPECT(starts(error(out, a, a, nullptr, nullptr, nullptr, nullptr), "ERR_SHAPE: gemm: expected a [..., 4, K]"));
  EXPECT(starts(error(deep, uneven, uneven, nullptr, nullptr, nullptr, nullptr),
                "ERR_SHAPE: gemm: expected a [..., 4, K]"));
  EXPECT(error(stepped, a, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected out to be contiguous in its last dimension, got a stride of 2");
  EXPECT(error(out, a, b, &other, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected bias of shape [3], got [3, 4]");
  EXPECT(error(out, a, b, &ids_bias, nullptr, nullptr, nullptr) ==
         "ERR_DTYPE: gemm: expected bias of dtype f32, got i32");
  EXPECT(error(out, a, b, nullptr, &ids, nullptr, nullptr) ==
         "ERR_DTYPE: gemm: expected residual of dtype f32, got i32");
  EXPECT(error(out, a, b, nullptr, &other, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected residual of shape [4, 3], got [3, 4]");
  EXPECT(error(out, a, b, nullptr, nullptr, &stepped, nullptr) ==
         "ERR_SHAPE: gemm: expected preact to be contiguous in its last dimension, got a stride of 2");
  EXPECT(error(out, a, b, nullptr, nullptr, nullptr, &other) ==
         "ERR_SHAPE: gemm: expected dact_preact of shape [4, 3], got [3, 4]");
  for (const Int activation : {Int{-1}, Int{6}})
    EXPECT(error(out, a, b, nullptr, nullptr, nullptr, nullptr, activation) ==
           "ERR_ARGUMENT: gemm: expected an activation from 0 to 5, got " + std::to_string(activation));
}

// Tolerance: chunks of a fixed number of rows are summed in f32, chunks in f64; rows · 2^-24 · Σ|x| bounds both.
TEST(bias_backward_sums_rows) {
  for (const int64_t rows : {0, 1, 2, 7, 127, 128, 129, 1000, 4097})
    for (const int64_t width : {1, 3, 16, 17, 33, 65, 130})
      for (const bool accumulate : {false, true}) {
        Random random(static_cast<uint64_t>(rows + width));
        Array<float> dout({rows, width}), dbias({width});
        random.fill(dout);
        random.fill(dbias);
        std::vector<double> expected(static_cast<size_t>(width), 0.0);
        for (int64_t c = 0; c < width; c++) {
          double sum = accumulate ? static_cast<double>(dbias[c]) : 0;
          for (int64_t r = 0; r < rows; r++) sum += static_cast<double>(dout[r * width + c]);
          expected[static_cast<size_t>(c)] = sum;
        }
        ops.bias_backward(stream, dbias, dout, accumulate);
        synchronize(stream);
        // 128 is the longest f32 sum; Σ|x| <= rows.
        const double terms = static_cast<double>(std::min<int64_t>(rows, 128));
        expect_near("dbias", dbias.values.get(), expected.data(), width, terms * kRounding * static_cast<double>(rows),
                    kRounding);
      }
}

TEST(bias_backward_same_bits_for_any_number_of_threads) {
  Random random(9);
  Array<float> dout({3, 700, 257}), dbias({257});
  random.fill(dout);
  std::vector<std::vector<float>> results;
  with_thread_counts([&] {
    ops.bias_backward(stream, dbias, dout, false);
    synchronize(stream);
    results.emplace_back(dbias.values.get(), dbias.values.get() + dbias.size);
  });
  EXPECT(results[0] == results[1] && results[0] == results[2]);
}

TEST(bias_backward_errors) {
  Array<float> scalar(Shape{}), dout({4, 3}), dbias({3}), wrong({4}), empty({4, 0}), nothing({0});
  Array<int32_t> ids({4, 3}), ids_bias({3});
  const auto error = [&](Out out, In inp) { return error_of([&] { ops.bias_backward(stream, out, inp, false); }); };
  EXPECT(error(dbias, scalar) == "ERR_SHAPE: bias_backward: expected dout with at least 1 dimension, got shape []");
  EXPECT(error(wrong, dout) == "ERR_SHAPE: bias_backward: expected dbias of shape [3], got [4]");
  EXPECT(error(dbias, ids) == "ERR_DTYPE: bias_backward: expected dout of dtype f32, bf16 or f16, got i32");
  EXPECT(error(ids_bias, dout) == "ERR_DTYPE: bias_backward: expected dbias of dtype f32, got i32");
  EXPECT(error(dbias, permute(dout, {1, 0})).rfind("ERR_SHAPE: bias_backward: expected dout to be contiguous", 0) == 0);
  EXPECT(error(nothing, empty).empty());
}

}  // namespace
}  // namespace heed::test::gemm
