// Tests argmax, topk and sample: awkward sizes, ties, rows of NaN and infinities, rows that lie apart, and every error.
#include "sweep.h"

namespace heed::test {
namespace {

void is(const std::string& got, const char* expected) {
  if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
}

// Rows of different kinds: random, many ties, masked with -inf and NaN, rising, falling, and only -inf and NaN.
Array<float> rows_of_every_kind(int64_t rows, int64_t V) {
  Array<float> logits({rows, V});
  Random random(static_cast<uint64_t>(V));
  for (int64_t i = 0; i < logits.size; i++) {
    const float u = random.uniform(), place = static_cast<float>(i % V);
    const float values[] = {u,      std::round(2 * u),      u > 0.5f ? -INFINITY : u < -0.7f ? NAN : u, place,
                            -place, u > 0 ? NAN : -INFINITY};
    logits[i] = values[i / V % 6];
  }
  return logits;
}

const int64_t kSizes[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 257, 511, 512, 513, 1025, 5000};

TEST(argmax_and_topk_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t V : kSizes) {
      const Array<float> inp = rows_of_every_kind(12, V);
      s.check("argmax", 1, {integers({12}, 9)}, [&](const Views& v) { ops.argmax(stream, v[0], inp); });
      for (const int64_t k :
           {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{7}, int64_t{50}, int64_t{300}, V / 2, V - 1, V})
        if (k <= V)
          s.check("topk", 2, {{{12, k}}, integers({12, k}, 9)},
                  [&](const Views& v) { ops.topk(stream, v[0], v[1], inp); });
    }
    s.check("topk", 2, {{{4, 25, 3}}, integers({4, 25, 3}, 9), {{4, 25, 70}}},
            [&](const Views& v) { ops.topk(stream, v[0], v[1], v[2]); });
    s.check("argmax", 1, {integers({0}, 9), {{0, 7}}}, [&](const Views& v) { ops.argmax(stream, v[0], v[1]); });
    s.check("topk", 2, {{{0, 2}}, integers({0, 2}, 9), {{0, 5}}},
            [&](const Views& v) { ops.topk(stream, v[0], v[1], v[2]); });
  });
}

TEST(argmax_errors) {
  Array<float> inp({2, 3}), no_columns({2, 0}), scalar(std::initializer_list<int64_t>{});
  Array<int32_t> ids({2}), three({3}), whole({2, 3});
  is(error_of([&] { ops.argmax(stream, ids, scalar); }),
     "ERR_SHAPE: argmax: expected inp with at least 1 dimension, got shape []");
  is(error_of([&] { ops.argmax(stream, ids, whole); }),
     "ERR_DTYPE: argmax: expected inp of dtype f32, bf16 or f16, got i32");
  is(error_of([&] { ops.argmax(stream, inp, inp); }), "ERR_DTYPE: argmax: expected ids of dtype i32, got f32");
  is(error_of([&] { ops.argmax(stream, three, inp); }), "ERR_SHAPE: argmax: expected ids of shape [2], got [3]");
  is(error_of([&] { ops.argmax(stream, ids, no_columns); }),
     "ERR_SHAPE: argmax: expected inp with at least 1 column, got 0");
  TensorView strided = inp;
  strided.strides[0] = 4;
  is(error_of([&] { ops.argmax(stream, ids, strided); }),
     "ERR_SHAPE: argmax: expected inp to be contiguous, got a strided view of shape [2, 3]");
}

TEST(topk_errors) {
  Array<float> inp({2, 3}), values({2, 2}), four({2, 4}), three({3, 2}), scalar(std::initializer_list<int64_t>{});
  Array<int32_t> ids({2, 2}), ids_four({2, 4});
  const auto call = [&](In v, In i, In x) { return error_of([&] { ops.topk(stream, v, i, x); }); };
  is(call(values, ids, scalar), "ERR_SHAPE: topk: expected inp with at least 1 dimension, got shape []");
  is(call(scalar, ids, inp), "ERR_SHAPE: topk: expected values with at least 1 dimension, got shape []");
  is(call(values, ids, ids), "ERR_DTYPE: topk: expected inp of dtype f32, bf16 or f16, got i32");
  is(call(values, values, inp), "ERR_DTYPE: topk: expected ids of dtype i32, got f32");
  is(call(three, ids, inp), "ERR_SHAPE: topk: expected values of shape [2, 2], got [3, 2]");
  is(call(values, ids_four, inp), "ERR_SHAPE: topk: expected ids of shape [2, 2], got [2, 4]");
  is(call(four, ids_four, inp), "ERR_SHAPE: topk: expected at most 3 values per row, got 4");
}

struct Sampling {
  float temperature = 1;
  int64_t top_k = 0;
  float top_p = 1, min_p = 0, repetition_penalty = 1;
  int64_t seed = 42;
};

const Sampling kSamplings[] = {
    {},  {0.7f},   {2, 5},     {1, 0, 0.9f},         {1, 0, 1, 0.1f},   {1.3f, 20, 0.8f, 0.05f, 1.2f}, {1, 0, 1e-6f},
    {0}, {1e-42f}, {1e30f, 3}, {1, 100000, 0.7f, 1}, {1, 0, 1, 0, 0.5f}};

TEST(sample_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t V : {1, 2, 3, 17, 64, 257, 1000, 50257})
      for (const Sampling& given : kSamplings) {
        const Array<float> logits = rows_of_every_kind(V < 1000 ? 40 : 6, V);
        const int64_t B = logits.view.shape[0];
        s.check("sample", 2, {integers({B}, 9), integers({B}, 9), integers({B, 6}, V, -1), integers({B}, 1000)},
                [&](const Views& v) {
                  ops.sample(stream, v[0], &v[1], logits, &v[2], v[3], given.temperature, given.top_k, given.top_p,
                             given.min_p, given.repetition_penalty, given.seed);
                });
      }
  });
}

TEST(sample_errors) {
  Array<float> logits({2, 9}), flat({9}), no_columns({2, 0}), no_rows({0, 9});
  Array<int32_t> ids({2}), three({3}), history({2, 4}), other({3, 4}), offsets({2}), none({0});
  const auto call = [&](Out i, In x, OptIn past, In at, const Sampling& s) {
    return error_of([&] {
      ops.sample(stream, i, nullptr, x, past, at, s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty,
                 s.seed);
    });
  };
  is(call(ids, ids, nullptr, offsets, {}), "ERR_DTYPE: sample: expected logits of dtype f32, bf16 or f16, got i32");
  is(call(ids, flat, nullptr, offsets, {}), "ERR_SHAPE: sample: expected logits with 2 dimensions, got shape [9]");
  is(call(logits, logits, nullptr, offsets, {}), "ERR_DTYPE: sample: expected ids of dtype i32, got f32");
  is(call(three, logits, nullptr, offsets, {}), "ERR_SHAPE: sample: expected ids of shape [2], got [3]");
  const auto with_inputs = [&](OptOut inputs) {
    return error_of([&] { ops.sample(stream, ids, inputs, logits, nullptr, offsets, 1, 0, 1, 0, 1, 0); });
  };
  is(with_inputs(&logits), "ERR_DTYPE: sample: expected inputs of dtype i32, got f32");
  is(with_inputs(&three), "ERR_SHAPE: sample: expected inputs of shape [2], got [3]");
  is(call(ids, logits, nullptr, logits, {}), "ERR_DTYPE: sample: expected offsets of dtype i32, got f32");
  is(call(ids, logits, nullptr, three, {}), "ERR_SHAPE: sample: expected offsets of shape [2], got [3]");
  is(call(ids, logits, &ids, offsets, {}), "ERR_SHAPE: sample: expected history with 2 dimensions, got shape [2]");
  is(call(ids, logits, &logits, offsets, {}), "ERR_DTYPE: sample: expected history of dtype i32, got f32");
  is(call(ids, logits, &other, offsets, {}), "ERR_SHAPE: sample: expected history of shape [2, 4], got [3, 4]");
  is(call(ids, no_columns, nullptr, offsets, {}), "ERR_SHAPE: sample: expected logits with at least 1 column, got 0");
  is(call(ids, logits, nullptr, offsets, {-1}),
     "ERR_RANGE: sample: expected temperature of at least 0 and finite, got -1");
  is(call(ids, logits, nullptr, offsets, {INFINITY}),
     "ERR_RANGE: sample: expected temperature of at least 0 and finite, got inf");
  is(call(ids, logits, nullptr, offsets, {1, -1}), "ERR_RANGE: sample: expected top_k of at least 0, got -1");
  is(call(ids, logits, nullptr, offsets, {1, 0, 0}), "ERR_RANGE: sample: expected top_p in (0, 1], got 0");
  is(call(ids, logits, nullptr, offsets, {1, 0, NAN}), "ERR_RANGE: sample: expected top_p in (0, 1], got nan");
  is(call(ids, logits, nullptr, offsets, {1, 0, 1, 1.5f}), "ERR_RANGE: sample: expected min_p in [0, 1], got 1.5");
  is(call(ids, logits, nullptr, offsets, {1, 0, 1, 0, 0}),
     "ERR_RANGE: sample: expected repetition_penalty above 0 and finite, got 0");
  ops.sample(stream, none, nullptr, no_rows, nullptr, none, 1, 0, 1, 0, 1, 0);
  EXPECT(synchronize(stream).empty());

  ids[0] = 55;
  history[6] = 9;
  ops.sample(stream, ids, nullptr, logits, &history, offsets, 1, 0, 1, 0, 1.1f, 0);
  is(synchronize(stream), "ERR_RANGE: sample: expected history ids below 9, got 9 at position 2 of row 1");
  EXPECT(ids[0] == 55);
}

}  // namespace
}  // namespace heed::test
