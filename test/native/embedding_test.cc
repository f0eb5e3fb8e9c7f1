// Tests embedding rows, forward and backward: awkward widths, numbers of ids and tables, ids outside the table, and
// every error.
#include "sweep.h"

namespace heed::test {
namespace {

TEST(embedding_sizes) {
  sweep(stream, [&](Sweep& s) {
    const auto forward = [&](int64_t n, int64_t V, int64_t C) {
      s.check("embedding_forward", 1, {{{3, n, C}}, integers({3, n}, V), {{V, C}}},
              [&](const Views& v) { ops.embedding_forward(stream, v[0], v[1], v[2]); });
    };
    const auto backward = [&](int64_t n, int64_t V, int64_t C) {
      for (const bool accumulate : {false, true})
        s.check("embedding_backward", 1, {{{V, C}}, {{n, C}}, integers({n}, V)},
                [&](const Views& v) { ops.embedding_backward(stream, v[0], v[1], v[2], accumulate); });
    };
    for (const int64_t C : {1, 2, 3, 17, 31, 33, 63, 64, 65, 257}) {
      forward(5, 23, C);
      backward(100, 7, C);
    }
    forward(5, 23, 20000);
    backward(1000, 1, 65);   // all ids select one row
    backward(3, 5000, 33);   // most rows stay zero, and several tasks zero them
    backward(500, 11, 200);  // several tasks add
    backward(0, 4, 16);
  });
}

TEST(embedding_ids_outside_the_table) {
  Array<float> weight({512, 4}), out({2, 3, 4});
  Array<int32_t> ids({2, 3});
  for (int64_t i = 0; i < out.size; i++) out[i] = 7;
  for (int64_t i = 0; i < weight.size; i++) weight[i] = 5;
  const auto expect_error = [&](const char* expected) {
    const std::string got = synchronize(stream);
    if (got != expected) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
    for (int64_t i = 0; i < out.size; i++) EXPECT(out[i] == 7);
    for (int64_t i = 0; i < weight.size; i++) EXPECT(weight[i] == 5);
  };
  ids[3] = 700;
  ops.embedding_forward(stream, out, ids, weight);
  expect_error("ERR_RANGE: embedding_forward: expected ids in [0, 512), got 700 at position 3");
  ids[1] = -1;
  ops.embedding_forward(stream, out, ids, weight);
  expect_error("ERR_RANGE: embedding_forward: expected ids in [0, 512), got -1 at position 1");
  ids[1] = 512;
  ops.embedding_backward(stream, weight, out, ids, false);
  expect_error("ERR_RANGE: embedding_backward: expected ids in [0, 512), got 512 at position 1");
}

TEST(embedding_empty) {
  Array<float> weight({4, 0}), no_rows({0, 4}), out({3, 0}), none({0, 2, 4}), table({2, 4});
  Array<int32_t> ids({3}), no_ids({0, 2});
  ops.embedding_forward(stream, out, ids, weight);
  ops.embedding_backward(stream, weight, out, ids, false);
  ops.embedding_forward(stream, none, no_ids, table);
  ops.embedding_forward(stream, none, no_ids, no_rows);
  EXPECT(synchronize(stream).empty());
  Array<int32_t> one(std::initializer_list<int64_t>{});
  Array<float> row({4});
  one[0] = 1;
  table[4] = 9;
  ops.embedding_forward(stream, row, one, table);  // a single id gives a single row
  EXPECT(synchronize(stream).empty() && row[0] == 9);
}

TEST(embedding_of_integers_keeps_their_bits) {
  Array<int32_t> table({3, 5}), ids({4}), rows({4, 5});
  for (int64_t i = 0; i < 15; i++) table[i] = static_cast<int32_t>(0x7f800000 + 0x00400001 * i);  // NaN among them
  for (int64_t i = 0; i < 4; i++) ids[i] = static_cast<int32_t>((i * 2) % 3);
  ops.embedding_forward(stream, rows, ids, table);
  EXPECT(synchronize(stream).empty());
  for (int64_t i = 0; i < 20; i++) EXPECT(rows[i] == table[(i / 5 * 2) % 3 * 5 + i % 5]);
}

TEST(embedding_errors) {
  Array<float> weight({5, 4}), out({3, 4}), flat({20}), wrong({3, 5});
  Array<int32_t> ids({3});
  Array<int32_t> deep({1, 1, 1, 1, 1, 1, 1, 1});
  TensorView strided = ids;
  strided.strides[0] = 2;
  const auto is = [](const std::string& got, const char* expected) {
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const auto forward = [&](In y, In i, In w) { return error_of([&] { ops.embedding_forward(stream, y, i, w); }); };
  const auto backward = [&](In w, In y, In i) {
    return error_of([&] { ops.embedding_backward(stream, w, y, i, true); });
  };
  is(forward(out, out, weight), "ERR_DTYPE: embedding_forward: expected ids of dtype i32, got f32");
  is(forward(out, strided, weight),
     "ERR_SHAPE: embedding_forward: expected ids to be contiguous, got a strided view of shape [3]");
  is(forward(out, ids, ids), "ERR_DTYPE: embedding_forward: expected weight of dtype f32, bf16 or f16, got i32");
  is(forward(out, ids, flat), "ERR_SHAPE: embedding_forward: expected weight with 2 dimensions, got shape [20]");
  is(forward(ids, ids, weight), "ERR_DTYPE: embedding_forward: expected weight of dtype i32, got f32");
  is(forward(wrong, ids, weight), "ERR_SHAPE: embedding_forward: expected out of shape [3, 4], got [3, 5]");
  is(forward(out, deep, weight), "ERR_SHAPE: embedding_forward: expected ids with at most 7 dimensions");
  is(backward(flat, out, ids), "ERR_SHAPE: embedding_backward: expected dweight with 2 dimensions, got shape [20]");
  is(backward(weight, wrong, ids), "ERR_SHAPE: embedding_backward: expected dout of shape [3, 4], got [3, 5]");
}

}  // namespace
}  // namespace heed::test
