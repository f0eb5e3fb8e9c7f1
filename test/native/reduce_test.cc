// reduce against sums in double: every subset of dimensions of every permutation, rows and columns, long and short.
#include <algorithm>

#include "core/kinds.h"
#include "reduce_reference.h"

namespace heed::test {
namespace {

Int number(ReduceKind kind) { return static_cast<Int>(kind); }

TEST(reduce_every_subset_of_every_permutation) {
  Random random(1);
  Laid<float> inp({5, 3, 33, 17});
  random.fill(inp.memory);
  std::vector<int> dims = {0, 1, 2, 3};
  do
    for (unsigned mask = 0; mask < 16; mask++)
      check_all_kinds(stream, ops, permute(inp, dims), mask, mask % 2 ? Layout::stepped : Layout::transposed);
  while (std::next_permutation(dims.begin(), dims.end()));
}

TEST(reduce_sizes_and_layouts) {
  Random random(2);
  for (const int64_t rows : {1, 2, 3, 4, 65, 300})
    for (const int64_t columns : {1, 2, 3, 17, 31, 33, 63, 65, 257, 513, 2100})
      for (const Layout layout : kInLayouts) {
        Laid<float> inp({rows, columns}, layout);
        random.fill(inp.memory, 0, 1);
        for (unsigned mask = 0; mask < 4; mask++) check_all_kinds(stream, ops, inp, mask, Layout::contiguous);
      }
}

// Long enough to be cut into segments; a mean far from zero, where plain f32 sums lose the digits.
TEST(reduce_long) {
  Random random(3);
  for (const Shape& shape : {Shape{1, 400000}, Shape{400000, 1}, Shape{3, 100003}, Shape{100003, 3}, Shape{997, 601}}) {
    Laid<float> inp(shape);
    random.fill(inp.memory, 999, 1001);
    for (unsigned mask = 1; mask < 4; mask++) check_all_kinds(stream, ops, inp, mask, Layout::contiguous);
  }
}

// Where every addition rounds the same way, errors do not cancel: what blocks of f32 are short for.
TEST(reduce_long_constant) {
  for (const Shape& shape : {Shape{1, 400000}, Shape{20000, 300}}) {
    Laid<float> inp(shape);
    for (int64_t i = 0; i < inp.memory.size; i++) inp.memory[i] = 0.1f;
    for (unsigned mask = 1; mask < 4; mask++) check_all_kinds(stream, ops, inp, mask, Layout::contiguous);
  }
}

TEST(reduce_many_short) {
  Random random(4);
  for (const Shape& shape : {Shape{30011, 3}, Shape{3, 30011}}) {
    Laid<float> inp(shape);
    random.fill(inp.memory);
    for (unsigned mask = 0; mask < 4; mask++) check_all_kinds(stream, ops, inp, mask, Layout::contiguous);
  }
}

TEST(reduce_is_the_same_with_any_thread_count) {
  Random random(5);
  Laid<float> inp({701, 523});
  random.fill(inp.memory);
  for (unsigned mask = 1; mask < 4; mask++) {
    std::vector<float> first;
    with_thread_counts([&] {
      Laid<float> out(reduced_shape(inp, mask));
      ops.reduce(stream, out, inp, number(ReduceKind::sum), false);
      synchronize(stream);
      const std::vector<float> values(out.memory.values.get(), out.memory.values.get() + out.memory.size);
      if (first.empty()) first = values;
      EXPECT(values == first);
    });
  }
}

TEST(reduce_accumulates) {
  Random random(6);
  Laid<float> inp({33, 65});
  random.fill(inp.memory);
  for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::mean, ReduceKind::max})
    for (unsigned mask = 0; mask < 4; mask++) {
      Laid<float> out(reduced_shape(inp, mask), Layout::stepped), added(reduced_shape(inp, mask), Layout::stepped);
      random.fill(added.memory);
      const Laid<float> before = [&] {
        Laid<float> copy(reduced_shape(inp, mask), Layout::stepped);
        for (int64_t i = 0; i < copy.memory.size; i++) copy.memory[i] = added.memory[i];
        return copy;
      }();
      ops.reduce(stream, out, inp, number(kind), false);
      ops.reduce(stream, added, inp, number(kind), true);
      synchronize(stream);
      bool right = true;
      for (int64_t i = 0; i < out.view.numel(); i++) right = right && added.at(i) == before.at(i) + out.at(i);
      EXPECT(right);
    }
}

TEST(reduce_max_of_special_values) {
  for (const int64_t n : {1, 2, 7, 16, 17, 40, 200, 5000})
    for (const int64_t at : {int64_t{0}, n / 2, n - 1})
      for (const Layout layout : {Layout::contiguous, Layout::stepped}) {
        Laid<float> inp({n, 2}, layout), rows({1, 2}), columns({n, 1});
        for (int64_t i = 0; i < 2 * n; i++) inp.at(i) = -HUGE_VALF;
        ops.reduce(stream, rows, inp, number(ReduceKind::max), false);
        synchronize(stream);
        EXPECT(rows.at(0) == -HUGE_VALF && rows.at(1) == -HUGE_VALF);
        inp.at(2 * at) = NAN;
        inp.at(2 * at + 1) = -5;
        ops.reduce(stream, rows, inp, number(ReduceKind::max), false);
        ops.reduce(stream, columns, inp, number(ReduceKind::max), false);
        synchronize(stream);
        EXPECT(std::isnan(rows.at(0)) && rows.at(1) == -5);
        EXPECT(std::isnan(columns.at(at)));
      }
}

TEST(reduce_scalar) {
  Laid<float> inp((Shape())), out((Shape()));
  inp.at(0) = 3;
  ops.reduce(stream, out, inp, number(ReduceKind::mean), false);
  synchronize(stream);
  EXPECT(out.at(0) == 3);
}

TEST(reduce_nothing) {
  const Laid<float> inp({3, 0, 2}), no_outputs({3, 0, 1});
  Laid<float> out({3, 1, 2});
  for (int64_t i = 0; i < 6; i++) out.at(i) = 7;
  ops.reduce(stream, out, inp, number(ReduceKind::sum), true);
  synchronize(stream);
  for (int64_t i = 0; i < 6; i++) EXPECT(out.at(i) == 7);
  ops.reduce(stream, out, inp, number(ReduceKind::sum), false);
  ops.reduce(stream, no_outputs, inp, number(ReduceKind::max), false);
  synchronize(stream);
  for (int64_t i = 0; i < 6; i++) EXPECT(out.at(i) == 0);
}

TEST(reduce_errors) {
  const Laid<float> inp({2, 3}), out({2, 1}), other({3, 1}), vector({2}), repeated({2, 3}, Layout::repeated_first);
  const Laid<float> empty({0, 3}), one({1, 3});
  const Laid<int32_t> ids({2, 3});
  EXPECT(error_of([&] { ops.reduce(stream, other, inp, 0, false); }) ==
         "ERR_SHAPE: reduce: expected out of shape [2, 3] with any sizes replaced by 1, got [3, 1]");
  EXPECT(error_of([&] { ops.reduce(stream, vector, inp, 0, false); }) ==
         "ERR_SHAPE: reduce: expected out of shape [2, 3] with any sizes replaced by 1, got [2]");
  EXPECT(error_of([&] { ops.reduce(stream, repeated, inp, 0, false); }) ==
         "ERR_SHAPE: reduce: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(error_of([&] { ops.reduce(stream, out, ids, 0, false); }) ==
         "ERR_DTYPE: reduce: expected inp of dtype f32, got i32");
  EXPECT(error_of([&] { ops.reduce(stream, ids, inp, 0, false); }) ==
         "ERR_DTYPE: reduce: expected out of dtype f32, bf16 or f16, got i32");
  EXPECT(error_of([&] { ops.reduce(stream, out, inp, 3, false); }) ==
         "ERR_ARGUMENT: reduce: expected kind from 0 to 2, got 3");
  EXPECT(error_of([&] { ops.reduce(stream, out, inp, -1, false); }) ==
         "ERR_ARGUMENT: reduce: expected kind from 0 to 2, got -1");
  EXPECT(error_of([&] { ops.reduce(stream, one, empty, number(ReduceKind::mean), false); }) ==
         "ERR_ARGUMENT: reduce: expected at least one element to take the mean of, got shape [0, 3]");
  EXPECT(error_of([&] { ops.reduce(stream, one, empty, number(ReduceKind::max), false); }) ==
         "ERR_ARGUMENT: reduce: expected at least one element to take the max of, got shape [0, 3]");
}

}  // namespace
}  // namespace heed::test
