// Gated activations against float64: every activation and layout, halves of one projection, outputs in an input's
// memory, accumulation, and every error.
#include "activations.h"
#include "views.h"

namespace heed::test {
namespace {

// Rounding errors, in units of 2^-24 of the terms: those of the activations (activation_test.cc), and of the products.
constexpr double kRounding = 0x1p-24;

void expect_all(const char* label, Activation activation, const Laid<float>& got, const std::vector<double>& expected,
                const std::vector<double>& terms) {
  for (int64_t i = 0; i < got.view.numel(); i++) {
    if (std::fabs(static_cast<double>(got.at(i)) - expected[i]) <= kRounding * 16 * terms[i]) continue;
    return report("%s, activation %d: element %lld is %.9g, expected %.9g", label, static_cast<int>(activation),
                  static_cast<long long>(i), static_cast<double>(got.at(i)), expected[i]);
  }
}

void check_forward(Stream& stream, const Ops& ops, Activation activation, const Shape& shape, Layout out_layout,
                   Layout gate_layout, Layout up_layout) {
  Random random(5);
  Laid<float> out(shape, out_layout), gate(shape, gate_layout), up(shape, up_layout);
  random.fill(gate.memory, -4, 4);
  random.fill(up.memory);
  ops.gated(stream, out, gate, up, static_cast<Int>(activation));
  EXPECT(synchronize(stream).empty());
  EXPECT(out.gaps_are(0));
  std::vector<double> expected, terms;
  for (int64_t i = 0; i < out.view.numel(); i++) {
    const auto x = static_cast<double>(gate.at(i)), u = static_cast<double>(up.at(i));
    expected.push_back(activate(activation, x) * u);
    terms.push_back(std::fabs(u) * std::fmax(std::fabs(activate(activation, x)), 0.1));
  }
  expect_all("out", activation, out, expected, terms);
}

void check_backward(Stream& stream, const Ops& ops, Activation activation, const Shape& shape, Layout gradient_layout,
                    Layout layout, bool accumulate_dgate, bool accumulate_dup) {
  Random random(6);
  Laid<float> dgate(shape, gradient_layout), dup(shape, gradient_layout), dout(shape, layout), gate(shape, layout),
      up(shape);
  for (Laid<float>* x : {&gate, &up, &dout}) random.fill(x->memory, -3, 3);
  for (int64_t i = 0; i < dgate.view.numel(); i++) {
    dgate.at(i) = random.uniform();
    dup.at(i) = random.uniform();
  }
  std::vector<double> to_gate, gate_terms, to_up, up_terms;
  for (int64_t i = 0; i < dgate.view.numel(); i++) {
    const auto x = static_cast<double>(gate.at(i)), u = static_cast<double>(up.at(i)),
               d = static_cast<double>(dout.at(i));
    to_gate.push_back(d * u * activation_slope(activation, x) +
                      (accumulate_dgate ? static_cast<double>(dgate.at(i)) : 0));
    to_up.push_back(d * activate(activation, x) + (accumulate_dup ? static_cast<double>(dup.at(i)) : 0));
    gate_terms.push_back(std::fabs(d * u) + std::fabs(to_gate.back()));
    up_terms.push_back(std::fabs(d) * std::fmax(std::fabs(activate(activation, x)), 0.1) + std::fabs(to_up.back()));
  }
  ops.gated_backward(stream, dgate, dup, dout, gate, up, static_cast<Int>(activation), accumulate_dgate,
                     accumulate_dup);
  EXPECT(synchronize(stream).empty());
  EXPECT(dgate.gaps_are(0) && dup.gaps_are(0));
  expect_all("dgate", activation, dgate, to_gate, gate_terms);
  expect_all("dup", activation, dup, to_up, up_terms);
}

const Shape kShapes[] = {{}, {1}, {33}, {2, 3, 17}, {5, 64}, {3, 40000}};

TEST(gated_every_activation_and_layout) {
  for (Int kind = 0; kind < kActivations; kind++) {
    const auto activation = static_cast<Activation>(kind);
    for (const Shape& shape : kShapes) {
      check_forward(stream, ops, activation, shape, Layout::contiguous, Layout::contiguous, Layout::contiguous);
      for (const bool a : {false, true})
        for (const bool b : {false, true})
          check_backward(stream, ops, activation, shape, Layout::contiguous, Layout::contiguous, a, b);
    }
    for (const Layout out : kOutLayouts)
      for (const Layout in : kInLayouts) {
        check_forward(stream, ops, activation, {4, 3, 17}, out, in, Layout::contiguous);
        check_forward(stream, ops, activation, {4, 3, 17}, out, Layout::contiguous, in);
        check_backward(stream, ops, activation, {4, 3, 17}, out, in, false, true);
      }
  }
}

// The halves of rows [2·F]: gate first.
TensorView half(const Array<float>& packed, int part) {
  TensorView view = packed;
  view.shape[1] /= 2;
  view.data = view.f32() + part * view.shape[1];
  return view;
}

TEST(gated_halves_of_a_projection) {
  Random random(7);
  Array<float> packed({5, 66}), gradient({5, 66}), dout({5, 33}), out({5, 33}), gate({5, 33}), up({5, 33}),
      plain({5, 33}), dgate({5, 33}), dup({5, 33});
  random.fill(packed);
  random.fill(dout);
  for (int64_t i = 0; i < 5 * 33; i++) {
    gate[i] = packed[i / 33 * 66 + i % 33];
    up[i] = packed[i / 33 * 66 + 33 + i % 33];
  }
  const Int silu = static_cast<Int>(Activation::silu);
  ops.gated(stream, out, half(packed, 0), half(packed, 1), silu);
  ops.gated(stream, plain, gate, up, silu);
  ops.gated_backward(stream, half(gradient, 0), half(gradient, 1), dout, half(packed, 0), half(packed, 1), silu, false,
                     false);
  ops.gated_backward(stream, dgate, dup, dout, gate, up, silu, false, false);
  // In the memory of their inputs.
  ops.gated_backward(stream, half(packed, 0), half(packed, 1), dout, half(packed, 0), half(packed, 1), silu, false,
                     false);
  ops.gated(stream, gate, gate, up, silu);
  synchronize(stream);
  for (int64_t i = 0; i < 5 * 33; i++) {
    EXPECT(out[i] == plain[i] && gate[i] == plain[i]);
    const int64_t at = i / 33 * 66 + i % 33;
    EXPECT(gradient[at] == dgate[i] && gradient[at + 33] == dup[i]);
    EXPECT(packed[at] == dgate[i] && packed[at + 33] == dup[i]);
  }
}

TEST(gated_empty) {
  const Array<float> none({0, 3});
  ops.gated(stream, none, none, none, 4);
  ops.gated_backward(stream, none, none, none, none, none, 4, true, false);
  EXPECT(synchronize(stream).empty());
}

TEST(gated_errors) {
  const Array<float> x({2, 3}), other({3, 2});
  const Array<int32_t> ids({2, 3});
  TensorView repeated = x;
  repeated.strides[0] = 0;
  const auto is = [](const std::string& got, const char* expected) {
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const auto forward = [&](In out, In gate, In up, Int activation) {
    return error_of([&] { ops.gated(stream, out, gate, up, activation); });
  };
  is(forward(ids, x, x, 4), "ERR_DTYPE: gated: expected out of dtype f32, bf16 or f16, got i32");
  is(forward(repeated, x, x, 4),
     "ERR_SHAPE: gated: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  is(forward(x, other, x, 4), "ERR_SHAPE: gated: expected gate of shape [2, 3], got [3, 2]");
  is(forward(x, x, ids, 4), "ERR_DTYPE: gated: expected up of dtype f32, got i32");
  is(forward(x, x, x, 6), "ERR_ARGUMENT: gated: expected an activation from 0 to 5, got 6");
  is(forward(x, x, x, -1), "ERR_ARGUMENT: gated: expected an activation from 0 to 5, got -1");
  const auto backward = [&](In dgate, In dup, In dout, In gate, In up, Int activation) {
    return error_of([&] { ops.gated_backward(stream, dgate, dup, dout, gate, up, activation, false, false); });
  };
  is(backward(ids, x, x, x, x, 4), "ERR_DTYPE: gated_backward: expected dgate of dtype f32, bf16 or f16, got i32");
  is(backward(x, other, x, x, x, 4), "ERR_SHAPE: gated_backward: expected dup of shape [2, 3], got [3, 2]");
  is(backward(x, repeated, x, x, x, 4),
     "ERR_SHAPE: gated_backward: expected dup without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  is(backward(x, x, other, x, x, 4), "ERR_SHAPE: gated_backward: expected dout of shape [2, 3], got [3, 2]");
  is(backward(x, x, x, other, x, 4), "ERR_SHAPE: gated_backward: expected gate of shape [2, 3], got [3, 2]");
  is(backward(x, x, x, x, other, 4), "ERR_SHAPE: gated_backward: expected up of shape [2, 3], got [3, 2]");
  is(backward(x, x, x, x, x, 99), "ERR_ARGUMENT: gated_backward: expected an activation from 0 to 5, got 99");
}

}  // namespace
}  // namespace heed::test
