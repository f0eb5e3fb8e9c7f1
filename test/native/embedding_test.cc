// Embedding rows, forward and backward: exact copies, gradient sums against float64, ids outside the table.
#include <cstring>

#include "check.h"

namespace heed::test {
namespace {

void fill_ids(Array<int32_t>& ids, int64_t V, uint64_t seed) {
  Random random(seed);
  for (int64_t i = 0; i < ids.size; i++) ids[i] = static_cast<int32_t>(random.below(V));
}

TEST(embedding_forward_copies_rows) {
  for (const int64_t C : {1, 2, 3, 17, 31, 33, 64, 65, 257, 20000}) {
    constexpr int64_t V = 23;
    Array<float> weight({V, C}), out({3, 5, C});
    Array<int32_t> ids({3, 5});
    Random random(static_cast<uint64_t>(C));
    random.fill(weight);
    fill_ids(ids, V, static_cast<uint64_t>(C));
    ids[0] = 0;
    ids[14] = V - 1;
    ops.embedding_forward(stream, out, ids, weight);
    EXPECT(synchronize(stream).empty());
    for (int64_t i = 0; i < ids.size; i++)
      EXPECT(std::memcmp(&out[i * C], &weight[ids[i] * C], static_cast<size_t>(C) * sizeof(float)) == 0);
  }
}

void check_backward(Stream& stream, const Ops& ops, int64_t n, int64_t V, int64_t C, bool accumulate) {
  Array<float> dweight({V, C}), dout({n, C});
  Array<int32_t> ids({n});
  Random random(static_cast<uint64_t>(n * 31 + V + C));
  random.fill(dweight);
  random.fill(dout);
  fill_ids(ids, V, static_cast<uint64_t>(n + C));
  std::vector<double> expected(dweight.size, 0);
  for (int64_t i = 0; accumulate && i < dweight.size; i++) expected[i] = dweight[i];
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < C; c++) expected[ids[i] * C + c] += dout[i * C + c];
  ops.embedding_backward(stream, dweight, dout, ids, accumulate);
  EXPECT(synchronize(stream).empty());
  // Half an ulp of a partial sum each time; partial sums of about n/V terms in [-1, 1] walk to sqrt(n/V).
  const double terms = static_cast<double>(n) / static_cast<double>(V) + 1;
  const std::string label = "n=" + std::to_string(n) + " V=" + std::to_string(V) + " C=" + std::to_string(C);
  expect_near(label.c_str(), &dweight[0], expected.data(), dweight.size, 0x1p-24 * 4 * terms, 0x1p-23);
}

TEST(embedding_backward_sums_rows) {
  for (const int64_t C : {1, 2, 3, 17, 31, 33, 63, 64, 65, 257})
    for (const bool accumulate : {false, true}) check_backward(stream, ops, 100, 7, C, accumulate);
  check_backward(stream, ops, 1000, 1, 65, true);   // one row takes them all
  check_backward(stream, ops, 3, 5000, 33, false);  // most rows stay zero, and several tasks zero them
  check_backward(stream, ops, 0, 4, 16, false);     // no ids: zeros
  check_backward(stream, ops, 0, 4, 16, true);      // no ids: nothing
}

TEST(embedding_backward_same_bits_on_any_threads) {
  constexpr int64_t kIds = 500, V = 11, C = 200;
  Array<float> dout({kIds, C});
  Array<int32_t> ids({kIds});
  Random random(3);
  random.fill(dout);
  fill_ids(ids, V, 3);
  const int threads = cpu::thread_count();
  std::vector<float> first;
  for (const int count : {1, 2, 5}) {
    cpu::set_thread_count(count);
    Array<float> dweight({V, C});
    ops.embedding_backward(stream, dweight, dout, ids, false);
    synchronize(stream);
    if (first.empty()) first.assign(&dweight[0], &dweight[0] + dweight.size);
    EXPECT(std::memcmp(first.data(), &dweight[0], first.size() * sizeof(float)) == 0);
  }
  cpu::set_thread_count(threads);
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
  is(forward(out, ids, ids), "ERR_DTYPE: embedding_forward: expected weight of dtype f32, got i32");
  is(forward(out, ids, flat), "ERR_SHAPE: embedding_forward: expected weight with 2 dimensions, got shape [20]");
  is(forward(ids, ids, weight), "ERR_DTYPE: embedding_forward: expected out of dtype f32, bf16 or f16, got i32");
  is(forward(wrong, ids, weight), "ERR_SHAPE: embedding_forward: expected out of shape [3, 4], got [3, 5]");
  is(forward(out, deep, weight), "ERR_SHAPE: embedding_forward: expected ids with at most 7 dimensions");
  is(backward(flat, out, ids), "ERR_SHAPE: embedding_backward: expected dweight with 2 dimensions, got shape [20]");
  is(backward(weight, wrong, ids), "ERR_SHAPE: embedding_backward: expected dout of shape [3, 4], got [3, 5]");
}

}  // namespace
}  // namespace heed::test
