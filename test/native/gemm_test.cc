// Tests gemm and bias_backward: awkward sizes in every transpose, layout, epilogue and path, and every error.
#include <algorithm>
#include <array>

#include "core/kinds.h"
#include "sweep.h"

namespace heed::test::gemm {
namespace {

constexpr Layout kTransposes[] = {Layout::contiguous, Layout::transposed};
constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

struct Case {
  Shape batch;
  int64_t m, n, k;
  Layout a = Layout::contiguous, b = Layout::contiguous;
  int64_t padding = 0;  // of the rows of out, residual, preact and dact_preact
  bool bias = false, residual = false, preact = false, dact = false;
  Int activation = 0;
  bool accumulate = false;
  DType dtype = DType::f32;
  bool wide = false;   // out, bias and residual are f32 for every dtype
  bool mixed = false;  // b has another dtype: f32 beside 16 bits, and 16 bits beside f32

  DType of_b() const {
    if (!mixed) return dtype;
    return dtype != DType::f32 ? DType::f32 : n % 2 ? DType::bf16 : DType::f16;
  }
};

// Returns the case in another dtype.
Case of(DType dtype, Case c, bool wide = false, bool mixed = false) {
  c.dtype = dtype;
  c.wide = wide;
  c.mixed = mixed;
  return c;
}

Shape with(Shape shape, int64_t rows, int64_t columns) {
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

void check(Sweep& s, Stream& stream, const Ops& ops, const Case& c) {
  const DType mixed = c.wide ? DType::f32 : c.dtype;
  // The distance of rows exceeds their length.
  const auto padded = [&](DType dtype) {
    Operand operand{with(c.batch, c.m, c.n + c.padding), dtype};
    operand.window = [&](TensorView view) {
      view.shape[view.rank - 1] = c.n;
      return view;
    };
    return operand;
  };
  s.check("gemm", 2,
          {padded(mixed),
           padded(c.dtype),
           {with(c.batch, c.m, c.k), c.dtype, c.a},
           {with(c.batch, c.k, c.n), c.of_b(), c.b},
           {{c.n}, mixed},
           padded(mixed),
           padded(c.dtype)},
          [&](const Views& v) {
            ops.gemm(stream, v[0], nullptr, v[2], v[3], c.bias ? &v[4] : nullptr, c.residual ? &v[5] : nullptr,
                     c.preact ? &v[1] : nullptr, c.dact ? &v[6] : nullptr, c.activation, false, c.accumulate, false,
                     false, false);
          });
}

TEST(gemm_sizes_in_every_transpose) {
  const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 29, 31, 32, 33, 63, 65, 129};
  sweep(stream, [&](Sweep& s) {
    Random random(3);
    const auto any = [&] { return sizes[random.below(sizeof sizes / sizeof *sizes)]; };
    for (const DType dtype : kFloats)
      for (int i = 0; i < (dtype == DType::f32 ? 150 : 40); i++)
        for (const Layout a : kTransposes)
          for (const Layout b : kTransposes)
            check(s, stream, ops, of(dtype, {{}, any(), any(), any(), a, b}, i % 2 == 1, i % 3 == 1));
  });
}

// Several passes over K, several blocks of rows and of columns, so many of these that each of two workers packs its own
// (2085); and few rows with a long or a wide b.
TEST(gemm_beyond_one_block) {
  sweep(stream, [&](Sweep& s) {
    for (const DType dtype : kFloats) {
      for (const Layout a : kTransposes)
        for (const Layout b : kTransposes) {
          for (const auto& [m, n, k] :
               {std::array<int64_t, 3>{257, 300, 40}, {175, 2085, 40}, {190, 33, 1030}, {33, 600, 515}, {31, 33, 4100}})
            check(s, stream, ops, of(dtype, {{}, m, n, k, a, b})),
                check(s, stream, ops, of(dtype, {{}, m, n, k, a, b}, false, true));
          for (const int64_t m : {1, 2, 3, 5, 8})
            for (const auto& [n, k] : {std::array<int64_t, 2>{1100, 67}, {70, 1030}, {1, 4097}, {515, 1}})
              check(s, stream, ops, of(dtype, {{}, m, n, k, a, b}, false, dtype == DType::f32 && m % 2 == 1)),
                  check(s, stream, ops, of(dtype, {{}, m, n, k, a, b}));
        }
      check(s, stream, ops, of(dtype, {{}, 172, 2085, 1030}, true));
      // Slices of k in strips of columns.
      for (const int64_t m : {1, 2, 8}) check(s, stream, ops, of(dtype, {{}, m, 1100, 300}));
    }
  });
}

TEST(gemm_any_strides) {
  sweep(stream, [&](Sweep& s) {
    for (const Layout a : kInLayouts)
      for (const Layout b : kInLayouts)
        for (const int64_t m : {1, 3, 33})
          for (const Shape& batch : {Shape{}, Shape{3}, Shape{2, 1, 3}, Shape{1, 2, 1, 2, 1, 2}})
            for (const DType dtype : kFloats) check(s, stream, ops, of(dtype, {batch, m, 35, 19, a, b, 3}));
    for (const Layout b : kTransposes) {
      check(s, stream, ops, {{7, 12}, 16, 16, 64, Layout::contiguous, b});
      check(s, stream, ops, {{40}, 1, 64, 48, Layout::contiguous, b});
      check(s, stream, ops, {{3}, 65, 70, 600, Layout::contiguous, b});
    }
  });
}

// Permuted batches: heads of a [B, T, H, D] tensor as [B, H, T, D], read and written in place.
TEST(gemm_heads_in_place) {
  sweep(stream, [&](Sweep& s) {
    const auto heads = [](const TensorView& view) { return permute(view, {0, 2, 1, 3}); };
    const Operand rows{{2, 19, 3, 17}, DType::f32, Layout::contiguous, -1, 1, heads};
    const Operand shared{{17, 17}, DType::f32, Layout::contiguous, -1, 1, [](TensorView weight) {
                           const int64_t shape[] = {2, 3, 17, 17}, strides[] = {0, 0, 17, 1};
                           weight.rank = 4;
                           std::copy_n(shape, 4, weight.shape);
                           std::copy_n(strides, 4, weight.strides);
                           return weight;
                         }};
    s.check("gemm", 1, {rows, rows, shared}, [&](const Views& v) {
      ops.gemm(stream, v[0], nullptr, v[1], v[2], nullptr, nullptr, nullptr, nullptr, 0, false, false, false, false,
               false);
    });
  });
}

TEST(gemm_every_epilogue) {
  const std::array<int64_t, 3> sizes[] = {{3, 35, 20}, {3, 35, 0}, {33, 37, 20}, {33, 37, 1030}, {33, 37, 0}};
  sweep(stream, [&](Sweep& s) {
    for (const auto& [m, n, k] : sizes)
      for (int flags = 0; flags < 32; flags++)
        for (Int activation = 0; activation < kActivations; activation++) {
          Case c{{}, m, n, k};
          c.bias = flags & 1, c.residual = flags & 2, c.preact = flags & 4, c.dact = flags & 8,
          c.accumulate = flags & 16;
          c.activation = activation;
          c.b = flags % 3 ? Layout::contiguous : Layout::transposed;
          c.padding = flags % 2 * 5;
          check(s, stream, ops, c);
          for (const DType dtype : {DType::bf16, DType::f16})
            if (flags % kActivations == activation)
              check(s, stream, ops, of(dtype, c)), check(s, stream, ops, of(dtype, c, true));
        }
    for (const int64_t m : {2, 20})
      for (const auto& batch : {Shape{3}, Shape{2, 2}}) {
        Case c{batch, m, 33, 18, Layout::contiguous, Layout::repeated_first, 7};
        c.bias = c.residual = c.preact = c.accumulate = true;
        c.activation = static_cast<Int>(Activation::gelu_erf);
        check(s, stream, ops, c);
      }
  });
}

// A product that also sums one of its operands.
TEST(gemm_sums_of_an_operand) {
  sweep(stream, [&](Sweep& s) {
    for (const DType dtype : kFloats)
      for (const Layout a : kTransposes)
        for (const Layout b : kTransposes)
          for (const auto& [m, n, k] :
               {std::array<int64_t, 3>{1, 17, 40}, {33, 65, 19}, {130, 70, 1030}, {5, 700, 300}, {5, 3, 0}})
            for (const bool of_a : {false, true})
              s.check("gemm", 2, {{{m, n}, dtype}, {{of_a ? m : n}, dtype}, {{m, k}, dtype, a}, {{k, n}, dtype, b}},
                      [&](const Views& v) {
                        ops.gemm(stream, v[0], &v[1], v[2], v[3], nullptr, nullptr, nullptr, nullptr, 0, of_a, false,
                                 of_a, false, false);
                      });
  });
}

TEST(gemm_empty) {
  Array<float> row({0, 5}), column({5, 0}), a({4, 5}), batch_a({0, 4, 5}), batch_b({0, 5, 3}), batch_out({0, 4, 3});
  Array<float> no_rows({0, 3}), no_columns({4, 0}), b({5, 3}), bias({0});
  ops.gemm(stream, no_rows, nullptr, row, b, nullptr, nullptr, nullptr, nullptr, 0, false, true, false, false, false);
  ops.gemm(stream, no_columns, nullptr, a, column, &bias, nullptr, nullptr, nullptr, 1, false, false, false, false,
           false);
  ops.gemm(stream, batch_out, nullptr, batch_a, batch_b, nullptr, nullptr, nullptr, nullptr, 0, false, false, false,
           false, false);
  EXPECT(synchronize(stream).empty());
}

TEST(gemm_errors) {
  Array<float> scalar(Shape{});
  Array<float> out({4, 3}), a({4, 5}), b({5, 3}), bias({3}), flat({3}), other({3, 4}), wide({4, 6}), deep({2, 4, 3});
  Array<int32_t> ids({4, 3}), ids_a({4, 5}), ids_b({5, 3}), ids_bias({3});
  TensorView stepped = wide.view;
  stepped.shape[1] = 3;
  stepped.strides[1] = 2;
  TensorView gaps = deep.view;
  gaps.shape[1] = 2;
  TensorView uneven = deep.view;
  uneven.shape[0] = 1;
  const auto error = [&](Out o, In x, In y, OptIn v, OptIn r, OptOut p, OptIn d, Int activation = 0) {
    return error_of(
        [&] { ops.gemm(stream, o, nullptr, x, y, v, r, p, d, activation, false, false, false, false, false); });
  };
  const auto starts = [](const std::string& text, const char* with) { return text.rfind(with, 0) == 0; };
  EXPECT(
      error(flat, a, b, nullptr, nullptr, nullptr, nullptr) ==
      "ERR_SHAPE: gemm: expected a [..., 1, K] and b [..., K, 3] with the leading sizes of out, got [4, 5] and [5, 3]");
  EXPECT(error(flat, flat, flat, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected out with at least 2 dimensions, got shape [3]");
  EXPECT(error(out, scalar, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected a with at least 1 dimension, got shape []");
  EXPECT(
      error(out, deep, b, nullptr, nullptr, nullptr, nullptr) ==
      "ERR_SHAPE: gemm: expected a [..., 4, K] and b [..., K, 3] with the leading sizes of out, got [8, 3] and [5, 3]");
  EXPECT(error(out, gaps, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_SHAPE: gemm: expected the rows of a, of shape [2, 2, 3], at equal distances");
  EXPECT(error(ids, a, b, nullptr, nullptr, nullptr, nullptr) == "ERR_DTYPE: gemm: expected out of dtype f32, got i32");
  EXPECT(error(out, ids_a, b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_DTYPE: gemm: expected a of dtype f32, bf16 or f16, got i32");
  EXPECT(error(out, a, ids_b, nullptr, nullptr, nullptr, nullptr) ==
         "ERR_DTYPE: gemm: expected b of dtype f32, bf16 or f16, got i32");
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

TEST(bias_backward_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t rows : {0, 1, 2, 7, 127, 128, 129, 1000, 4097})
      for (const int64_t width : {1, 3, 16, 17, 33, 65, 130, 257})
        for (const bool accumulate : {false, true})
          s.check("bias_backward", 1, {{{width}}, {{rows, width}}},
                  [&](const Views& v) { ops.bias_backward(stream, v[0], v[1], accumulate); });
  });
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
