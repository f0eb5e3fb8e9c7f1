// gemm and bias_backward against products in double: every transpose, layout, epilogue and path, and the same bits for
// any number of threads.
//
// Tolerance: the sum of K products in f32, in any order, is off by at most K · 2^-24 · Σ|a b| to first order (Higham,
// Accuracy and Stability of Numerical Algorithms, 3.1); each later addition adds 2^-24 of the terms so far, hence the
// K + 8. An activation multiplies that by its slope, at most 1.13, and is itself good to kActivation (activation_test).
#include <algorithm>
#include <array>

#include "activations.h"
#include "dtypes.h"

namespace heed::test {
namespace {

constexpr double kRounding = 0x1p-24, kActivation = 2.5e-6;

// Rows further apart than they are long, for operands that may be so.
struct Padded : Any {
  Padded(DType dtype, Shape shape, int64_t padding) : Any(dtype, widened(shape, padding)) {
    view.shape[view.rank - 1] -= padding;
  }
  static Shape widened(Shape shape, int64_t padding) {
    shape.back() += padding;
    return shape;
  }
  // Its memory, gaps included.
  std::vector<char> copy() const {
    const char* first = static_cast<const char*>(view.data);
    return {first, first + static_cast<size_t>(bytes.memory.size) * size_of(view.dtype)};
  }
};

// Random numbers that the dtype holds.
void fill(Any& any, Random& random, float low = -1, float high = 1) {
  const TensorView view = any.view;
  any.view.rank = 1, any.view.shape[0] = any.bytes.memory.size, any.view.strides[0] = 1;
  for (int64_t i = 0; i < any.bytes.memory.size; i++)
    any.set(i, converted(view.dtype, static_cast<double>(random.uniform(low, high))));
  any.view = view;
}

double rounding_of(DType dtype) { return dtype == DType::f32 ? 0 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-11; }

using Arrays = std::vector<std::reference_wrapper<Array<float>>>;

struct Case {
  Shape batch;
  int64_t m, n, k;
  Layout a = Layout::contiguous, b = Layout::contiguous;
  int64_t padding = 0;  // of the rows of out, residual, preact and dact_preact
  bool bias = false, residual = false, preact = false, dact = false;
  Activation activation = Activation::none;
  bool accumulate = false;
  DType dtype = DType::f32;
  bool wide = false;  // out, bias and residual are f32 all the same
};

Shape with(Shape shape, int64_t rows, int64_t columns) {
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

// Runs the case and compares out and preact; returns out's memory, gaps included.
std::vector<char> check(Stream& stream, const Ops& ops, const Case& c) {
  Random random(static_cast<uint64_t>(c.m * 7919 + c.n * 104729 + c.k));
  const Shape shape = with(c.batch, c.m, c.n);
  const DType mixed = c.wide ? DType::f32 : c.dtype;
  Any a(c.dtype, with(c.batch, c.m, c.k), c.a), b(c.dtype, with(c.batch, c.k, c.n), c.b), bias(mixed, {c.n});
  Padded out(mixed, shape, c.padding), residual(mixed, shape, c.padding);
  Padded preact(c.dtype, shape, c.padding), dact(c.dtype, shape, c.padding);
  for (Any* any : std::initializer_list<Any*>{&a, &b, &out, &residual, &preact, &bias}) fill(*any, random);
  fill(dact, random, -3, 3);

  // Dense copies: the reference should not spend its time on strides.
  const auto dense = [](const Any& any) {
    std::vector<double> values(static_cast<size_t>(any.view.numel()));
    for (int64_t i = 0; i < any.view.numel(); i++) values[static_cast<size_t>(i)] = any.get(i);
    return values;
  };
  const std::vector<double> left = dense(a), right = dense(b);
  const int64_t batch = numel(c.batch), size = c.m * c.n;
  std::vector<double> expected(static_cast<size_t>(batch * size)), tolerance(expected), before(expected),
      tolerance_before(expected);
  for (int64_t e = 0; e < batch * size; e++) {
    const int64_t matrix = e / size, i = e % size / c.n, j = e % c.n;
    double sum = 0, magnitude = 0;
    for (int64_t p = 0; p < c.k; p++) {
      const double term = left[static_cast<size_t>((matrix * c.m + i) * c.k + p)] *
                          right[static_cast<size_t>((matrix * c.k + p) * c.n + j)];
      sum += term;
      magnitude += std::fabs(term);
    }
    if (c.bias) sum += bias.get(j), magnitude += std::fabs(bias.get(j));
    const size_t at = static_cast<size_t>(e);
    const double terms = static_cast<double>(c.k + 8);
    before[at] = sum;
    const double off_before = terms * kRounding * magnitude;
    tolerance_before[at] =
        off_before + rounding_of(c.dtype) * (std::fabs(sum) + off_before) + (c.dtype == DType::f16 ? 0x1p-25 : 0);
    const bool curved = c.activation != Activation::none && c.activation != Activation::relu;
    double value = c.dact ? sum * activation_slope(c.activation, dact.get(e)) : activate(c.activation, sum);
    double off = 1.13 * off_before + (curved ? kActivation * std::fabs(c.dact ? sum : value) + 1e-7 : 0);
    for (const double term : {c.residual ? residual.get(e) : 0, c.accumulate ? out.get(e) : 0}) {
      value += term;
      off += 4 * kRounding * (std::fabs(term) + std::fabs(value));
    }
    expected[at] = value;
    tolerance[at] = off + rounding_of(mixed) * (std::fabs(value) + off) + (mixed == DType::f16 ? 0x1p-25 : 0);
  }
  const std::vector<char> untouched = out.copy();

  ops.gemm(stream, out.view, nullptr, a.view, b.view, c.bias ? &bias.view : nullptr,
           c.residual ? &residual.view : nullptr, c.preact ? &preact.view : nullptr, c.dact ? &dact.view : nullptr,
           static_cast<Int>(c.activation), false, c.accumulate, false);
  synchronize(stream);

  const auto compare = [&](const char* name, const Any& got, const std::vector<double>& wanted,
                           const std::vector<double>& tolerances) {
    for (int64_t e = 0; e < batch * size; e++) {
      const size_t at = static_cast<size_t>(e);
      if (std::fabs(got.get(e) - wanted[at]) <= tolerances[at]) continue;
      return report(
          "%s[%lld] of %s, %lldx%lldx%lldx%lld, a %d, b %d, bias %d, residual %d, preact %d, dact %d, activation %d, "
          "accumulate %d: got %.9g, expected %.9g to %.2g",
          name, static_cast<long long>(e), name_of(c.dtype), static_cast<long long>(batch), static_cast<long long>(c.m),
          static_cast<long long>(c.n), static_cast<long long>(c.k), static_cast<int>(c.a), static_cast<int>(c.b),
          c.bias, c.residual, c.preact, c.dact, static_cast<int>(c.activation), c.accumulate, got.get(e), wanted[at],
          tolerances[at]);
    }
  };
  compare("out", out, expected, tolerance);
  if (c.preact) compare("preact", preact, before, tolerance_before);
  const std::vector<char> written = out.copy();
  const size_t element = size_of(mixed), row = static_cast<size_t>(c.n + c.padding) * element;
  for (size_t i = 0; i < written.size(); i++)
    if (c.padding && i % row >= static_cast<size_t>(c.n) * element && written[i] != untouched[i]) {
      report("out's padding was written at byte %zu", i);
      break;
    }
  return written;
}

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
  for (const DType dtype : kFloats) check(stream, ops, of(dtype, {{}, 8, 1100, 300}));
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
  for (const int64_t m : {3, 33})
    for (const Layout layout : kTransposes) {
      Laid<float> a({m, 37}, layout), b({37, 35}, layout);
      Array<float> out({m, 35});
      for (Array<float>& array : Arrays{a.memory, b.memory}) std::fill_n(array.values.get(), array.size, 1.0f);
      a.at((m - 1) * 37 + 36) = INFINITY;
      b.at(36 * 35 + 34) = NAN;
      ops.gemm(stream, out, nullptr, a, b, nullptr, nullptr, nullptr, nullptr, 0, false, false, false);
      synchronize(stream);
      for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < 35; j++) {
          const float got = out[i * 35 + j];
          EXPECT(j == 34 ? std::isnan(got) : i == m - 1 ? got == INFINITY : got == 37);
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
}  // namespace heed::test
