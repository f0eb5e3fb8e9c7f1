// Rotary positions against complex numbers in float64: both pairings, heads that are turned in part, strided views, in
// place, the inverse, accumulation, given positions, what must stay untouched, and every error.
#include <complex>
#include <cstring>

#include "views.h"

namespace heed::test {
namespace {

struct Case {
  int64_t B, T, H, D, R;
  bool interleaved = false, inverse = false, accumulate = false;
};

// Cosines and sines of any angles: that they belong to positions is the caller's affair.
void fill_table(Array<float>& table, Random& random) {
  for (int64_t i = 0; i < table.size / 2; i++) {
    const double angle = static_cast<double>(random.uniform(-4, 4));
    table[2 * i] = static_cast<float>(std::cos(angle));
    table[2 * i + 1] = static_cast<float>(std::sin(angle));
  }
}

// [B, T, H, D] cut out of heads that have `margin` more elements, with `others` heads more.
struct Heads {
  Heads(const Case& c, int64_t others, int64_t margin) : memory({c.B, c.T, c.H + others, c.D + margin}) {
    view = memory;
    view.shape[2] = c.H;
    view.shape[3] = c.D;
    view.data = memory.view.f32() + others / 2 * (c.D + margin) + margin / 2;
  }
  float& at(int64_t i) { return view.f32()[place(view, i)]; }
  Array<float> memory;
  TensorView view;
};

template <class Position>
std::vector<double> reference(const Case& c, Heads& inp, Heads& out, const Array<float>& table,
                              const Position& position) {
  std::vector<double> expected(static_cast<size_t>(inp.view.numel()));
  for (int64_t i = 0; i < inp.view.numel(); i++) expected[i] = static_cast<double>(inp.at(i));
  for (int64_t row = 0; row < c.B * c.T * c.H; row++)
    for (int64_t pair = 0; pair < c.R / 2; pair++) {
      const int64_t a = row * c.D + (c.interleaved ? 2 * pair : pair);
      const int64_t b = c.interleaved ? a + 1 : a + c.R / 2;
      const int64_t at = position(row / c.H / c.T, row / c.H % c.T) * c.R + 2 * pair;
      std::complex<double> turn(table[at], table[at + 1]);
      if (c.inverse) turn = std::conj(turn);
      const std::complex<double> turned = std::complex<double>(expected[a], expected[b]) * turn;
      expected[a] = turned.real();
      expected[b] = turned.imag();
    }
  for (int64_t i = 0; c.accumulate && i < out.view.numel(); i++) expected[i] += static_cast<double>(out.at(i));
  return expected;
}

void expect_turned(const char* label, const Case& c, Heads& out, const std::vector<double>& expected) {
  std::vector<float> got(expected.size());
  for (size_t i = 0; i < got.size(); i++) got[i] = out.at(static_cast<int64_t>(i));
  const std::string text = std::string(label) + " D=" + std::to_string(c.D) + " R=" + std::to_string(c.R);
  expect_near(text.c_str(), got.data(), expected.data(), static_cast<int64_t>(got.size()), 0x1p-22, 0x1p-23);
}

void check_rotary(Stream& stream, const Ops& ops, const Case& c) {
  Random random(static_cast<uint64_t>(c.D * 1000 + c.R));
  Array<float> table({c.T + 3, c.R / 2, 2});
  Array<int32_t> starts({c.B}), positions({c.B, c.T});
  fill_table(table, random);
  for (int64_t b = 0; b < c.B; b++) starts[b] = static_cast<int32_t>(random.below(4));
  for (int64_t i = 0; i < positions.size; i++) positions[i] = static_cast<int32_t>(random.below(c.T + 3));
  for (const int way : {0, 1, 2}) {
    Heads inp(c, 2, 3), out(c, 4, 5);
    random.fill(inp.memory);
    for (int64_t i = 0; i < out.memory.size; i++) out.memory[i] = 7;
    for (int64_t i = 0; i < out.view.numel(); i++) out.at(i) = random.uniform();
    const auto position = [&](int64_t b, int64_t t) {
      return way == 0 ? t : way == 1 ? starts[b] + t : int64_t{positions[b * c.T + t]};
    };
    const std::vector<double> expected = reference(c, inp, out, table, position);
    ops.rotary(stream, out.view, inp.view, table, way == 1 ? &starts : nullptr, way == 2 ? &positions : nullptr,
               c.interleaved, c.inverse, c.accumulate);
    const std::string error = synchronize(stream);
    if (!error.empty()) return report("failed on the device: %s", error.c_str());
    expect_turned("apart", c, out, expected);
    int64_t touched = out.memory.size;
    for (int64_t i = 0; i < out.memory.size; i++) touched -= out.memory[i] == 7;
    EXPECT(touched <= out.view.numel());

    if (c.accumulate) continue;
    ops.rotary(stream, inp.view, inp.view, table, way == 1 ? &starts : nullptr, way == 2 ? &positions : nullptr,
               c.interleaved, c.inverse, false);
    synchronize(stream);
    expect_turned("in place", c, inp, expected);
  }
}

TEST(rotary) {
  for (const bool interleaved : {false, true})
    for (const bool inverse : {false, true})
      for (const bool accumulate : {false, true}) {
        for (const int64_t D : {2, 3, 8, 15, 16, 32, 33, 64, 65, 128, 300})
          for (const int64_t R : {int64_t{2}, D / 2 * 2, D / 4 * 2})
            check_rotary(stream, ops, {2, 3, 2, D, R, interleaved, inverse, accumulate});
        check_rotary(stream, ops, {1, 2, 3, 5, 0, interleaved, inverse, accumulate});
        check_rotary(stream, ops, {2, 300, 4, 64, 64, interleaved, inverse, accumulate});  // many tasks
      }
}

TEST(rotary_inverse_undoes_it) {
  Random random(3);
  Array<float> inp({2, 5, 3, 40}), out({2, 5, 3, 40}), table({5, 16, 2});
  random.fill(inp);
  fill_table(table, random);
  std::vector<double> expected(&inp[0], &inp[0] + inp.size);
  for (const bool interleaved : {false, true}) {
    ops.rotary(stream, out, inp, table, nullptr, nullptr, interleaved, false, false);
    ops.rotary(stream, out, out, table, nullptr, nullptr, interleaved, true, false);
    synchronize(stream);
    expect_near("there and back", &out[0], expected.data(), out.size, 0x1p-21, 0);
  }
}

TEST(rotary_same_bits_on_any_threads) {
  Random random(4);
  Array<float> inp({3, 200, 2, 64}), table({200, 32, 2});
  random.fill(inp);
  fill_table(table, random);
  std::vector<float> first;
  with_thread_counts([&] {
    Array<float> out({3, 200, 2, 64});
    ops.rotary(stream, out, inp, table, nullptr, nullptr, false, false, false);
    synchronize(stream);
    if (first.empty()) first.assign(&out[0], &out[0] + out.size);
    EXPECT(std::memcmp(first.data(), &out[0], first.size() * sizeof(float)) == 0);
  });
}

TEST(rotary_position_out_of_range) {
  Array<float> inp({2, 3, 1, 4}), out({2, 3, 1, 4}), table({5, 2, 2});
  Array<int32_t> starts({2}), positions({2, 3});
  const auto expect = [&](const char* given) {
    const std::string wanted = std::string("ERR_RANGE: rotary: expected positions in [0, 5), got ") + given;
    const std::string got = synchronize(stream);
    if (got != wanted) report("got \"%s\", expected \"%s\"", got.c_str(), wanted.c_str());
    for (int64_t i = 0; i < out.size; i++) EXPECT(out[i] == 0);  // nothing is written
  };
  for (int64_t i = 0; i < inp.size; i++) inp[i] = 1;
  starts[1] = 3;
  ops.rotary(stream, out, inp, table, &starts, nullptr, false, false, false);
  expect("5 at token 2 of sequence 1");
  starts[1] = INT32_MAX;
  ops.rotary(stream, out, inp, table, &starts, nullptr, false, false, false);
  expect("2147483647 at token 0 of sequence 1");
  positions[4] = -1;
  ops.rotary(stream, out, inp, table, nullptr, &positions, true, false, false);
  expect("-1 at token 1 of sequence 1");
}

TEST(rotary_empty) {
  const Array<float> none({0, 3, 1, 4}), no_tokens({2, 0, 1, 4}), no_heads({2, 3, 0, 4}), table({3, 2, 2});
  for (const TensorView* x : {&none, &no_tokens, &no_heads})
    ops.rotary(stream, *x, *x, table, nullptr, nullptr, false, false, false);
  EXPECT(synchronize(stream).empty());
}

TEST(rotary_errors) {
  const Array<float> x({2, 3, 1, 4}), flat({2, 3, 4}), other({2, 3, 1, 5}), table({3, 2, 2}), wide({3, 3, 2}),
      triples({3, 2, 3}), two({2, 2, 2}), pairs({3, 2}), floats({2});
  const Array<int32_t> ids({2, 3, 1, 4}), three({3}), starts({2}), positions({2, 3}), turned({3, 2});
  TensorView stepped = x, repeated = x, loose = table;
  stepped.strides[3] = 2;
  repeated.strides[1] = 0;
  loose.strides[0] = 8;
  const auto is = [&](In out, In inp, In angles, OptIn first, OptIn given, const char* expected) {
    const std::string got = error_of([&] { ops.rotary(stream, out, inp, angles, first, given, false, false, false); });
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const OptIn none = nullptr;
  is(x, flat, table, none, none, "ERR_SHAPE: rotary: expected inp with 4 dimensions, got shape [2, 3, 4]");
  is(ids, ids, table, none, none, "ERR_DTYPE: rotary: expected inp of dtype f32, bf16 or f16, got i32");
  is(other, x, table, none, none, "ERR_SHAPE: rotary: expected out of shape [2, 3, 1, 4], got [2, 3, 1, 5]");
  is(x, stepped, table, none, none, "ERR_SHAPE: rotary: expected inp with contiguous heads (stride 1), got stride 2");
  is(stepped, x, table, none, none, "ERR_SHAPE: rotary: expected out with contiguous heads (stride 1), got stride 2");
  is(repeated, x, table, none, none,
     "ERR_SHAPE: rotary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3, 1, 4]");
  is(x, x, ids, none, none, "ERR_DTYPE: rotary: expected table of dtype f32, got i32");
  is(x, x, pairs, none, none, "ERR_SHAPE: rotary: expected table with 3 dimensions, got shape [3, 2]");
  is(x, x, loose, none, none,
     "ERR_SHAPE: rotary: expected table to be contiguous, got a strided view of shape [3, 2, 2]");
  is(x, x, wide, none, none, "ERR_SHAPE: rotary: expected table of shape [positions, at most 2, 2], got [3, 3, 2]");
  is(x, x, triples, none, none, "ERR_SHAPE: rotary: expected table of shape [positions, at most 2, 2], got [3, 2, 3]");
  is(x, x, two, none, none, "ERR_RANGE: rotary: expected table to have the 3 positions of inp, got 2");
  is(x, x, table, &starts, &positions, "ERR_ARGUMENT: rotary: expected one of starts and positions, got both");
  is(x, x, table, &three, none, "ERR_SHAPE: rotary: expected starts of shape [2], got [3]");
  is(x, x, table, &floats, none, "ERR_DTYPE: rotary: expected starts of dtype i32, got f32");
  is(x, x, table, none, &turned, "ERR_SHAPE: rotary: expected positions of shape [2, 3], got [3, 2]");
  is(x, x, table, none, &x, "ERR_DTYPE: rotary: expected positions of dtype i32, got f32");
}

}  // namespace
}  // namespace heed::test
