// The definition of attention in float64, forward and backward, and how far from it rounding may reach.
#include "attention_reference.h"

#define HEED_ISA portable
#include "cpu/kernels/philox.h"

namespace heed::test::attention {
namespace {

// A result and, for each element, the sum of its terms' magnitudes: what rounding errors are relative to.
struct Sums {
  explicit Sums(int64_t n) : value(n), magnitude(n) {}
  // Adds factor · x to the n elements from `first` on; `size` is that of the factor's terms.
  void add(int64_t first, double factor, const float* x, int64_t n, double size) {
    for (int64_t d = 0; d < n; d++) {
      value[first + d] += factor * x[d];
      magnitude[first + d] += size * std::fabs(x[d]);
    }
  }
  void add(int64_t first, double factor, const float* x, int64_t n) { add(first, factor, x, n, factor); }
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

Expected reference(const Case& c, float scale, const Triple& in, const Heads& dout) {
  Expected e(c);
  std::vector<double> p(c.Tk), slope(c.Tk), dp(c.Tk), dp_magnitude(c.Tk);
  for (int64_t b = 0; b < c.B; b++)
    for (int64_t h = 0; h < c.H; h++)
      for (int64_t i = 0; i < c.Tq; i++) {
        const int64_t g = h / (c.H / c.Hkv), row = (b * c.H + h) * c.Tq + i;
        const int64_t query = ((b * c.Tq + i) * c.H + h) * c.D;
        const auto key = [&](int64_t j) { return ((b * c.Tk + j) * c.Hkv + g) * c.D; };
        const float *q = &in.q.at(b, i, h, 0), *gradient = &dout.at(b, i, h, 0);

        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < c.Tk; j++) {
          p[j] = -INFINITY;
          if (!c.sees(b, h, i, j)) continue;
          const float* k = &in.k.at(b, j, g, 0);
          p[j] = 0;
          double magnitude = 0;
          for (int64_t d = 0; d < c.D; d++) {
            const double term = static_cast<double>(q[d]) * k[d] * scale;
            p[j] += term;
            magnitude += std::fabs(term);
          }
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
          if (p[j] == 0) continue;
          p[j] /= sum;
          const float u = cpu::portable::uniform01(cpu::portable::philox_word(kSeed, row * c.Tk + j, kDropoutDraws));
          const double kept = c.p == 0 ? 1 : u < c.p ? 0 : 1 / (1 - static_cast<double>(c.p));
          const float* v = &in.v.at(b, j, g, 0);
          e.out.add(query, p[j] * kept, v, c.D);
          e.dv.add(key(j), p[j] * kept, gradient, c.D);
          dp[j] = dp_magnitude[j] = 0;
          for (int64_t d = 0; d < c.D; d++) {
            const double term = kept * gradient[d] * v[d];
            dp[j] += term;
            dp_magnitude[j] += std::fabs(term);
          }
          delta += p[j] * dp[j];
          delta_magnitude += p[j] * dp_magnitude[j];
        }
        for (int64_t j = 0; j < c.Tk; j++) {
          if (p[j] == 0) continue;
          const double ds = p[j] * (dp[j] - delta) * slope[j] * scale;
          const double magnitude = p[j] * (dp_magnitude[j] + delta_magnitude) * std::fabs(scale);
          e.dq.add(query, ds, &in.k.at(b, j, g, 0), c.D, magnitude);
          e.dk.add(key(j), ds, q, c.D, magnitude);
        }
      }
  return e;
}

}  // namespace

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

void expect_sizes(Stream& stream, const Ops& ops, const Case& c) {
  char label[120];
  std::snprintf(label, sizeof label, "B %d Tq %d Tk %d H %d/%d D %d%s", static_cast<int>(c.B), static_cast<int>(c.Tq),
                static_cast<int>(c.Tk), static_cast<int>(c.H), static_cast<int>(c.Hkv), static_cast<int>(c.D),
                c.causal ? " causal" : "");
  expect_case(stream, ops, label, c);
}

void expect_same(const Run& a, const Run& b) {
  EXPECT(a.out.values() == b.out.values());
  EXPECT(a.inference.values() == b.inference.values());
  for (int64_t i = 0; i < a.lse.size; i++) EXPECT(a.lse[i] == b.lse[i]);
  EXPECT(a.grads.q.values() == b.grads.q.values());
  EXPECT(a.grads.k.values() == b.grads.k.values());
  EXPECT(a.grads.v.values() == b.grads.v.values());
}

void expect_zero(const Run& run) {
  for (const Heads* x : {&run.out, &run.inference, &run.grads.q, &run.grads.k, &run.grads.v})
    x->for_each([](float& value) { EXPECT(value == 0); });
  for (int64_t i = 0; i < run.lse.size; i++) EXPECT(run.lse[i] == -INFINITY);
}

void mask_blocks(Case& c, int64_t size, int64_t rows, float share) {
  Random random(5);
  c.block_size = size;
  c.mask_rows = rows;
  c.mask.clear();
  for (int64_t i = 0; i < c.B * c.H * rows * ((c.Tk + size - 1) / size); i++)
    c.mask.push_back(random.uniform(0, 1) < share ? static_cast<uint8_t>(1 + random.below(255)) : 0);
}

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

}  // namespace heed::test::attention
