// Attention, forward and backward, against the definition in float64: every shape of mask, grouped heads, strided
// views, dropout, awkward sizes, numbers of threads; and cache_write.
#include "check.h"

#define HEED_ISA portable
#include "cpu/kernels/philox.h"

namespace heed::test {
namespace {

enum class Layout { plain, packed, heads_first };

struct Case {
  int64_t B = 1, Tq = 1, Tk = 1, H = 1, Hkv = 1, D = 1;
  bool causal = false;
  std::vector<int32_t> lengths = {}, starts = {};
  float p = 0;
  Layout layout = Layout::plain;
  float scale = NAN;  // NaN: 1/sqrt(D)
  float spread = 1;   // q, k and v are from mean ± spread
  float mean = 0;
  int64_t window = 0;
  std::vector<int32_t> ranges = {};  // [B, Tq, 2]
  std::vector<float> slopes = {};    // [H]
  float softcap = 0;

  bool sees(int64_t b, int64_t i, int64_t j) const {
    const int64_t p = position(b, i);
    if (j >= (lengths.empty() ? Tk : lengths[b])) return false;
    if (causal && j > p) return false;
    if (window > 0 && std::llabs(p - j) >= window) return false;  // causal: what is later is hidden above
    return ranges.empty() || (j >= ranges[2 * (b * Tq + i)] && j < ranges[2 * (b * Tq + i) + 1]);
  }
  int64_t position(int64_t b, int64_t i) const {
    const int64_t length = lengths.empty() ? Tk : lengths[b];
    return (starts.empty() ? length - Tq : starts[b]) + i;
  }
};

// f32 memory behind a [B, T, heads, D] view; `columns` wider than heads · D makes it a part of packed rows.
struct Heads {
  Heads(int64_t B, int64_t T, int64_t heads, int64_t D, Layout layout) : array({B, T, heads, D}), view(array.view) {
    if (layout != Layout::heads_first) return;
    view.strides[1] = D;
    view.strides[2] = T * D;
  }
  // Columns [first, first + heads · D) of packed rows.
  Heads(const Array<float>& packed, int64_t first, int64_t heads, int64_t D) : array({0}), view(packed.view) {
    view.rank = 4;
    view.shape[2] = heads;
    view.shape[3] = D;
    view.strides[2] = D;
    view.strides[3] = 1;
    view.data = packed.view.f32() + first;
  }
  float& at(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return view.f32()[b * view.strides[0] + t * view.strides[1] + h * view.strides[2] + d];
  }
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t b = 0; b < view.shape[0]; b++)
      for (int64_t t = 0; t < view.shape[1]; t++)
        for (int64_t h = 0; h < view.shape[2]; h++)
          for (int64_t d = 0; d < view.shape[3]; d++) body(at(b, t, h, d));
  }
  void fill(Random& random, float mean, float spread) const {
    for_each([&](float& x) { x = random.uniform(mean - spread, mean + spread); });
  }
  void poison() const {
    for_each([](float& x) { x = NAN; });
  }
  std::vector<float> values() const {
    std::vector<float> list;
    for_each([&](float& x) { list.push_back(x); });
    return list;
  }

  Array<float> array;
  TensorView view;
};

// q, k and v (or their gradients), one after the other in packed rows where the case says so.
struct Triple {
  explicit Triple(const Case& c)
      : packed({c.layout == Layout::packed ? c.B : 0, c.Tq, (c.H + 2 * c.Hkv) * c.D}),
        q(c.layout == Layout::packed ? Heads(packed, 0, c.H, c.D) : Heads(c.B, c.Tq, c.H, c.D, c.layout)),
        k(c.layout == Layout::packed ? Heads(packed, c.H * c.D, c.Hkv, c.D) : Heads(c.B, c.Tk, c.Hkv, c.D, c.layout)),
        v(c.layout == Layout::packed ? Heads(packed, (c.H + c.Hkv) * c.D, c.Hkv, c.D)
                                     : Heads(c.B, c.Tk, c.Hkv, c.D, c.layout)) {}
  Array<float> packed;
  Heads q, k, v;
};

// A result and, for each element, the sum of its terms' magnitudes: what rounding errors are relative to.
struct Sums {
  explicit Sums(int64_t n) : value(n), magnitude(n) {}
  void add(int64_t i, double term, double term_magnitude) {
    value[i] += term;
    magnitude[i] += term_magnitude;
  }
  std::vector<double> value, magnitude;
};

struct Expected {
  explicit Expected(const Case& c)
      : out(c.B * c.Tq * c.H * c.D),
        dq(c.B * c.Tq * c.H * c.D),
        dk(c.B * c.Tk * c.Hkv * c.D),
        dv(c.B * c.Tk * c.Hkv * c.D),
        lse(c.B * c.H * c.Tq) {}
  Sums out, dq, dk, dv;
  std::vector<double> lse;
  double score_magnitude = 0;  // the largest of all scores
};

constexpr int64_t kSeed = 0x123456789abcdef;

Expected reference(const Case& c, float scale, const Triple& in, const Heads& dout) {
  Expected e(c);
  std::vector<double> p(c.Tk), slope(c.Tk), kept(c.Tk), dp(c.Tk), dp_magnitude(c.Tk);
  for (int64_t b = 0; b < c.B; b++)
    for (int64_t h = 0; h < c.H; h++)
      for (int64_t i = 0; i < c.Tq; i++) {
        const int64_t g = h / (c.H / c.Hkv), row = (b * c.H + h) * c.Tq + i;
        const int64_t query = ((b * c.Tq + i) * c.H + h) * c.D;
        const auto key = [&](int64_t j) { return ((b * c.Tk + j) * c.Hkv + g) * c.D; };

        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < c.Tk; j++) {
          p[j] = -INFINITY;
          if (!c.sees(b, i, j)) continue;
          Sums score(1);
          for (int64_t d = 0; d < c.D; d++) {
            const double term = static_cast<double>(in.q.at(b, i, h, d)) * in.k.at(b, j, g, d) * scale;
            score.add(0, term, std::fabs(term));
          }
          p[j] = score.value[0];
          double magnitude = score.magnitude[0];
          slope[j] = 1;
          if (c.softcap > 0) {
            const double t = std::tanh(p[j] / c.softcap);
            p[j] = c.softcap * t;
            slope[j] = 1 - t * t;
            magnitude += c.softcap;  // a few roundings of a value of up to that
          }
          if (!c.slopes.empty()) {
            const double bias = c.slopes[h] * static_cast<double>(std::llabs(c.position(b, i) - j));
            p[j] -= bias;
            magnitude += bias;
          }
          e.score_magnitude = std::fmax(e.score_magnitude, magnitude);
          max = std::fmax(max, p[j]);
        }
        for (int64_t j = 0; j < c.Tk; j++) sum += p[j] = p[j] == -INFINITY ? 0 : std::exp(p[j] - max);
        e.lse[row] = max + std::log(sum);

        double delta = 0, delta_magnitude = 0;
        for (int64_t j = 0; j < c.Tk; j++) {
          if (sum > 0) p[j] /= sum;
          const float u = cpu::portable::uniform01(cpu::portable::philox_word(kSeed, row * c.Tk + j, 0));
          kept[j] = c.p == 0 ? 1 : u < c.p ? 0 : 1 / (1 - static_cast<double>(c.p));
          dp[j] = dp_magnitude[j] = 0;
          for (int64_t d = 0; d < c.D; d++) {
            const double v = in.v.at(b, j, g, d), gradient = dout.at(b, i, h, d);
            e.out.add(query + d, p[j] * kept[j] * v, p[j] * kept[j] * std::fabs(v));
            e.dv.add(key(j) + d, p[j] * kept[j] * gradient, p[j] * kept[j] * std::fabs(gradient));
            dp[j] += kept[j] * gradient * v;
            dp_magnitude[j] += kept[j] * std::fabs(gradient * v);
          }
          delta += p[j] * dp[j];
          delta_magnitude += p[j] * dp_magnitude[j];
        }
        for (int64_t j = 0; j < c.Tk; j++)
          for (int64_t d = 0; d < c.D; d++) {
            const double ds = p[j] * (dp[j] - delta) * slope[j] * scale;
            const double magnitude = p[j] * (dp_magnitude[j] + delta_magnitude) * std::fabs(scale);
            const double q = in.q.at(b, i, h, d), k = in.k.at(b, j, g, d);
            e.dq.add(query + d, ds * k, magnitude * std::fabs(k));
            e.dk.add(key(j) + d, ds * q, magnitude * std::fabs(q));
          }
      }
  return e;
}

// A case's tensors, and what the operations made of them.
struct Run {
  explicit Run(const Case& c, uint64_t seed = 1)
      : c(c),
        scale(std::isnan(c.scale) ? 1 / std::sqrt(static_cast<float>(c.D)) : c.scale),
        in(c),
        grads(c),
        out(c.B, c.Tq, c.H, c.D, c.layout),
        inference(c.B, c.Tq, c.H, c.D, c.layout),
        dout(c.B, c.Tq, c.H, c.D, c.layout),
        lse({c.B, c.H, c.Tq}),
        lengths({c.B}),
        starts({c.B}),
        ranges({c.B, c.Tq, 2}),
        slopes({c.H}) {
    Random random(seed);
    for (const Heads* x : {&in.q, &in.k, &in.v}) x->fill(random, c.mean, c.spread);
    dout.fill(random, 0, 1);
    for (size_t b = 0; b < c.lengths.size(); b++) lengths[b] = c.lengths[b];
    for (size_t b = 0; b < c.starts.size(); b++) starts[b] = c.starts[b];
    for (size_t i = 0; i < c.ranges.size(); i++) ranges[i] = c.ranges[i];
    for (size_t h = 0; h < c.slopes.size(); h++) slopes[h] = c.slopes[h];
  }

  void execute(Stream& stream, const Ops& ops) {
    for (const Heads* x : {&out, &inference, &grads.q, &grads.k, &grads.v}) x->poison();
    for (int64_t i = 0; i < lse.size; i++) lse[i] = NAN;
    const TensorView* key_lengths = c.lengths.empty() ? nullptr : &lengths;
    const TensorView* query_starts = c.starts.empty() ? nullptr : &starts;
    const TensorView* key_ranges = c.ranges.empty() ? nullptr : &ranges;
    const TensorView* head_slopes = c.slopes.empty() ? nullptr : &slopes;
    for (const Heads* o : {&out, &inference})
      ops.attention_forward(stream, o->view, o == &out ? &lse : nullptr, in.q.view, in.k.view, in.v.view, key_lengths,
                            query_starts, key_ranges, head_slopes, c.causal, c.window, c.softcap, scale, c.p, kSeed);
    ops.attention_backward(stream, grads.q.view, grads.k.view, grads.v.view, dout.view, in.q.view, in.k.view, in.v.view,
                           out.view, lse, key_lengths, query_starts, key_ranges, head_slopes, c.causal, c.window,
                           c.softcap, scale, c.p, kSeed);
    const std::string error = synchronize(stream);
    if (!error.empty()) report("failed on the device: %s", error.c_str());
  }

  Case c;
  float scale;
  Triple in, grads;
  Heads out, inference, dout;  // inference: out of a forward that keeps no lse, which takes other ways
  Array<float> lse;
  Array<int32_t> lengths, starts, ranges;
  Array<float> slopes;
};

// With eps = 2^-24, the rounding of f32, and rounding errors that add up as the square root of their number: a score is
// off by about eps · sqrt(D) of the sum of its products' magnitudes (half of that is three standard deviations; two
// more for scaling and e^x), which is the relative error of its probability; the results are sums of products with
// probabilities, so eps · sqrt(terms) is added, and a handful of roundings. All of it is relative to the magnitudes of
// the terms, the largest of a tensor for all of it.
void expect_case(Stream& stream, const Ops& ops, const char* label, const Case& c) {
  Run run(c);
  run.execute(stream, ops);
  const Expected e = reference(c, run.scale, run.in, run.dout);
  const double terms = static_cast<double>(std::max(c.Tk, c.Tq * (c.H / c.Hkv)));
  const double score = (2 + std::sqrt(static_cast<double>(c.D)) / 2) * e.score_magnitude;
  const double tolerance = 0x1p-24 * (4 + score + std::sqrt(terms));
  const auto compare = [&](const char* name, const std::vector<float>& got, const Sums& expected) {
    double largest = 0;
    for (const double x : expected.magnitude) largest = std::fmax(largest, x);
    const std::string full = std::string(label) + " " + name;
    expect_near(full.c_str(), got.data(), expected.value.data(), static_cast<int64_t>(got.size()), tolerance * largest,
                0);
  };
  compare("out", run.out.values(), e.out);
  compare("out without lse", run.inference.values(), e.out);
  compare("dq", run.grads.q.values(), e.dq);
  compare("dk", run.grads.k.values(), e.dk);
  compare("dv", run.grads.v.values(), e.dv);
  for (int64_t i = 0; i < run.lse.size; i++) {
    if (e.lse[i] == -INFINITY)
      EXPECT(run.lse[i] == -INFINITY);
    else
      expect_near((std::string(label) + " lse").c_str(), &run.lse[i], &e.lse[i], 1, tolerance, 0x1p-24);
  }
}

// For messages: expect_case with the sizes in the label.
void expect_sizes(Stream& stream, const Ops& ops, const Case& c) {
  char label[120];
  std::snprintf(label, sizeof label, "B %d Tq %d Tk %d H %d/%d D %d%s", static_cast<int>(c.B), static_cast<int>(c.Tq),
                static_cast<int>(c.Tk), static_cast<int>(c.H), static_cast<int>(c.Hkv), static_cast<int>(c.D),
                c.causal ? " causal" : "");
  expect_case(stream, ops, label, c);
}

TEST(attention_head_sizes) {
  for (const int64_t D : {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 100, 128, 129, 256}) {
    expect_sizes(stream, ops, {1, 35, 35, 2, 2, D, true});
    expect_sizes(stream, ops, {1, 1, 21, 2, 2, D});
  }
}

TEST(attention_sequence_sizes) {
  for (const int64_t T : {1, 2, 3, 15, 16, 17, 31, 33, 48, 63, 64, 65, 127, 129, 257}) {
    expect_sizes(stream, ops, {1, T, T, 1, 1, 20, true});
    expect_sizes(stream, ops, {1, T, T, 1, 1, 20, false});
    expect_sizes(stream, ops, {1, T, T + 70, 1, 1, 20, true});  // queries are the last T
    expect_sizes(stream, ops, {1, T + 70, T, 1, 1, 20, true});  // the first 70 see nothing
  }
}

TEST(attention_grouped_heads) {
  for (const bool causal : {false, true})
    for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{4, 2}, {6, 1}, {3, 3}, {8, 2}, {32, 1}})
      for (const int64_t Tq : {1, 2, 5, 37}) expect_sizes(stream, ops, {2, Tq, 41, H, Hkv, 24, causal});
}

TEST(attention_lengths_and_starts) {
  for (const int64_t Tq : {1, 3, 40})
    for (const bool causal : {false, true}) {
      expect_case(stream, ops, "lengths", {4, Tq, 90, 2, 1, 16, causal, {90, 0, 1, 67}});
      expect_case(stream, ops, "starts", {4, Tq, 90, 2, 1, 16, causal, {}, {0, 50, -2, 1000}});
      expect_case(stream, ops, "both", {5, Tq, 90, 2, 1, 16, causal, {90, 33, 64, 65, 7}, {50, 0, 24, 63, INT32_MIN}});
    }
}

TEST(attention_layouts) {
  for (const Layout layout : {Layout::packed, Layout::heads_first})
    for (const int64_t D : {16, 21}) {
      expect_case(stream, ops, "layout", {2, 70, 70, 4, 4, D, true, {}, {}, 0, layout});
      expect_case(stream, ops, "grouped layout", {2, 70, 70, 4, 2, D, true, {70, 9}, {}, 0, layout});
      expect_case(stream, ops, "one row", {2, 1, 1, 4, 2, D, true, {}, {}, 0, layout});
    }
}

TEST(attention_dropout) {
  for (const float p : {0.1f, 0.5f, 1.0f})
    for (const int32_t Tk : {64, 70, 71})  // rows that start anywhere in a block of four draws
      for (const int64_t Tq : {1, 2, 66})
        expect_case(stream, ops, "dropout", {2, Tq, Tk, 4, 2, 17, true, {Tk, 33}, {}, p});
}

// Few rows and many keys: splits of the keys, combined at the end.
TEST(attention_splits) {
  for (const int64_t Tq : {1, 2, 3, 7, 8, 9, 20, 70})
    for (const bool causal : {false, true}) {
      expect_sizes(stream, ops, {1, Tq, 1100, 2, 2, 24, causal});
      expect_case(stream, ops, "split lengths", {3, Tq, 1100, 2, 1, 19, causal, {1100, 0, 300}, {}, 0.2f});
    }
}

TEST(attention_large_scores) {
  expect_case(stream, ops, "large", {1, 100, 130, 2, 2, 64, true, {}, {}, 0, Layout::plain, NAN, 5});
  expect_case(stream, ops, "large mean", {1, 100, 130, 2, 2, 64, true, {}, {}, 0, Layout::plain, NAN, 1, 20});
  expect_case(stream, ops, "large mean, one row", {1, 1, 600, 2, 2, 64, true, {}, {}, 0, Layout::plain, NAN, 1, 20});
  expect_case(stream, ops, "negative scale", {1, 40, 50, 2, 2, 16, true, {}, {}, 0, Layout::plain, -0.7f});
  expect_case(stream, ops, "zero scale", {1, 40, 50, 2, 2, 16, true, {}, {}, 0, Layout::plain, 0});
}

// Scores may be far off in absolute terms, but backward recomputes the very ones that lse was summed from: its
// probabilities sum to 1, so the dv of one query sum to its dout.
TEST(attention_backward_recomputes_the_same_scores) {
  for (const int64_t Tk : {50, 600}) {
    Run run({1, 1, Tk, 1, 1, 64, false, {}, {}, 0, Layout::plain, NAN, 1, 20});
    run.execute(stream, ops);
    for (int64_t d = 0; d < 64; d++) {
      double sum = 0;
      for (int64_t j = 0; j < Tk; j++) sum += run.grads.v.at(0, j, 0, d);
      // A rounding of lse, up to 4096 here, is an error of e^x of 2^-13 at most, and the same for all keys.
      const double dout = run.dout.at(0, 0, 0, d);
      EXPECT(std::fabs(sum - dout) <= 0x1p-13 * std::fabs(dout));
    }
  }
}

TEST(attention_scores_of_minus_infinity) {
  for (const int64_t Tq : {1, 20}) {
    Run run({1, Tq, 30, 1, 1, 8, false});
    run.in.q.for_each([](float& x) { x = 1e30f; });
    run.in.k.for_each([](float& x) { x = -1e30f; });
    run.execute(stream, ops);
    for (const Heads* x : {&run.out, &run.inference, &run.grads.q, &run.grads.k, &run.grads.v})
      x->for_each([](float& value) { EXPECT(value == 0); });
    for (int64_t i = 0; i < run.lse.size; i++) EXPECT(run.lse[i] == -INFINITY);
  }
}

TEST(attention_masked_rows_are_zero) {
  for (const int64_t Tq : {1, 80}) {
    Run run({2, Tq, 90, 2, 1, 16, true, {0, 90}, {0, -1000}});
    run.execute(stream, ops);
    for (const Heads* x : {&run.out, &run.inference, &run.grads.q, &run.grads.k, &run.grads.v})
      x->for_each([](float& value) { EXPECT(value == 0); });
    for (int64_t i = 0; i < run.lse.size; i++) EXPECT(run.lse[i] == -INFINITY);
  }
}

// What lies beyond a sequence's length in a cache may be anything.
TEST(attention_ignores_what_is_beyond_the_lengths) {
  for (const int64_t Tq : {1, 40}) {
    const Case c{2, Tq, 300, 2, 1, 20, true, {37, 290}};
    Run clean(c), dirty(c);
    for (int64_t b = 0; b < 2; b++)
      for (int64_t j = c.lengths[b]; j < c.Tk; j++)
        for (int64_t d = 0; d < c.D; d++) {
          dirty.in.k.at(b, j, 0, d) = d % 2 ? NAN : INFINITY;
          dirty.in.v.at(b, j, 0, d) = NAN;
        }
    clean.execute(stream, ops);
    dirty.execute(stream, ops);
    EXPECT(clean.out.values() == dirty.out.values());
    EXPECT(clean.inference.values() == dirty.inference.values());
    EXPECT(clean.grads.q.values() == dirty.grads.q.values());
    EXPECT(clean.grads.k.values() == dirty.grads.k.values());
    EXPECT(clean.grads.v.values() == dirty.grads.v.values());
  }
}

TEST(attention_passes_nan_on) {
  for (const int64_t Tq : {1, 20}) {
    Run run({1, Tq, 20, 1, 1, 16, false});
    run.in.q.at(0, 0, 0, 3) = NAN;
    run.execute(stream, ops);
    for (int64_t d = 0; d < 16; d++)
      EXPECT(std::isnan(run.out.at(0, 0, 0, d)) && std::isnan(run.inference.at(0, 0, 0, d)));
    EXPECT(std::isnan(run.lse[0]));
    for (int64_t i = 1; i < Tq; i++) EXPECT(std::isfinite(run.out.at(0, i, 0, 0)));
  }
}

// Sizes that end within tiles and vectors, windows from a key to more than there are.
TEST(attention_windows) {
  for (const bool causal : {false, true})
    for (const int64_t window : {1, 2, 15, 17, 64, 65, 100, 1000}) {
      for (const auto& [Tq, Tk] : {std::pair<int64_t, int64_t>{1, 300}, {5, 131}, {150, 150}, {67, 200}, {200, 67}}) {
        Case c{1, Tq, Tk, 2, 1, 19, causal};
        c.window = window;
        expect_sizes(stream, ops, c);
      }
      Case c{3, 70, 90, 4, 2, 8, causal, {90, 0, 67}, {20, 5, -40}};
      c.window = window;
      expect_case(stream, ops, "window and starts", c);
      c.p = 0.3f;
      expect_case(stream, ops, "window and dropout", c);
    }
  // Sums of positions and windows that overflow.
  for (const int64_t window : {INT64_MAX, int64_t{INT32_MAX}}) {
    Case c{2, 5, 40, 2, 2, 8, false, {}, {INT32_MAX, INT32_MIN}};
    c.window = window;
    expect_case(stream, ops, "the largest window", c);
  }
}

// A query's keys in every way that intervals can lie: inside of each other, apart, empty, beyond the keys.
std::vector<int32_t> random_ranges(const Case& c, uint64_t seed) {
  Random random(seed);
  const auto bound = [&] { return static_cast<int32_t>(random.uniform(-20, static_cast<float>(c.Tk + 20))); };
  std::vector<int32_t> ranges;
  for (int64_t i = 0; i < c.B * c.Tq; i++) {
    ranges.push_back(bound());
    ranges.push_back(bound());
  }
  return ranges;
}

// Documents of the given lengths, over and over.
std::vector<int32_t> document_ranges(const Case& c, const std::vector<int32_t>& lengths) {
  std::vector<int32_t> ranges;
  for (int64_t b = 0; b < c.B; b++) {
    size_t document = static_cast<size_t>(b);
    for (int32_t i = 0, begin = 0, end = lengths[document % lengths.size()]; i < c.Tq; i++) {
      if (i == end) {
        begin = end;
        end += lengths[++document % lengths.size()];
      }
      ranges.push_back(begin);
      ranges.push_back(end);
    }
  }
  return ranges;
}

TEST(attention_key_ranges) {
  for (const bool causal : {false, true}) {
    for (const auto& [Tq, Tk] : {std::pair<int64_t, int64_t>{1, 300}, {3, 1100}, {70, 70}, {150, 200}, {33, 700}})
      for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}}) {
        Case c{2, Tq, Tk, H, Hkv, 12, causal};
        c.ranges = random_ranges(c, 3);
        expect_case(stream, ops, "random ranges", c);
        c.lengths = {static_cast<int32_t>(Tk), static_cast<int32_t>(Tk / 3)};
        c.window = 40;
        c.p = 0.2f;
        expect_case(stream, ops, "random ranges, lengths, a window and dropout", c);
      }
    for (const int64_t T : {40, 200}) {
      Case c{2, T, T, 4, 2, 24, causal};
      for (const auto& lengths : {std::vector<int32_t>{1, 30, 7, 64}, {100, 3}, {16}}) {
        c.ranges = document_ranges(c, lengths);
        expect_case(stream, ops, "documents", c);
      }
    }
    Case c{2, 130, 130, 2, 2, 8, causal};
    for (int32_t b = 0; b < 2; b++)
      for (int32_t i = 0; i < 130; i++) {  // a prefix of 50 or 90 keys
        c.ranges.push_back(0);
        c.ranges.push_back(std::max(50 + 40 * b, i + 1));
      }
    expect_case(stream, ops, "prefix", c);
    c.ranges.assign(2 * 2 * 130, 7);
    expect_case(stream, ops, "empty ranges", c);
    for (size_t i = 0; i < c.ranges.size(); i += 2) {
      c.ranges[i] = INT32_MIN;
      c.ranges[i + 1] = INT32_MAX;
    }
    expect_case(stream, ops, "endless ranges", c);
  }
}

TEST(attention_slopes_and_softcap) {
  for (const bool causal : {false, true})
    for (const int64_t Tq : {1, 4, 90}) {
      for (const float softcap : {0.5f, 3.0f, 50.0f}) {
        Case c{2, Tq, 90, 4, 2, 16, causal, {90, 33}, {}, 0, Layout::plain, NAN, 2};
        c.softcap = softcap;
        expect_case(stream, ops, "softcap", c);
      }
      Case c{2, Tq, 90, 4, 2, 16, causal};
      c.slopes = {0.5f, 0.0625f, 0, 2};
      expect_case(stream, ops, "slopes", c);
      c.slopes = {0.01f, 0.02f, 0.03f, -0.04f};
      c.lengths = {77, 90};
      c.starts = {3, -40};
      expect_case(stream, ops, "slopes and starts", c);
      c.softcap = 1.5f;
      c.window = 21;
      c.p = 0.2f;
      c.ranges = random_ranges(c, 4);
      expect_case(stream, ops, "everything", c);
    }
  // Splits of the keys, and distances of which the softmax leaves next to nothing.
  for (const int64_t Tq : {1, 3, 20}) {
    Case c{1, Tq, 1300, 2, 1, 24, true};
    c.slopes = {0.001f, 4};
    c.softcap = 2;
    expect_case(stream, ops, "split, slopes and softcap", c);
    c.window = 600;
    expect_case(stream, ops, "split, slopes, softcap and window", c);
  }
}

// What no query sees may be anything: a tile is not read where none of its queries sees it.
TEST(attention_reads_nothing_beyond_the_window) {
  for (const int64_t Tq : {1, 3, 200}) {
    Case c{1, Tq, 700, 2, 1, 20, true, {}, {500}};
    c.window = 30;
    Run clean(c), dirty(c);
    for (int64_t j = 0; j < c.Tk; j++)
      if (j <= 500 - 30 || j > 500 + Tq)
        for (int64_t d = 0; d < c.D; d++) dirty.in.k.at(0, j, 0, d) = dirty.in.v.at(0, j, 0, d) = NAN;
    clean.execute(stream, ops);
    dirty.execute(stream, ops);
    EXPECT(clean.out.values() == dirty.out.values());
    EXPECT(clean.inference.values() == dirty.inference.values());
    EXPECT(clean.grads.q.values() == dirty.grads.q.values());
    EXPECT(clean.grads.k.values() == dirty.grads.k.values());
    EXPECT(clean.grads.v.values() == dirty.grads.v.values());
  }
}

// The number of threads chooses between one pass and two in backward; results are the same to the bit.
void expect_same_on_all_threads(Stream& stream, const Ops& ops, const Case& c) {
  cpu::set_thread_count(1);
  Run one(c);
  one.execute(stream, ops);
  for (const int threads : {2, 3, 5, 16}) {
    cpu::set_thread_count(threads);
    Run many(c);
    many.execute(stream, ops);
    EXPECT(one.out.values() == many.out.values());
    EXPECT(one.inference.values() == many.inference.values());
    for (int64_t i = 0; i < one.lse.size; i++) EXPECT(one.lse[i] == many.lse[i]);
    EXPECT(one.grads.q.values() == many.grads.q.values());
    EXPECT(one.grads.k.values() == many.grads.k.values());
    EXPECT(one.grads.v.values() == many.grads.v.values());
  }
}

TEST(attention_threads) {
  const int before = cpu::thread_count();
  for (Case c : {Case{1, 300, 300, 2, 2, 33, true, {}, {}, 0.1f}, Case{1, 130, 200, 6, 3, 64, false, {190}},
                 Case{2, 1, 900, 2, 2, 64, true}, Case{1, 12, 1300, 4, 1, 64, true}}) {
    expect_same_on_all_threads(stream, ops, c);
    c.window = 100;
    c.softcap = 2;
    expect_same_on_all_threads(stream, ops, c);
    c.ranges = random_ranges(c, 5);
    expect_same_on_all_threads(stream, ops, c);
  }
  cpu::set_thread_count(before);
}

TEST(attention_empty) {
  for (const Case& c : {Case{0, 5, 5, 2, 2, 8}, Case{2, 0, 5, 2, 2, 8, true}, Case{2, 5, 0, 2, 2, 8, true},
                        Case{2, 5, 5, 0, 1, 8}, Case{1, 1, 0, 1, 1, 8}}) {
    Run run(c);
    run.execute(stream, ops);
    for (const Heads* x : {&run.out, &run.inference, &run.grads.q, &run.grads.k, &run.grads.v})
      x->for_each([](float& value) { EXPECT(value == 0); });
    for (int64_t i = 0; i < run.lse.size; i++) EXPECT(run.lse[i] == -INFINITY);
  }
}

TEST(attention_errors) {
  Run run({2, 5, 7, 4, 2, 8, true});
  const Array<int32_t> three({3}), matrix({2, 1}), ids({2, 5, 4, 8}), bounds({2, 5, 2});
  const Array<float> floats({2}), flat({2, 5, 32}), lse_t({2, 5, 4}), other({2, 5, 4, 9}), heads({2, 7, 3, 8}),
      none({2, 5, 4, 0}), none_k({2, 7, 2, 0}), shorter({2, 6, 2, 8});
  TensorView spread = run.in.q.view, wide_lse = run.lse, wide_lengths = run.lengths;
  spread.strides[3] = 2;
  wide_lse.strides[2] = 2;
  wide_lengths.strides[0] = 2;
  const auto forward = [&](In out, OptOut lse, In q, In k, In v, OptIn lengths, OptIn starts, float scale, float p) {
    return error_of([&] {
      ops.attention_forward(stream, out, lse, q, k, v, lengths, starts, nullptr, nullptr, true, 0, 0, scale, p, 0);
    });
  };
  const TensorView &q = run.in.q.view, &k = run.in.k.view, &v = run.in.v.view, &out = run.out.view;
  const std::string f = "attention_forward: ";
  EXPECT(forward(out, &run.lse, q, k, v, &run.lengths, &run.starts, 1, 0) == "");
  EXPECT(forward(out, nullptr, flat, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected q with 4 dimensions, got shape [2, 5, 32]");
  EXPECT(forward(out, nullptr, q, flat, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected k with 4 dimensions, got shape [2, 5, 32]");
  EXPECT(forward(out, nullptr, ids, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_DTYPE: " + f + "expected q of dtype f32, got i32");
  EXPECT(forward(out, nullptr, spread, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected q with contiguous heads (stride 1), got stride 2");
  EXPECT(forward(out, nullptr, other, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected k of shape [2, 7, 2, 9], got [2, 7, 2, 8]");
  EXPECT(forward(out, nullptr, q, k, shorter, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected v of shape [2, 7, 2, 8], got [2, 6, 2, 8]");
  EXPECT(forward(none, nullptr, none, none_k, none_k, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected a head size of at least 1, got 0");
  EXPECT(forward(out, nullptr, q, heads, heads, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected a number of query heads divisible by the 3 key heads, got 4");
  EXPECT(forward(out, nullptr, q, k, v, &floats, nullptr, 1, 0) ==
         "ERR_DTYPE: " + f + "expected key_lengths of dtype i32, got f32");
  EXPECT(forward(out, nullptr, q, k, v, &three, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected key_lengths of shape [2], got [3]");
  EXPECT(forward(out, nullptr, q, k, v, nullptr, &matrix, 1, 0) ==
         "ERR_SHAPE: " + f + "expected query_starts of shape [2], got [2, 1]");
  EXPECT(forward(out, nullptr, q, k, v, &wide_lengths, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected key_lengths to be contiguous, got a strided view of shape [2]");
  EXPECT(forward(out, nullptr, q, k, v, nullptr, nullptr, INFINITY, 0) ==
         "ERR_RANGE: " + f + "expected a finite scale, got inf");
  for (const float p : {-0.1f, 1.5f})
    EXPECT(forward(out, nullptr, q, k, v, nullptr, nullptr, 1, p).find("expected dropout_p from 0 to 1") !=
           std::string::npos);
  EXPECT(forward(out, nullptr, q, k, v, nullptr, nullptr, 1, NAN).find("expected dropout_p") != std::string::npos);
  EXPECT(forward(other, nullptr, q, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected out of shape [2, 5, 4, 8], got [2, 5, 4, 9]");
  EXPECT(forward(out, &lse_t, q, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected lse of shape [2, 4, 5], got [2, 5, 4]");
  EXPECT(forward(out, &wide_lse, q, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected lse to be contiguous, got a strided view of shape [2, 4, 5]");
  const auto masked = [&](OptIn ranges, OptIn slopes, int64_t window, float softcap) {
    return error_of([&] {
      ops.attention_forward(stream, out, nullptr, q, k, v, nullptr, nullptr, ranges, slopes, true, window, softcap, 1,
                            0, 0);
    });
  };
  const Array<float> four({4}), float_bounds({2, 5, 2});
  TensorView wide_bounds = bounds;
  wide_bounds.strides[1] = 4;
  EXPECT(masked(&bounds, &four, 3, 1) == "");
  EXPECT(masked(&float_bounds, nullptr, 0, 0) == "ERR_DTYPE: " + f + "expected key_ranges of dtype i32, got f32");
  EXPECT(masked(&matrix, nullptr, 0, 0) == "ERR_SHAPE: " + f + "expected key_ranges of shape [2, 5, 2], got [2, 1]");
  EXPECT(masked(&wide_bounds, nullptr, 0, 0) ==
         "ERR_SHAPE: " + f + "expected key_ranges to be contiguous, got a strided view of shape [2, 5, 2]");
  EXPECT(masked(nullptr, &three, 0, 0) == "ERR_DTYPE: " + f + "expected slopes of dtype f32, got i32");
  EXPECT(masked(nullptr, &floats, 0, 0) == "ERR_SHAPE: " + f + "expected slopes of shape [4], got [2]");
  EXPECT(masked(nullptr, nullptr, -1, 0) == "ERR_RANGE: " + f + "expected a window of at least 0, got -1");
  for (const float softcap : {-1.0f, INFINITY, NAN})
    EXPECT(masked(nullptr, nullptr, 0, softcap).find("ERR_RANGE: " + f + "expected a finite softcap of at least 0") ==
           0);
  TensorView endless = k;
  endless.shape[1] = int64_t{1} << 40;
  endless.strides[1] = 0;
  EXPECT(forward(out, nullptr, q, endless, endless, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected at most 2147483647 keys, got 1099511627776");

  const auto backward = [&](In dq, In dk, In dv, In dout, In o, In lse) {
    return error_of([&] {
      ops.attention_backward(stream, dq, dk, dv, dout, q, k, v, o, lse, nullptr, nullptr, nullptr, nullptr, true, 0, 0,
                             1, 0, 0);
    });
  };
  const TensorView &dq = run.grads.q.view, &dk = run.grads.k.view, &dv = run.grads.v.view, &dout = run.dout.view;
  EXPECT(backward(dq, dk, dv, dout, out, run.lse) == "");
  EXPECT(backward(k, dk, dv, dout, out, run.lse).find("attention_backward: expected dq of shape [2, 5, 4, 8]") !=
         std::string::npos);
  EXPECT(backward(dq, q, dv, dout, out, run.lse).find("expected dk of shape [2, 7, 2, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, q, dout, out, run.lse).find("expected dv of shape [2, 7, 2, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, dv, k, out, run.lse).find("expected dout of shape [2, 5, 4, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, dv, dout, k, run.lse).find("expected out of shape [2, 5, 4, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, dv, dout, out, lse_t).find("expected lse of shape [2, 4, 5]") != std::string::npos);
  EXPECT(synchronize(stream).empty());
}

TEST(attention_lengths_out_of_range) {
  for (const int32_t length : {-1, 8, INT32_MIN, INT32_MAX}) {
    Run run({2, 5, 7, 2, 2, 8, true, {7, length}});
    for (const Heads* x : {&run.out, &run.grads.q, &run.grads.k, &run.grads.v}) x->poison();
    char expected[120];
    std::snprintf(expected, sizeof expected, "expected key_lengths from 0 to 7, got %d", length);
    ops.attention_forward(stream, run.out.view, &run.lse, run.in.q.view, run.in.k.view, run.in.v.view, &run.lengths,
                          nullptr, nullptr, nullptr, true, 0, 0, 1, 0, 0);
    EXPECT(synchronize(stream) == std::string("ERR_RANGE: attention_forward: ") + expected);
    ops.attention_backward(stream, run.grads.q.view, run.grads.k.view, run.grads.v.view, run.dout.view, run.in.q.view,
                           run.in.k.view, run.in.v.view, run.out.view, run.lse, &run.lengths, nullptr, nullptr, nullptr,
                           true, 0, 0, 1, 0, 0);
    EXPECT(synchronize(stream) == std::string("ERR_RANGE: attention_backward: ") + expected);
    for (const Heads* x : {&run.out, &run.grads.q, &run.grads.k, &run.grads.v})
      x->for_each([](float& value) { EXPECT(std::isnan(value)); });
  }
}

}  // namespace
}  // namespace heed::test
