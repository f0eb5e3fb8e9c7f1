// Tests cross-entropy, loss and gradient: vocabularies of every awkward size, rows in parts, in place, ignored rows,
// targets outside the vocabulary, and every error.
#include "sweep.h"

namespace heed::test {
namespace {

constexpr int64_t kIgnore = -100;

TEST(cross_entropy_sizes) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](int64_t rows, int64_t V, float smoothing, int64_t ignored = kIgnore) {
      const Operand logits{{rows, V}, DType::f32, Layout::contiguous, -10, 10};
      const auto run = [&](const Views& v, OptOut losses, OptOut dlogits) {
        ops.cross_entropy(stream, v[0], losses, dlogits, v[3], v[4], 0, ignored, smoothing, 1, false);
      };
      const std::vector<Operand> operands = {{{1}}, {{rows}}, logits, logits, integers({rows}, V)};
      s.check("cross_entropy", 3, operands, [&](const Views& v) { run(v, &v[1], &v[2]); });
      s.check("cross_entropy", 1, operands, [&](const Views& v) { run(v, nullptr, nullptr); });
      // The result in place is the same.
      s.check("cross_entropy", 4, operands, [&](const Views& v) {
        run(v, nullptr, &v[2]);
        run(v, nullptr, &v[3]);
        EXPECT(synchronize(stream).empty());
        for (int64_t i = 0; i < rows * V; i++)
          if (v[2].f32()[i] != v[3].f32()[i]) return report("in place it is not the same");
      });
    };
    for (const int64_t V : {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 257, 1023, 1024, 1025, 2049})
      for (const float smoothing : {0.0f, 0.1f}) check(4, V, smoothing);
    check(7, 33, 1);
    check(7, 33, 0, 0);  // an index of the vocabulary
    check(2000, 65, 0);
    check(2, 50257, 0);
    check(2, 200001, 0.1f);
  });
}

// Parts of the rows of a loss, each with its own place among the targets.
TEST(cross_entropy_of_rows_in_parts) {
  sweep(stream, [&](Sweep& s) {
    constexpr int64_t V = 37;
    for (const int64_t begin : {0, 1, 7})
      for (const int64_t rows : {1, 4})
        s.check_accumulating("cross_entropy", 1, {{{1}}, {{rows}}, {{rows, V}}, {{rows, V}}, integers({11}, V)},
                             [&](const Views& v, bool accumulate) {
                               ops.cross_entropy(stream, v[0], nullptr, nullptr, v[3], v[4], begin, kIgnore, 0.1f, 1,
                                                 accumulate);
                             });
  });
}

TEST(cross_entropy_all_ignored_is_zero) {
  Array<float> logits({3, 19}), loss({1}), losses({3}), dlogits({3, 19});
  Array<int32_t> targets({3});
  for (int64_t i = 0; i < 57; i++) logits[i] = NAN, dlogits[i] = 1;
  loss[0] = losses[0] = losses[1] = losses[2] = 1;
  for (int64_t r = 0; r < 3; r++) targets[r] = kIgnore;
  ops.cross_entropy(stream, loss, &losses, &dlogits, logits, targets, 0, kIgnore, 0.1f, 1, false);
  EXPECT(synchronize(stream).empty());
  EXPECT(loss[0] == 0 && losses[0] == 0 && losses[1] == 0 && losses[2] == 0);
  for (int64_t i = 0; i < 57; i++) EXPECT(dlogits[i] == 0);
  Array<float> none({0, 19}), no_losses({0});
  Array<int32_t> no_targets({0});
  loss[0] = 1;
  ops.cross_entropy(stream, loss, &no_losses, &none, none, no_targets, 0, kIgnore, 0, 1, false);
  EXPECT(synchronize(stream).empty() && loss[0] == 0);
}

TEST(cross_entropy_errors) {
  Array<float> logits({2, 9}), loss({1}), two({2}), wrong({2, 8}), dlogits({2, 9}),
      scalar(std::initializer_list<int64_t>{});
  Array<int32_t> targets({2}), one({1});
  TensorView strided = logits;
  strided.strides[0] = 10;
  const auto is = [](const std::string& got, const char* expected) {
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const auto call = [&](In l, OptOut each, OptOut dx, In x, In t, Float s) {
    return error_of([&] { ops.cross_entropy(stream, l, each, dx, x, t, 0, kIgnore, s, 1, false); });
  };
  const OptOut none = nullptr;
  is(call(loss, none, none, scalar, targets, 0),
     "ERR_SHAPE: cross_entropy: expected logits with at least 1 dimension, got shape []");
  is(call(loss, none, none, targets, targets, 0),
     "ERR_DTYPE: cross_entropy: expected logits of dtype f32, bf16 or f16, got i32");
  is(call(loss, none, none, strided, targets, 0),
     "ERR_SHAPE: cross_entropy: expected logits to be contiguous, got a strided view of shape [2, 9]");
  is(call(two, none, none, logits, targets, 0), "ERR_SHAPE: cross_entropy: expected loss of shape [1], got [2]");
  is(call(loss, &loss, none, logits, targets, 0), "ERR_SHAPE: cross_entropy: expected losses of shape [2], got [1]");
  is(call(loss, none, &wrong, logits, targets, 0),
     "ERR_SHAPE: cross_entropy: expected dlogits of shape [2, 9], got [2, 8]");
  is(call(loss, none, none, logits, two, 0), "ERR_DTYPE: cross_entropy: expected targets of dtype i32, got f32");
  is(call(loss, none, none, logits, one, 0),
     "ERR_SHAPE: cross_entropy: expected a target for each of 2 rows from target 0 on, got 1 targets");
  for (const int64_t from : {int64_t{-1}, int64_t{1}, int64_t{3}, INT64_MAX})
    is(error_of([&] { ops.cross_entropy(stream, loss, none, none, logits, targets, from, kIgnore, 0, 1, false); }),
       ("ERR_SHAPE: cross_entropy: expected a target for each of 2 rows from target " + std::to_string(from) +
        " on, got 2 targets")
           .c_str());
  is(call(loss, none, none, logits, targets, -0.1f),
     "ERR_RANGE: cross_entropy: expected smoothing from 0 to 1, got -0.1");
  is(call(loss, none, none, logits, targets, 1.5f),
     "ERR_RANGE: cross_entropy: expected smoothing from 0 to 1, got 1.5");
  is(call(loss, none, none, logits, targets, NAN), "ERR_RANGE: cross_entropy: expected smoothing from 0 to 1, got nan");

  loss[0] = 4;
  targets[1] = 9;
  ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, 0, 1, false);
  is(synchronize(stream), "ERR_RANGE: cross_entropy: expected targets in [0, 9), got 9 at position 1");
  targets[0] = -1;
  ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, 0, 1, false);
  is(synchronize(stream), "ERR_RANGE: cross_entropy: expected targets in [0, 9), got -1 at position 0");
  EXPECT(loss[0] == 4);
}

}  // namespace
}  // namespace heed::test
