// linear_attention against its definition in float64, in both directions, with states and decays.
#include <algorithm>

#include "check.h"

namespace heed::test {
namespace {

struct Case {
  int64_t B, T, H, D, Dv;
  bool reverse = false, states = false;
  std::vector<float> decay = {};
};

// A [B, T, H, size] view whose rows lie apart, among what must not be touched.
struct Rows {
  Rows(int64_t B, int64_t T, int64_t H, int64_t size) : memory({B, H, T, size + 3}), view(memory.view) {
    view.shape[1] = T;
    view.shape[2] = H;
    view.shape[3] = size;
    std::swap(view.strides[1], view.strides[2]);
    for (int64_t i = 0; i < memory.size; i++) memory[i] = NAN;
  }
  float& at(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return view.f32()[b * view.strides[0] + t * view.strides[1] + h * view.strides[2] + d];
  }
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t b = 0; b < view.shape[0]; b++)
      for (int64_t t = 0; t < view.shape[1]; t++)
        for (int64_t h = 0; h < view.shape[2]; h++)
          for (int64_t d = 0; d < view.shape[3]; d++) body(at(b, t, h, d));
  }
  Array<float> memory;
  TensorView view;
};

void expect_case(Stream& stream, const Ops& ops, const Case& c) {
  const Rows q(c.B, c.T, c.H, c.D), k(c.B, c.T, c.H, c.D), v(c.B, c.T, c.H, c.Dv), out(c.B, c.T, c.H, c.Dv);
  Array<float> state({c.B, c.H, c.D, c.Dv}), decay({c.H});
  Random random(3);
  for (const Rows* x : {&q, &k, &v}) x->for_each([&](float& value) { value = random.uniform(); });
  random.fill(state);
  for (size_t h = 0; h < c.decay.size(); h++) decay[h] = c.decay[h];

  std::vector<double> expected, magnitudes, sums(c.B * c.H * c.D * c.Dv), sum_magnitudes(sums.size());
  for (size_t i = 0; i < sums.size(); i++) {
    sums[i] = c.states ? state[i] : 0;
    sum_magnitudes[i] = std::fabs(sums[i]);
  }
  expected.resize(c.B * c.T * c.H * c.Dv);
  magnitudes.resize(expected.size());
  for (int64_t b = 0; b < c.B; b++)
    for (int64_t h = 0; h < c.H; h++)
      for (int64_t step = 0; step < c.T; step++) {
        const int64_t t = c.reverse ? c.T - 1 - step : step;
        for (int64_t d = 0; d < c.D; d++)
          for (int64_t e = 0; e < c.Dv; e++) {
            const int64_t at = ((b * c.H + h) * c.D + d) * c.Dv + e, to = ((b * c.T + t) * c.H + h) * c.Dv + e;
            const double kept = c.decay.empty() ? 1 : c.decay[h];
            const double term = static_cast<double>(k.at(b, t, h, d)) * v.at(b, t, h, e);
            sums[at] = kept * sums[at] + term;
            sum_magnitudes[at] = kept * sum_magnitudes[at] + std::fabs(term);
            expected[to] += q.at(b, t, h, d) * sums[at];
            magnitudes[to] += std::fabs(q.at(b, t, h, d)) * sum_magnitudes[at];
          }
      }

  const TensorView* carried = c.states ? &state : nullptr;
  ops.linear_attention(stream, out.view, carried, q.view, k.view, v.view, carried, c.decay.empty() ? nullptr : &decay,
                       c.reverse);
  const std::string error = synchronize(stream);
  if (!error.empty()) report("failed on the device: %s", error.c_str());
  // Roundings add up as the square root of their number, relative to the magnitudes; 3 for a few in a row, and powers.
  const double units = 0x1p-24 * (4 + 3 * std::sqrt(static_cast<double>(c.T + c.D)));
  char label[120];
  std::snprintf(label, sizeof label, "B %d T %d H %d D %d Dv %d%s%s%s", static_cast<int>(c.B), static_cast<int>(c.T),
                static_cast<int>(c.H), static_cast<int>(c.D), static_cast<int>(c.Dv), c.reverse ? " reverse" : "",
                c.states ? " states" : "", c.decay.empty() ? "" : " decay");
  std::vector<float> got;
  out.for_each([&](float& value) { got.push_back(value); });
  const auto largest = [](const std::vector<double>& list) {
    return list.empty() ? 0 : *std::max_element(list.begin(), list.end());
  };
  expect_near(label, got.data(), expected.data(), static_cast<int64_t>(got.size()), units * largest(magnitudes), 0);
  if (c.states)
    expect_near(label, &state[0], sums.data(), static_cast<int64_t>(sums.size()), units * largest(sum_magnitudes), 0);
  for (int64_t i = 0; i < out.memory.size; i++)
    if (i % (c.Dv + 3) >= c.Dv) EXPECT(std::isnan(out.memory[i]));
}

TEST(linear_attention_sizes) {
  for (const int64_t T : {1, 2, 15, 17, 47, 48, 49, 63, 64, 65, 130, 257})
    for (const bool reverse : {false, true})
      for (const bool states : {false, true}) {
        expect_case(stream, ops, {2, T, 2, 9, 20, reverse, states});
        expect_case(stream, ops, {1, T, 1, 64, 33, reverse, states, {0.9f}});
      }
  for (const int64_t D : {1, 3, 16, 31, 100})
    for (const int64_t Dv : {1, 4, 17, 64, 130}) {
      expect_case(stream, ops, {1, 70, 3, D, Dv, false, true, {1, 0.5f, 0.01f}});
      expect_case(stream, ops, {1, 70, 3, D, Dv, true, true, {0, 1e-20f, 0.999f}});
    }
  expect_case(stream, ops, {2, 0, 2, 3, 4, false, true});
  expect_case(stream, ops, {0, 5, 2, 3, 4, false, true});
  expect_case(stream, ops, {1, 5, 0, 3, 4});
  expect_case(stream, ops, {1, 5, 2, 3, 0, false, true});
  expect_case(stream, ops, {1, 5, 2, 0, 4, false, true});
}

TEST(linear_attention_does_not_depend_on_threads) {
  const Array<float> q({1, 150, 2, 40}), k({1, 150, 2, 40}), v({1, 150, 2, 70}), out({1, 150, 2, 70});
  Random random(4);
  for (const TensorView* x : {&q, &k, &v})
    for (int64_t i = 0; i < x->numel(); i++) x->f32()[i] = random.uniform();
  const int before = cpu::thread_count();
  std::vector<float> first;
  for (const int threads : {1, 2, 5}) {
    cpu::set_thread_count(threads);
    ops.linear_attention(stream, out, nullptr, q, k, v, nullptr, nullptr, false);
    EXPECT(synchronize(stream).empty());
    const std::vector<float> got(out.values.get(), out.values.get() + out.size);
    if (first.empty()) first = got;
    EXPECT(got == first);
  }
  cpu::set_thread_count(before);
}

TEST(linear_attention_errors) {
  const Array<float> q({2, 5, 3, 4}), k({2, 5, 3, 4}), v({2, 5, 3, 6}), out({2, 5, 3, 6}), state({2, 3, 4, 6}),
      decay({3}), flat({2, 5, 12}), other({2, 5, 3, 5});
  const Array<int32_t> ids({2, 5, 3, 4});
  TensorView spread = v;
  spread.strides[3] = 2;
  const auto run = [&](In out, OptOut last, In q, In k, In v, OptIn first, OptIn decay) {
    return error_of([&] { ops.linear_attention(stream, out, last, q, k, v, first, decay, false); });
  };
  const std::string f = "linear_attention: ";
  EXPECT(run(out, &state, q, k, v, &state, &decay) == "");
  EXPECT(run(out, nullptr, flat, k, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected q with 4 dimensions, got shape [2, 5, 12]");
  EXPECT(run(out, nullptr, ids, k, v, nullptr, nullptr) ==
         "ERR_DTYPE: " + f + "expected q of dtype f32, bf16 or f16, got i32");
  EXPECT(run(out, nullptr, q, other, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected k of shape [2, 5, 3, 4], got [2, 5, 3, 5]");
  EXPECT(run(out, nullptr, q, k, spread, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected v with contiguous heads (stride 1), got stride 2");
  EXPECT(run(other, nullptr, q, k, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected out of shape [2, 5, 3, 6], got [2, 5, 3, 5]");
  EXPECT(run(out, &q, q, k, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected final_state of shape [2, 3, 4, 6], got [2, 5, 3, 4]");
  EXPECT(run(out, nullptr, q, k, v, &q, nullptr) ==
         "ERR_SHAPE: " + f + "expected initial_state of shape [2, 3, 4, 6], got [2, 5, 3, 4]");
  EXPECT(run(out, nullptr, q, k, v, nullptr, &flat) ==
         "ERR_SHAPE: " + f + "expected decay of shape [3], got [2, 5, 12]");
  EXPECT(synchronize(stream).empty());
}

}  // namespace
}  // namespace heed::test
