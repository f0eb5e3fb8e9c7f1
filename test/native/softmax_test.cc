// Tests softmax over the last dimension: awkward widths, rows that lie apart, in place, and every error.
#include "sweep.h"

namespace heed::test {
namespace {

TEST(softmax_sizes) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](const Shape& shape) {
      const std::vector<int> dims = {1, 0, 2};
      const Operand row{shape, DType::f32, Layout::contiguous, -10, 10};
      Operand apart = row;  // the first two dimensions swapped in memory
      std::swap(apart.shape[0], apart.shape[1]);
      apart.window = [dims](const TensorView& view) { return permute(view, dims); };
      for (const Operand& inp : {row, apart}) {
        s.check("softmax_forward", 1, {inp, inp}, [&](const Views& v) { ops.softmax_forward(stream, v[0], v[1]); });
        s.check("softmax_forward", 1, {row, inp}, [&](const Views& v) { ops.softmax_forward(stream, v[0], v[1]); });
        for (const bool accumulate : {false, true})
          s.check("softmax_backward", 1, {row, inp, inp},
                  [&](const Views& v) { ops.softmax_backward(stream, v[0], v[1], v[2], accumulate); });
      }
    };
    for (const int64_t C : {1, 2, 3, 15, 16, 17, 31, 33, 63, 65, 257, 513, 1030}) check({3, 5, C});
    check({1, 2, 50257});
    check({1, 300, 400});
    s.check("softmax_forward", 1, {{{4, 33}}, {{4, 33}, DType::f32, Layout::repeated_first}},
            [&](const Views& v) { ops.softmax_forward(stream, v[0], v[1]); });
  });
}

TEST(softmax_in_place) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t C : {1, 33, 2000})
      s.check("softmax_forward", 2, {{{4, C}}, {{4, C}}}, [&](const Views& v) {
        ops.softmax_forward(stream, v[0], v[1]);
        ops.softmax_forward(stream, v[1], v[1]);
        EXPECT(synchronize(stream).empty());
        for (int64_t i = 0; i < v[0].numel(); i++)
          if (v[0].f32()[i] != v[1].f32()[i]) return report("in place it is not the same");
      });
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
