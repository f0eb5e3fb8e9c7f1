// Softmax over the last dimension against double.
//
// Tolerances, in units of 2^-24: x - max is off by up to |x - max| (20 here), e^x by 2, each term goes through at most
// 32 additions in a lane and 4 in joining lanes, then 1 / Σ and the product: 60 for the forward pass. The backward
// pass's dot product has the same bound relative to Σ|dout · out| <= max |dout|.
#include <algorithm>

#include "views.h"

namespace heed::test {
namespace {

constexpr double kRounding = 0x1p-24;
constexpr int64_t kSizes[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 65, 257, 513, 1030};

std::vector<double> reference(const TensorView& inp) {
  const int64_t C = inp.dim(-1);
  std::vector<double> out(static_cast<size_t>(inp.numel()));
  for (int64_t begin = 0; begin < inp.numel(); begin += C) {
    double max = -HUGE_VAL, sum = 0;
    const auto x = [&](int64_t c) { return static_cast<double>(inp.f32()[place(inp, begin + c)]); };
    for (int64_t c = 0; c < C; c++) max = std::max(max, x(c));
    for (int64_t c = 0; c < C; c++) sum += std::exp(x(c) - max);
    for (int64_t c = 0; c < C; c++)
      out[static_cast<size_t>(begin + c)] = max == -HUGE_VAL ? 0 : std::exp(x(c) - max) / sum;
  }
  return out;
}

void check_forward(Stream& stream, const Ops& ops, const TensorView& inp) {
  Laid<float> out(Shape(inp.shape, inp.shape + inp.rank));
  ops.softmax_forward(stream, out, inp);
  synchronize(stream);
  // Below 2^-126 a result has no relative precision left.
  expect_near("softmax", out.memory.values.get(), reference(inp).data(), inp.numel(), 0x1p-126, 60 * kRounding);
}

TEST(softmax_forward_sizes) {
  Random random(1);
  for (const int64_t C : kSizes)
    for (const float offset : {0.0f, 10000.0f, -10000.0f}) {
      Laid<float> inp({3, 5, C});
      for (int64_t i = 0; i < inp.memory.size; i++)
        inp.memory[i] = offset + std::round(random.uniform(-10, 10) * 64) / 64;
      check_forward(stream, ops, inp);
      check_forward(stream, ops, permute(inp, {1, 0, 2}));
    }
}

TEST(softmax_forward_vocabulary) {
  Random random(2);
  Laid<float> inp({2, 50257});
  random.fill(inp.memory, -10, 10);
  check_forward(stream, ops, inp);
}

// Every term but one is e^-2.302585 = 0.1, whose sum in one long f32 lane would round the same way again and again.
TEST(softmax_forward_equal_terms) {
  for (const int64_t C : {int64_t{50257}, int64_t{1000003}}) {
    Laid<float> inp({1, C});
    for (int64_t c = 1; c < C; c++) inp.at(c) = -2.302585f;
    check_forward(stream, ops, inp);
  }
}

TEST(softmax_forward_broadcast_rows_and_in_place) {
  Random random(3);
  Laid<float> inp({4, 33}, Layout::repeated_first);
  random.fill(inp.memory, -10, 10);
  check_forward(stream, ops, inp);

  Laid<float> both({4, 33});
  random.fill(both.memory, -10, 10);
  const std::vector<double> expected = reference(both);
  ops.softmax_forward(stream, both, both);
  synchronize(stream);
  expect_near("in place", both.memory.values.get(), expected.data(), both.memory.size, 0, 60 * kRounding);
}

TEST(softmax_forward_special_values) {
  for (const int64_t C : kSizes) {
    Laid<float> inp({4, C}), out({4, C});
    for (int64_t c = 0; c < C; c++) {
      inp.at(c) = -HUGE_VALF;                             // all masked: zeros
      inp.at(C + c) = c == C - 1 ? 5 : -HUGE_VALF;        // all but one masked
      inp.at(2 * C + c) = c == C - 1 ? NAN : -HUGE_VALF;  // NaN everywhere
      inp.at(3 * C + c) = c == 0 ? 0 : -200;              // underflow to 0 without harm
    }
    for (int64_t i = 0; i < 4 * C; i++) out.at(i) = 9;
    ops.softmax_forward(stream, out, inp);
    synchronize(stream);
    for (int64_t c = 0; c < C; c++) {
      EXPECT(out.at(c) == 0);
      EXPECT(out.at(C + c) == (c == C - 1 ? 1 : 0));
      EXPECT(std::isnan(out.at(2 * C + c)));
      EXPECT(out.at(3 * C + c) == (c == 0 ? 1 : 0));
    }
  }
}

TEST(softmax_backward_sizes) {
  Random random(4);
  for (const int64_t C :
       {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{17}, int64_t{31}, int64_t{33}, int64_t{257}, int64_t{50257}})
    for (const bool accumulate : {false, true})
      for (const std::vector<int>& dims : {std::vector<int>{0, 1, 2}, std::vector<int>{1, 0, 2}}) {
        Laid<float> inp({2, 2, C}), out({2, 2, C}), dout({2, 2, C}), dinp({2, 2, C});
        random.fill(inp.memory, -3, 3);
        random.fill(dout.memory);
        random.fill(dinp.memory);
        const TensorView y = permute(out, dims), d = permute(dout, dims);
        ops.softmax_forward(stream, y, inp);
        synchronize(stream);
        std::vector<double> expected(static_cast<size_t>(dinp.memory.size));
        double largest = 0;
        for (int64_t begin = 0; begin < dinp.memory.size; begin += C) {
          const auto at = [&](const TensorView& v, int64_t c) {
            return static_cast<double>(v.f32()[place(v, begin + c)]);
          };
          double dot = 0;
          for (int64_t c = 0; c < C; c++) dot += at(d, c) * at(y, c);
          for (int64_t c = 0; c < C; c++) {
            largest = std::max(largest, at(y, c));
            expected[static_cast<size_t>(begin + c)] = at(y, c) * (at(d, c) - dot) + (accumulate ? at(dinp, c) : 0);
          }
        }
        ops.softmax_backward(stream, dinp, d, y, accumulate);
        synchronize(stream);
        expect_near("softmax backward", dinp.memory.values.get(), expected.data(), dinp.memory.size,
                    60 * kRounding * largest, 2 * kRounding);
      }
}

TEST(softmax_backward_of_a_masked_row_is_zero) {
  Laid<float> out({1, 20}), dout({1, 20}), dinp({1, 20});
  for (int64_t i = 0; i < 20; i++) dout.at(i) = 1, dinp.at(i) = 9;
  ops.softmax_backward(stream, dinp, dout, out, false);
  synchronize(stream);
  for (int64_t i = 0; i < 20; i++) EXPECT(dinp.at(i) == 0);
}

TEST(softmax_is_the_same_with_any_thread_count) {
  Random random(5);
  Laid<float> inp({300, 400});
  random.fill(inp.memory, -10, 10);
  std::vector<float> first;
  with_thread_counts([&] {
    Laid<float> out({300, 400});
    ops.softmax_forward(stream, out, inp);
    synchronize(stream);
    const std::vector<float> values(out.memory.values.get(), out.memory.values.get() + out.memory.size);
    if (first.empty()) first = values;
    EXPECT(values == first);
  });
}

TEST(softmax_empty) {
  const Laid<float> no_columns({3, 0}), no_rows({0, 3});
  ops.softmax_forward(stream, no_columns, no_columns);
  ops.softmax_forward(stream, no_rows, no_rows);
  ops.softmax_backward(stream, no_rows, no_rows, no_rows, true);
  EXPECT(synchronize(stream).empty());
}

TEST(softmax_errors) {
  const Laid<float> out({2, 3}), other({3, 2}), stepped({2, 3}, Layout::stepped),
      repeated({2, 3}, Layout::repeated_first);
  const Laid<float> scalar((Shape()));
  const Laid<int32_t> ids({2, 3});
  const std::string strided =
      ": expected inp to be contiguous in its last dimension, got a stride of 2 in shape [2, 3]";
  EXPECT(error_of([&] { ops.softmax_forward(stream, out, stepped); }) == "ERR_SHAPE: softmax_forward" + strided);
  EXPECT(error_of([&] { ops.softmax_forward(stream, out, other); }) ==
         "ERR_SHAPE: softmax_forward: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(error_of([&] { ops.softmax_forward(stream, repeated, out); }) ==
         "ERR_SHAPE: softmax_forward: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(error_of([&] { ops.softmax_forward(stream, scalar, scalar); }) ==
         "ERR_SHAPE: softmax_forward: expected out with at least 1 dimension, got shape []");
  EXPECT(error_of([&] { ops.softmax_forward(stream, out, ids); }) ==
         "ERR_DTYPE: softmax_forward: expected inp of dtype f32, got i32");
  EXPECT(error_of([&] { ops.softmax_backward(stream, scalar, scalar, scalar, false); }) ==
         "ERR_SHAPE: softmax_backward: expected dinp with at least 1 dimension, got shape []");
  EXPECT(error_of([&] { ops.softmax_backward(stream, out, other, out, false); }) ==
         "ERR_SHAPE: softmax_backward: expected dout of shape [2, 3], got [3, 2]");
  EXPECT(error_of([&] { ops.softmax_backward(stream, out, out, ids, false); }) ==
         "ERR_DTYPE: softmax_backward: expected out of dtype f32, got i32");
  EXPECT(error_of([&] { ops.softmax_backward(stream, stepped, out, out, false); }) ==
         "ERR_SHAPE: softmax_backward: expected dinp to be contiguous in its last dimension, got a stride of 2 in "
         "shape [2, 3]");
}

}  // namespace
}  // namespace heed::test
