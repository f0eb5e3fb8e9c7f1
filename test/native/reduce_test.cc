// Tests reduce: every subset of dimensions of every permutation, rows and columns, long and short, and every error.
#include <algorithm>

#include "core/kinds.h"
#include "sweep.h"

namespace heed::test {
namespace {

Int number(ReduceKind kind) { return static_cast<Int>(kind); }

// Checks every kind over the dimensions in `mask`.
void check(Sweep& s, Stream& stream, const Ops& ops, const Operand& inp, const Shape& shape, unsigned mask,
           Layout layout) {
  Shape reduced = shape;
  for (size_t d = 0; d < shape.size(); d++)
    if (mask >> d & 1) reduced[d] = 1;
  for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::mean, ReduceKind::max})
    s.check_accumulating("reduce", 1, {{reduced, DType::f32, layout}, inp}, [&](const Views& v, bool accumulate) {
      ops.reduce(stream, v[0], v[1], number(kind), accumulate);
    });
}

TEST(reduce_every_subset_of_every_permutation) {
  sweep(stream, [&](Sweep& s) {
    const Shape shape = {5, 3, 33, 17};
    std::vector<int> dims = {0, 1, 2, 3};
    do {
      Shape turned;
      for (const int d : dims) turned.push_back(shape[static_cast<size_t>(d)]);
      const Operand inp{shape, DType::f32, Layout::contiguous,
                        -1,    1,          [dims](const TensorView& view) { return permute(view, dims); }};
      for (unsigned mask = 0; mask < 16; mask++)
        check(s, stream, ops, inp, turned, mask, mask % 2 ? Layout::stepped : Layout::transposed);
    } while (std::next_permutation(dims.begin(), dims.end()));
  });
}

TEST(reduce_sizes_and_layouts) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t rows : {1, 2, 3, 4, 65})
      for (const int64_t columns : {1, 2, 3, 17, 31, 33, 63, 65, 257, 513})
        for (const Layout layout : kInLayouts)
          for (unsigned mask = 0; mask < 4; mask++)
            check(s, stream, ops, {{rows, columns}, DType::f32, layout}, {rows, columns}, mask, Layout::contiguous);
  });
}

// Reductions that are long enough to be cut into segments, and many short ones.
TEST(reduce_long) {
  sweep(stream, [&](Sweep& s) {
    for (const Shape& shape : {Shape{1, 70001}, Shape{70001, 1}, Shape{3, 30011}, Shape{30011, 3}, Shape{300, 2100}})
      for (unsigned mask = 1; mask < 4; mask++) check(s, stream, ops, {shape}, shape, mask, Layout::contiguous);
  });
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
