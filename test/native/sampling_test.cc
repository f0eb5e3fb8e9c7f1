// argmax, topk, sample and log_probabilities: awkward sizes, ties, rows of NaN and infinities, rows apart from each
// other, and every error.
#include <cstring>
#include <vector>

#include "core/sampling.h"
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

const SamplingNumbers kPlain = {1, 0, 0, 1, 1, 0, 1};

// Options of rows, as tensors.
struct Options {
  Array<float> numbers;
  Array<int32_t> integers;

  Options(int64_t B, const std::vector<SamplingNumbers>& choice = {kPlain}, int32_t top_k = 0)
      : numbers({B, kSamplingNumbers}), integers({B, kSamplingIntegers}) {
    for (int64_t b = 0; b < B; b++) {
      const SamplingNumbers& row = choice[static_cast<size_t>(b) % choice.size()];
      std::memcpy(&numbers[b * kSamplingNumbers], &row, sizeof row);
      const int32_t whole[] = {b % 2 == 0 ? top_k : 0, 42, 1};
      std::memcpy(&integers[b * kSamplingIntegers], whole, sizeof whole);
    }
  }
};

TEST(sample_sizes) {
  // Repetition, presence and frequency penalty, temperature, top-p, min-p, typical-p.
  const std::vector<SamplingNumbers> rows = {
      kPlain,
      {1, 0, 0, 0.7f, 0.9f, 0, 1},
      {1.2f, 0.5f, 0.1f, 1.3f, 0.8f, 0.05f, 0.7f},
      {1, 0, 0, 0, 1, 0, 1},
      {1, 0, 0, 1e-42f, 1, 0.1f, 1},
      {0.5f, -1, 0, 1e30f, 1e-6f, 0, 1},
      {1, 0, 0, 2, 1, 0, 0.3f},
  };
  sweep(stream, [&](Sweep& s) {
    for (const int64_t V : {1, 2, 3, 17, 64, 257, 1000, 50257})
      for (const int32_t top_k : {0, 5, 100000}) {
        const Array<float> logits = rows_of_every_kind(V < 1000 ? 40 : 7, V);
        const int64_t B = logits.view.shape[0];
        const Options options(B, rows, top_k);
        const Array<float> bias = rows_of_every_kind(B, V);
        const int64_t words = (V + kTokensPerWord - 1) / kTokensPerWord;
        s.check("sample", 2,
                {integers({B}, 9), integers({B}, 9), integers({B, 6}, V, -1), integers({B, 3}, V, -1),
                 integers({B, words}, 1 << 30), integers({B}, 1000)},
                [&](const Views& v) {
                  ops.sample(stream, v[0], &v[1], logits, &v[2], &v[3], top_k ? &bias.view : nullptr, &v[4], v[5],
                             options.numbers, options.integers);
                });
      }
  });
}

TEST(log_probabilities_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t V : {1, 2, 3, 17, 64, 257, 1000, 50257}) {
      const Array<float> logits = rows_of_every_kind(7, V);
      s.check("log_probabilities", 1, {{{7, 3}}, integers({7, 3}, V, -1)},
              [&](const Views& v) { ops.log_probabilities(stream, v[0], logits, v[1]); });
    }
  });
}

TEST(sample_errors) {
  Array<float> logits({2, 9}), flat({9}), no_columns({2, 0}), no_rows({0, 9}), bias({2, 9});
  Array<int32_t> ids({2}), three({3}), history({2, 4}), other({3, 4}), offsets({2}), none({0}), words({2, 2});
  const Options two(2), three_rows(3), zero(0);
  struct Inputs {
    OptIn history = nullptr, generated = nullptr, bias = nullptr, allowed = nullptr;
    OptOut inputs = nullptr;
  };
  const auto call = [&](Out i, In x, In at, const Inputs& given = {}, const Options* options = nullptr) {
    const Options& o = options ? *options : two;
    return error_of([&] {
      ops.sample(stream, i, given.inputs, x, given.history, given.generated, given.bias, given.allowed, at, o.numbers,
                 o.integers);
    });
  };
  is(call(ids, ids, offsets), "ERR_DTYPE: sample: expected logits of dtype f32, bf16 or f16, got i32");
  is(call(ids, flat, offsets), "ERR_SHAPE: sample: expected logits with 2 dimensions, got shape [9]");
  is(call(logits, logits, offsets), "ERR_DTYPE: sample: expected ids of dtype i32, got f32");
  is(call(three, logits, offsets), "ERR_SHAPE: sample: expected ids of shape [2], got [3]");
  is(call(ids, logits, offsets, {.inputs = &logits.view}), "ERR_DTYPE: sample: expected inputs of dtype i32, got f32");
  is(call(ids, logits, offsets, {.inputs = &three.view}), "ERR_SHAPE: sample: expected inputs of shape [2], got [3]");
  is(call(ids, logits, logits), "ERR_DTYPE: sample: expected offsets of dtype i32, got f32");
  is(call(ids, logits, three), "ERR_SHAPE: sample: expected offsets of shape [2], got [3]");
  is(call(ids, logits, offsets, {&ids.view}), "ERR_SHAPE: sample: expected history with 2 dimensions, got shape [2]");
  is(call(ids, logits, offsets, {&logits.view}), "ERR_DTYPE: sample: expected history of dtype i32, got f32");
  is(call(ids, logits, offsets, {&other.view}), "ERR_SHAPE: sample: expected history of shape [2, 4], got [3, 4]");
  is(call(ids, logits, offsets, {.generated = &other.view}),
     "ERR_SHAPE: sample: expected generated of shape [2, 4], got [3, 4]");
  is(call(ids, logits, offsets, {.bias = &words.view}), "ERR_DTYPE: sample: expected bias of dtype f32, got i32");
  is(call(ids, logits, offsets, {.allowed = &words.view}),
     "ERR_SHAPE: sample: expected allowed of shape [2, 1], got [2, 2]");
  is(call(ids, logits, offsets, {}, &three_rows), "ERR_SHAPE: sample: expected numbers of shape [2, 7], got [3, 7]");
  is(call(ids, no_columns, offsets), "ERR_SHAPE: sample: expected logits with at least 1 column, got 0");
  is(call(none, no_rows, none, {}, &zero), "");
  EXPECT(synchronize(stream).empty());

  ids[0] = 55;
  history[6] = 9;
  for (const Inputs& given : {Inputs{.history = &history.view}, Inputs{.generated = &history.view}}) {
    is(call(ids, logits, offsets, given), "");
    is(synchronize(stream), "ERR_RANGE: sample: expected ids of earlier tokens below 9, got 9 at position 2 of row 1");
    EXPECT(ids[0] == 55);
  }
}

}  // namespace
}  // namespace heed::test
