// argmax, topk and sample. The reference of sample sorts in float64 and draws with the same Philox words, so every
// draw can be compared; frequencies over many draws are compared with the distribution besides.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "check.h"

#define HEED_ISA portable
#include "cpu/kernels/philox.h"

namespace heed::test {
namespace {

void is(const std::string& got, const char* expected) {
  if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
}

// Indices by falling value, then rising index, NaN last.
std::vector<int64_t> ordered(const float* x, int64_t V) {
  std::vector<int64_t> index(V);
  std::iota(index.begin(), index.end(), 0);
  std::stable_sort(index.begin(), index.end(),
                   [x](int64_t a, int64_t b) { return std::isnan(x[b]) ? !std::isnan(x[a]) : x[a] > x[b]; });
  return index;
}

// Rows of different kinds: anything, many ties, masked with -inf and NaN, rising, falling, nothing but -inf and NaN.
void fill_row(Random& random, float* x, int64_t V, int64_t kind) {
  for (int64_t i = 0; i < V; i++) {
    const float u = random.uniform();
    switch (kind) {
      case 0:
        x[i] = u;
        break;
      case 1:
        x[i] = std::round(2 * u);
        break;  // also -0
      case 2:
        x[i] = u > 0.5f ? -INFINITY : u < -0.7f ? NAN : u;
        break;
      case 3:
        x[i] = static_cast<float>(i);
        break;
      case 4:
        x[i] = static_cast<float>(-i);
        break;
      default:
        x[i] = u > 0 ? NAN : -INFINITY;
    }
  }
}
constexpr int64_t kKinds = 6;
const int64_t kSizes[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 257, 511, 512, 513, 1025, 5000};

TEST(argmax_sizes) {
  Random random(1);
  for (const int64_t V : kSizes) {
    Array<float> inp({2, kKinds, V});
    Array<int32_t> ids({2, kKinds});
    for (int64_t r = 0; r < 2 * kKinds; r++) fill_row(random, &inp[r * V], V, r % kKinds);
    ops.argmax(stream, ids, inp);
    EXPECT(synchronize(stream).empty());
    for (int64_t r = 0; r < 2 * kKinds; r++) EXPECT(ids[r] == ordered(&inp[r * V], V)[0]);
  }
}

TEST(argmax_edges) {
  Array<float> row({600}), none({0, 7});
  Array<int32_t> id(std::initializer_list<int64_t>{}), no_ids({0});
  for (int64_t i = 0; i < 600; i++) row[i] = NAN;
  const auto result = [&] {
    ops.argmax(stream, id, row);
    EXPECT(synchronize(stream).empty());
    return id[0];
  };
  EXPECT(result() == 0);
  row[599] = -INFINITY;
  EXPECT(result() == 599);
  row[598] = -3e38f;
  EXPECT(result() == 598);
  row[3] = row[580] = INFINITY;
  EXPECT(result() == 3);
  ops.argmax(stream, no_ids, none);
  EXPECT(synchronize(stream).empty());
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

TEST(topk_is_the_head_of_a_sort) {
  Random random(2);
  for (const int64_t V : kSizes)
    for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{50}, int64_t{300}, V / 2, V - 1, V}) {
      if (k < 1 || k > V) continue;
      Array<float> inp({kKinds, V}), values({kKinds, k});
      Array<int32_t> ids({kKinds, k});
      for (int64_t r = 0; r < kKinds; r++) fill_row(random, &inp[r * V], V, r);
      ops.topk(stream, values, ids, inp);
      EXPECT(synchronize(stream).empty());
      for (int64_t r = 0; r < kKinds; r++) {
        const std::vector<int64_t> expected = ordered(&inp[r * V], V);
        bool same = true;
        for (int64_t j = 0; j < k; j++)
          same = same && ids[r * k + j] == expected[j] &&
                 std::memcmp(&values[r * k + j], &inp[r * V + expected[j]], sizeof(float)) == 0;
        if (!same)
          report("topk: V=%lld k=%lld row kind %lld", static_cast<long long>(V), static_cast<long long>(k),
                 static_cast<long long>(r));
      }
    }
}

TEST(topk_many_rows_and_none) {
  Array<float> inp({4, 25, 70}), values({4, 25, 3}), no_rows({0, 5}), no_values({0, 2}), nothing({100, 0}),
      flat({100, 70});
  Array<int32_t> ids({4, 25, 3}), no_ids({0, 2}), no_picks({100, 0});
  Random random(3);
  random.fill(inp);
  ops.topk(stream, values, ids, inp);
  ops.topk(stream, no_values, no_ids, no_rows);
  ops.topk(stream, nothing, no_picks, flat);
  EXPECT(synchronize(stream).empty());
  for (int64_t r = 0; r < 100; r++)
    for (int64_t j = 0; j < 3; j++) EXPECT(ids[r * 3 + j] == ordered(&inp[r * 70], 70)[j]);
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
  is(call(four, ids_four, inp), "ERR_SHAPE: topk: expected at most 3 values a row, got 4");
}

struct Sampling {
  float temperature = 1;
  int64_t top_k = 0;
  float top_p = 1, min_p = 0, repetition_penalty = 1;
  int64_t seed = 42;
};

// Each token's probability, or nothing where there is no distribution; `doubtful` when a sum is so near a limit that
// rounding decides.
std::vector<double> distribution(const float* logits, int64_t V, const std::vector<int32_t>& history, const Sampling& s,
                                 bool* doubtful) {
  std::vector<float> x(logits, logits + V);
  for (const int32_t id : history)
    if (id >= 0) x[id] = logits[id] > 0 ? logits[id] / s.repetition_penalty : logits[id] * s.repetition_penalty;
  const std::vector<int64_t> order = ordered(x.data(), V);
  std::vector<double> p(V, 0);
  *doubtful = false;
  for (const float value : x)
    if (std::isnan(value)) return {};
  if (!std::isfinite(x[order[0]])) return {};
  if (s.temperature == 0) {
    p[order[0]] = 1;
    return p;
  }
  const int64_t k = s.top_k > 0 ? std::min(s.top_k, V) : V;
  double mass = 0, before = 0, kept = 0;
  const auto weight = [&](int64_t i) { return std::exp((static_cast<double>(x[i]) - x[order[0]]) / s.temperature); };
  for (int64_t j = 0; j < k; j++) mass += weight(order[j]);
  for (int64_t j = 0; j < k; j++) {
    const double w = weight(order[j]);
    if (s.top_p < 1 && std::fabs(before - s.top_p * mass) < 1e-5 * mass) *doubtful = true;
    if (s.top_p < 1 && before >= s.top_p * mass) break;
    before += w;
    if (s.min_p > 0 && j > 0 && std::fabs(w - s.min_p) < 1e-5) *doubtful = true;
    if (w < s.min_p) continue;
    p[order[j]] = w;
    kept += w;
  }
  for (double& value : p) value /= kept;
  return p;
}

constexpr int64_t kDoubtful = -2;

// The token that u falls on, by index; kDoubtful when it is so near an edge that rounding decides.
int64_t reference_draw(const std::vector<double>& p, uint64_t seed, int32_t offset) {
  const auto random = cpu::portable::philox(seed, static_cast<uint32_t>(offset), kSamplingDraws);
  const double u =
      std::ldexp(static_cast<double>((static_cast<uint64_t>(random.word[0]) << 32 | random.word[1]) >> 11), -53);
  double sum = 0;
  for (size_t i = 0; i < p.size(); i++) {
    sum += p[i];
    if (p[i] > 0 && p[i] < 1 && std::fabs(u - sum) < 1e-5) return kDoubtful;
    if (u < sum) return static_cast<int64_t>(i);
  }
  return kDoubtful;
}

void run(Stream& stream, const Ops& ops, Out ids, In logits, OptIn history, In offsets, const Sampling& s) {
  Array<int32_t> inputs({ids.numel()});
  ops.sample(stream, ids, &inputs, logits, history, offsets, s.temperature, s.top_k, s.top_p, s.min_p,
             s.repetition_penalty, s.seed);
  EXPECT(synchronize(stream).empty());
  for (int64_t b = 0; b < ids.numel(); b++) EXPECT(inputs[b] == std::max(ids.i32()[b], 0));
}

const Sampling kSamplings[] = {
    {},
    {0.7f},
    {2, 5},
    {1, 0, 0.9f},
    {1, 0, 0.5f},
    {1, 0, 1, 0.1f},
    {0.8f, 40, 0.95f},
    {1.3f, 20, 0.8f, 0.05f, 1.2f},
    {1, 0, 1e-6f},
    {1, 1},
    {0},
    {0, 3, 0.5f, 0.5f, 1.5f},
    {1, 0, 0.9f, 0, 1.3f, -7},
    {1, 0, 0.9999f},
    {1e-30f},
    {1e-42f},
    {1e30f, 3},
    {1, 100000, 0.7f, 1},
    {1, 0, 1, 0, 0.5f},
};

TEST(sample_draws_what_the_reference_draws) {
  Random random(5);
  int64_t compared = 0, skipped = 0;
  for (const int64_t V : {1, 2, 3, 17, 64, 257, 1000, 50257})
    for (const Sampling& s : kSamplings) {
      const int64_t B = V < 1000 ? 40 : 3, L = 6;
      Array<float> logits({B, V});
      Array<int32_t> history({B, L}), offsets({B}), ids({B});
      for (int64_t b = 0; b < B; b++) {
        fill_row(random, &logits[b * V], V, b % kKinds);
        if (b % 2)
          for (int64_t v = 0; v < V; v++) logits[b * V + v] *= 10;
        // Some that are masked with -inf alone, and some with an infinity.
        if (b % kKinds == 2 && b % 4 != 2)
          std::replace_if(&logits[b * V], &logits[b * V] + V, [](float x) { return std::isnan(x); }, -INFINITY);
        if (b % kKinds == 0 && b % 4 == 2) logits[b * V + V / 2] = INFINITY;
        offsets[b] = static_cast<int32_t>(random.next());
        for (int64_t l = 0; l < L; l++) history[b * L + l] = l == 2 ? -1 : static_cast<int32_t>(random.below(V));
        history[b * L + 5] = history[b * L + 4];  // twice in the history, penalised once
      }
      run(stream, ops, ids, logits, &history, offsets, s);
      for (int64_t b = 0; b < B; b++) {
        bool doubtful;
        const std::vector<double> p =
            distribution(&logits[b * V], V, std::vector<int32_t>(&history[b * L], &history[b * L] + L), s, &doubtful);
        const int64_t expected = p.empty()  ? -1
                                 : doubtful ? kDoubtful
                                            : reference_draw(p, static_cast<uint64_t>(s.seed), offsets[b]);
        (expected == kDoubtful ? skipped : compared)++;
        if (expected != kDoubtful && ids[b] != expected)
          report("V=%lld temperature=%g top_k=%lld top_p=%g min_p=%g row %lld: got %d, expected %lld",
                 static_cast<long long>(V), s.temperature, static_cast<long long>(s.top_k), s.top_p, s.min_p,
                 static_cast<long long>(b), ids[b], static_cast<long long>(expected));
      }
    }
  EXPECT(skipped * 10 < compared);
}

// Draws n times with offsets 0 … n-1 from one row of logits.
std::vector<int64_t> counts_of(Stream& stream, const Ops& ops, const std::vector<float>& logits, int64_t n,
                               const Sampling& s) {
  const auto V = static_cast<int64_t>(logits.size());
  Array<float> rows({n, V});
  Array<int32_t> offsets({n}), ids({n});
  for (int64_t b = 0; b < n; b++) {
    std::memcpy(&rows[b * V], logits.data(), logits.size() * sizeof(float));
    offsets[b] = static_cast<int32_t>(b);
  }
  run(stream, ops, ids, rows, nullptr, offsets, s);
  std::vector<int64_t> counts(logits.size(), 0);
  for (int64_t b = 0; b < n; b++)
    if (ids[b] >= 0 && ids[b] < V)
      counts[ids[b]]++;
    else
      report("drew %d of %lld tokens", ids[b], static_cast<long long>(V));
  return counts;
}

TEST(sample_frequencies_and_sets) {
  constexpr int64_t kDraws = 20000;
  std::vector<float> logits(24);
  for (size_t i = 0; i < logits.size(); i++)
    logits[i] = 0.9f * std::sin(static_cast<float>(7 * i)) + 0.013f * static_cast<float>(i);
  for (const Sampling& s :
       {Sampling{}, {0.6f}, {1.7f}, {1, 6}, {1, 0, 0.75f}, {1, 0, 1, 0.5f}, {1.2f, 15, 0.8f, 0.3f, 1, 9}}) {
    bool doubtful;
    const std::vector<double> p = distribution(logits.data(), 24, {}, s, &doubtful);
    EXPECT(!doubtful);
    const std::vector<int64_t> counts = counts_of(stream, ops, logits, kDraws, s);
    double chi_square = 0, freedom = -1;
    for (size_t i = 0; i < p.size(); i++) {
      const double expected = p[i] * kDraws;
      // The set is exactly the reference's: nothing outside is drawn, and everything inside is, for the rarest token
      // is expected some 80 times, so that missing it has a probability of e^-80.
      EXPECT((counts[i] > 0) == (p[i] > 0));
      if (expected == 0) continue;
      EXPECT(expected > 80);
      chi_square +=
          (static_cast<double>(counts[i]) - expected) * (static_cast<double>(counts[i]) - expected) / expected;
      freedom++;
    }
    // Mean `freedom`, variance twice that: four deviations above is one seed in some ten thousand.
    EXPECT(chi_square < freedom + 4 * std::sqrt(2 * freedom));
  }
}

TEST(sample_ties_keep_the_lowest_indices) {
  const std::vector<float> equal(20, 1.0f);
  const auto expect_first = [&](const Sampling& s, size_t kept) {
    const std::vector<int64_t> counts = counts_of(stream, ops, equal, 2000, s);
    for (size_t i = 0; i < equal.size(); i++) EXPECT((counts[i] > 0) == (i < kept));
  };
  expect_first({1, 7}, 7);
  expect_first({1, 0, 0.42f}, 9);  // 8 have 0.40
  expect_first({1, 10, 0.42f}, 5);
  expect_first({1, 0, 0.09f}, 2);
  expect_first({1, 0, 1e-9f}, 1);
  expect_first({1, 0, 1, 1}, 20);
  expect_first({0}, 1);
}

TEST(sample_large_vocabulary_sets) {
  // 60 tokens of one weight among many of weight 0.01: with top-p 0.5 exactly floor(0.5 · mass) + 1 of the heavy ones.
  constexpr size_t V = 20000;
  std::vector<float> logits(V, std::log(1e-4f));
  for (size_t i = 0; i < 60; i++) logits[i * 333 + 5] = 0;
  const std::vector<int64_t> counts = counts_of(stream, ops, logits, 600, {1, 0, 0.5f});
  int64_t drawn = 0;
  for (size_t i = 0; i < V; i++) {
    drawn += counts[i] > 0;
    if (counts[i] > 0) EXPECT(i % 333 == 5 && i / 333 <= 30);  // mass 61.994, half of it 30.997: 31 tokens
  }
  EXPECT(drawn == 31);
}

TEST(sample_greedy_after_the_penalty) {
  Array<float> logits({3, 5});
  Array<int32_t> history({3, 4}), offsets({3}), ids({3});
  const float rows[3][5] = {{1, 3, 2.5f, 0, -1}, {-1, -2, -3, -1.5f, -9}, {1, 3, 2.5f, 0, -1}};
  const int32_t past[3][4] = {{1, -1, 1, 1}, {0, -5, 0, -1}, {-1, -1, -1, -1}};
  std::memcpy(&logits[0], rows, sizeof rows);
  std::memcpy(&history[0], past, sizeof past);
  run(stream, ops, ids, logits, &history, offsets, {0, 0, 1, 0, 1.25f});
  // 3/1.25 = 2.4 < 2.5 (and 3/1.25³ < 2 would be the same; the next row tells once from thrice); -1·1.25 > -1.5.
  EXPECT(ids[0] == 2 && ids[1] == 0 && ids[2] == 1);
  logits[2] = 2.2f;  // once: 2.4 stays above 2.2
  run(stream, ops, ids, logits, &history, offsets, {0, 0, 1, 0, 1.25f});
  EXPECT(ids[0] == 1);
  run(stream, ops, ids, logits, &history, offsets, {0, 0, 1, 0, 2});
  EXPECT(ids[0] == 2 && ids[1] == 3);
}

TEST(sample_rows_do_not_depend_on_each_other) {
  constexpr int64_t B = 70, V = 300;
  Array<float> logits({B, V});
  Array<int32_t> offsets({B}), ids({B}), one_offset({1}), one_id({1});
  Random random(8);
  random.fill(logits, -4, 4);
  for (int64_t b = 0; b < B; b++) offsets[b] = static_cast<int32_t>(b * 3);
  const Sampling s{1, 50, 0.9f, 0.01f};
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 5}) {
    cpu::set_thread_count(count);
    run(stream, ops, ids, logits, nullptr, offsets, s);
    for (int64_t b = 0; b < B; b += 23) {
      Array<float> row({1, V});
      std::memcpy(&row[0], &logits[b * V], V * sizeof(float));
      one_offset[0] = offsets[b];
      run(stream, ops, one_id, row, nullptr, one_offset, s);
      EXPECT(one_id[0] == ids[b]);
    }
  }
  cpu::set_thread_count(threads);
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
