// Cross-entropy, loss and gradient, against float64: vocabularies of every awkward size, shifted and masked logits,
// ignored rows, label smoothing, targets outside the vocabulary.
#include <cstring>

#include "check.h"

namespace heed::test {
namespace {

constexpr int64_t kIgnore = -100;

struct Reference {
  double loss = 0;
  std::vector<double> losses, dlogits;
};

template <class Logit>
Reference reference(int64_t rows, int64_t V, const Logit* x, const int32_t* targets, int64_t ignore, double s) {
  Reference r;
  int64_t counted = 0;
  for (int64_t row = 0; row < rows; row++) counted += targets[row] != ignore;
  for (int64_t row = 0; row < rows; row++, x += V) {
    if (targets[row] == ignore) {
      r.losses.push_back(0);
      r.dlogits.insert(r.dlogits.end(), V, 0.0);
      continue;
    }
    double max = -INFINITY, sum = 0, loss = 0;
    for (int64_t v = 0; v < V; v++) max = std::fmax(max, x[v]);
    for (int64_t v = 0; v < V; v++) sum += std::exp(x[v] - max);
    for (int64_t v = 0; v < V; v++) {
      const double q = s / static_cast<double>(V) + (v == targets[row] ? 1 - s : 0);
      if (q > 0) loss -= q * (x[v] - max - std::log(sum));
      r.dlogits.push_back((std::exp(x[v] - max) / sum - q) / static_cast<double>(counted));
    }
    r.losses.push_back(loss);
    r.loss += loss / static_cast<double>(counted);
  }
  return r;
}

// The logits are rounded already; what is left is one rounding of x - max (of up to 2^-24 · |x - max|, here at most
// 40), e^x to 2 ulp, and sums of V positive terms in at least 16 lanes.
double tolerance(int64_t V) { return 0x1p-24 * (48 + std::sqrt(static_cast<double>(V) / 16)); }

void check(Stream& stream, const Ops& ops, int64_t rows, int64_t V, float shift, float s, float masked,
           int64_t ignore) {
  Array<float> logits({rows, V}), loss({1}), losses({rows}), dlogits({rows, V});
  Array<int32_t> targets({rows});
  Random random(static_cast<uint64_t>(rows * 1009 + V));
  random.fill(logits, shift - 10, shift + 10);
  for (int64_t r = 0; r < rows; r++) {
    targets[r] = static_cast<int32_t>(random.below(V));
    for (int64_t v = 0; v < V; v++)
      if (v != targets[r] && random.uniform(0, 1) < masked) logits[r * V + v] = -INFINITY;
    if (r % 3 == 1) targets[r] = static_cast<int32_t>(ignore);
  }
  for (int64_t i = 0; i < dlogits.size; i++) dlogits[i] = NAN;  // all of it must be written
  const Reference r = reference(rows, V, &logits[0], &targets[0], ignore, s);
  ops.cross_entropy(stream, loss, &losses, &dlogits, logits, targets, 0, ignore, s, 1, false);
  EXPECT(synchronize(stream).empty());
  const std::string label = "rows=" + std::to_string(rows) + " V=" + std::to_string(V) + " s=" + std::to_string(s);
  expect_near((label + " loss").c_str(), &loss[0], &r.loss, 1, tolerance(V), tolerance(V));
  expect_near((label + " losses").c_str(), &losses[0], r.losses.data(), rows, tolerance(V), tolerance(V));
  const double scale = 3.0 / static_cast<double>(rows + 2);  // 1 / counted, about
  expect_near((label + " dlogits").c_str(), &dlogits[0], r.dlogits.data(), dlogits.size, scale * 0x1p-23, tolerance(V));

  Array<float> alone(std::initializer_list<int64_t>{});
  ops.cross_entropy(stream, alone, nullptr, nullptr, logits, targets, 0, ignore, s, 1, false);
  synchronize(stream);
  EXPECT(alone[0] == loss[0]);
}

const int64_t kSizes[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 257, 1023, 1024, 1025, 2049};

TEST(cross_entropy_sizes) {
  for (const int64_t V : kSizes) {
    check(stream, ops, 4, V, 0, 0, 0, kIgnore);
    check(stream, ops, 5, V, 0, 0.1f, 0, kIgnore);
  }
  check(stream, ops, 1000, 65, 0, 0, 0, kIgnore);
  check(stream, ops, 2, 50257, 0, 0, 0, kIgnore);
  check(stream, ops, 2, 200001, 0, 0.1f, 0, kIgnore);
}

TEST(cross_entropy_shifted_and_masked) {
  for (const int64_t V : {3, 65, 1025, 5000}) {
    for (const float shift : {1e4f, -1e4f, 300.0f}) {
      check(stream, ops, 4, V, shift, 0, 0, kIgnore);
      check(stream, ops, 4, V, shift, 0.2f, 0, kIgnore);
    }
    check(stream, ops, 4, V, 0, 0, 0.7f, kIgnore);
  }
}

TEST(cross_entropy_first_blocks_all_masked) {
  constexpr int64_t V = 3000;
  Array<float> logits({1, V}), loss({1}), dlogits({1, V});
  Array<int32_t> targets({1});
  for (const float shift : {-1000.0f, 0.0f}) {
    for (int64_t v = 0; v < V; v++) logits[v] = v < 2500 ? -INFINITY : shift + static_cast<float>(v % 7);
    targets[0] = 2900;
    const Reference r = reference(1, V, &logits[0], &targets[0], kIgnore, 0);
    ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, 0, 1, false);
    synchronize(stream);
    expect_near("loss", &loss[0], &r.loss, 1, 0, tolerance(V));
    expect_near("dlogits", &dlogits[0], r.dlogits.data(), V, 0x1p-24, tolerance(V));
  }
  targets[0] = 7;  // impossible: an infinite loss, but a finite gradient
  ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, 0, 1, false);
  synchronize(stream);
  EXPECT(loss[0] == INFINITY && dlogits[7] == -1);
  targets[0] = 2900;  // a share of the target for impossible tokens
  for (const float s : {0.5f, 1.0f}) {
    ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, s, 1, false);
    synchronize(stream);
    EXPECT(loss[0] == INFINITY && std::isfinite(dlogits[0]));
    targets[0] = 7;  // the target itself too
  }
}

TEST(cross_entropy_nan_reaches_the_loss) {
  for (const int64_t at : {0, 700, 2047, 2999}) {
    Array<float> logits({1, 3000}), loss({1});
    Array<int32_t> targets({1});
    for (int64_t v = 0; v < 3000; v++) logits[v] = v < 2048 ? -INFINITY : 1.0f;
    logits[at] = NAN;
    targets[0] = 2500;
    ops.cross_entropy(stream, loss, nullptr, nullptr, logits, targets, 0, kIgnore, 0, 1, false);
    synchronize(stream);
    EXPECT(std::isnan(loss[0]));
  }
}

TEST(cross_entropy_full_smoothing_and_pad_id_as_ignored) {
  check(stream, ops, 7, 33, 0, 1, 0, kIgnore);
  check(stream, ops, 7, 33, 0, 0, 0, 0);  // an index of the vocabulary
  check(stream, ops, 7, 33, 0, 0, 0, 1 << 20);
}

TEST(cross_entropy_gradient_is_the_derivative) {
  constexpr int64_t V = 5;
  double x[2 * V] = {0.1, -1.3, 2.0, 0.4, -0.2, 1.0, 0.5, -0.5, 0.0, 3.0};
  const int32_t targets[2] = {2, 0};
  for (const double s : {0.0, 0.3}) {
    const Reference r = reference(2, V, x, targets, kIgnore, s);
    for (int64_t i = 0; i < 2 * V; i++) {
      const double at = x[i], h = 1e-5;
      x[i] = at + h;
      const double up = reference(2, V, x, targets, kIgnore, s).loss;
      x[i] = at - h;
      const double down = reference(2, V, x, targets, kIgnore, s).loss;
      x[i] = at;
      EXPECT(std::fabs((up - down) / (2 * h) - r.dlogits[i]) < 1e-9);
    }
  }
}

TEST(cross_entropy_rising_logits_in_place) {
  constexpr int64_t V = 5000;
  Array<float> logits({2, V}), loss({1}), dlogits({2, V});
  Array<int32_t> targets({2});
  for (int64_t v = 0; v < V; v++) {  // each block has a new maximum, or none has but the first
    logits[v] = 0.01f * static_cast<float>(v);
    logits[V + v] = -logits[v];
  }
  targets[0] = targets[1] = 4400;
  const Reference r = reference(2, V, &logits[0], &targets[0], kIgnore, 0.1f);
  ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, 0.1f, 1, false);
  ops.cross_entropy(stream, loss, nullptr, &logits, logits, targets, 0, kIgnore, 0.1f, 1, false);
  EXPECT(synchronize(stream).empty());
  expect_near("loss", &loss[0], &r.loss, 1, 0, tolerance(V));
  expect_near("dlogits", &dlogits[0], r.dlogits.data(), 2 * V, 0x1p-24, tolerance(V));
  EXPECT(std::memcmp(&logits[0], &dlogits[0], 2 * V * sizeof(float)) == 0);
}

TEST(cross_entropy_of_rows_in_parts) {
  constexpr int64_t rows = 11, V = 37;
  Array<float> logits({rows, V}), loss({1}), losses({rows}), dlogits({rows, V}), sum({1});
  Array<int32_t> targets({rows});
  Random random(12);
  random.fill(logits);
  for (int64_t r = 0; r < rows; r++) targets[r] = r % 3 == 1 ? kIgnore : static_cast<int32_t>(random.below(V));
  const Reference r = reference(rows, V, &logits[0], &targets[0], kIgnore, 0.1f);
  for (int64_t begin = 0, end; begin < rows; begin = end) {
    end = begin < 1 ? 1 : begin < 2 ? 2 : std::min(rows, begin + 4);  // the second part counts for nothing
    Array<float> x({end - begin, V}), dx({end - begin, V}), each({end - begin});
    for (int64_t i = 0; i < x.size; i++) x[i] = logits[begin * V + i];
    ops.cross_entropy(stream, sum, &each, &dx, x, targets, begin, kIgnore, 0.1f, 1, begin > 0);
    EXPECT(synchronize(stream).empty());
    for (int64_t i = 0; i < dx.size; i++) dlogits[begin * V + i] = dx[i];
    for (int64_t i = 0; i < each.size; i++) losses[begin + i] = each[i];
  }
  expect_near("sum", &sum[0], &r.loss, 1, 0, tolerance(V));
  expect_near("losses", &losses[0], r.losses.data(), rows, 0, tolerance(V));
  expect_near("dlogits", &dlogits[0], r.dlogits.data(), rows * V, 0x1p-24, tolerance(V));
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

TEST(cross_entropy_same_bits_on_any_threads) {
  Array<float> logits({2000, 65}), dlogits({2000, 65});
  Array<int32_t> targets({2000});
  Random random(8);
  random.fill(logits);
  for (int64_t r = 0; r < 2000; r++) targets[r] = static_cast<int32_t>(random.below(65));
  const int threads = cpu::thread_count();
  float first = 0;
  for (const int count : {1, 2, 5}) {
    cpu::set_thread_count(count);
    Array<float> loss({1});
    ops.cross_entropy(stream, loss, nullptr, &dlogits, logits, targets, 0, kIgnore, 0, 1, false);
    synchronize(stream);
    if (count == 1) first = loss[0];
    EXPECT(loss[0] == first);
  }
  cpu::set_thread_count(threads);
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
