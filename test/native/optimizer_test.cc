// AdamW and the global gradient norm against float64 and against PyTorch's numbers: lists of uneven tensors, clipping,
// a step skipped for a norm that is not finite, and every error.
#include <cstring>
#include <deque>

#include "check.h"

namespace heed::test {
namespace {

// Tensors of the given sizes, as a list.
struct List {
  std::deque<Array<float>> arrays;
  ViewList views;
  explicit List(const std::vector<int64_t>& sizes) : views(static_cast<int64_t>(sizes.size())) {
    for (size_t i = 0; i < sizes.size(); i++) {
      arrays.emplace_back(std::vector<int64_t>{sizes[i]});
      views[static_cast<int64_t>(i)] = arrays.back();
    }
  }
  void fill(Random& random, float low = -1, float high = 1) {
    for (auto& array : arrays) random.fill(array, low, high);
  }
  std::vector<float> flat() const {
    std::vector<float> all;
    for (const auto& array : arrays) all.insert(all.end(), array.values.get(), array.values.get() + array.size);
    return all;
  }
};

// Empty ones at both ends and in the middle; one more than a chunk, and exactly one.
const std::vector<int64_t> kSizes = {0, 1, 17, 16384, 0, 16385, 3, 40000, 33, 0};

void is(const std::string& got, const char* expected) {
  if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
}

TEST(global_norm_of_lists) {
  List grads(kSizes);
  Random random(1);
  for (const float size : {1.0f, 1e30f, 1e-30f}) {  // squares that f32 could not hold
    grads.fill(random, -size, size);
    double sum = 0;
    for (const float g : grads.flat()) sum += static_cast<double>(g) * g;
    const double expected = std::sqrt(sum);
    Array<float> norm({1});
    ops.global_norm(stream, norm, grads.views);
    EXPECT(synchronize(stream).empty());
    expect_near("norm", &norm[0], &expected, 1, 0, 0x1p-24);  // one rounding, to f32
  }
  Array<float> norm(std::initializer_list<int64_t>{});
  norm[0] = 1;
  ops.global_norm(stream, norm, ViewList());
  EXPECT(synchronize(stream).empty() && norm[0] == 0);
}

TEST(global_norm_not_finite) {
  Array<float> norm({1});
  for (const int64_t at : {0, 16384, 16390}) {
    List grads({5, 16391});
    Random random(2);
    grads.fill(random);
    grads.arrays[1][at] = INFINITY;
    ops.global_norm(stream, norm, grads.views);
    EXPECT(synchronize(stream).empty() && norm[0] == INFINITY);
    grads.arrays[1][at] = NAN;
    ops.global_norm(stream, norm, grads.views);
    EXPECT(synchronize(stream).empty() && std::isnan(norm[0]));
  }
}

TEST(global_norm_errors) {
  List grads({3, 4});
  Array<float> norm({1}), two({2});
  Array<int32_t> ids({1});
  is(error_of([&] { ops.global_norm(stream, two, grads.views); }),
     "ERR_SHAPE: global_norm: expected norm of shape [1], got [2]");
  is(error_of([&] { ops.global_norm(stream, ids, grads.views); }),
     "ERR_DTYPE: global_norm: expected norm of dtype f32, got i32");
  grads.views[1].strides[0] = 2;
  is(error_of([&] { ops.global_norm(stream, norm, grads.views); }),
     "ERR_SHAPE: global_norm: expected grads[1] to be contiguous, got a strided view of shape [4]");
  grads.views[1] = ids;
  is(error_of([&] { ops.global_norm(stream, norm, grads.views); }),
     "ERR_DTYPE: global_norm: expected grads[1] of dtype f32, got i32");
}

struct Hyper {
  float lr = 1e-2f, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f;
};

void reference_step(std::vector<double>& p, const std::vector<float>& g, std::vector<double>& m, std::vector<double>& v,
                    double scale, const Hyper& h, int64_t step) {
  const double b1 = h.beta1, b2 = h.beta2, t = static_cast<double>(step);
  for (size_t i = 0; i < p.size(); i++) {
    const double grad = g[i] * scale;
    p[i] -= static_cast<double>(h.lr) * h.weight_decay * p[i];
    m[i] = b1 * m[i] + (1 - b1) * grad;
    v[i] = b2 * v[i] + (1 - b2) * grad * grad;
    const double m_hat = m[i] / (1 - std::pow(b1, t)), v_hat = v[i] / (1 - std::pow(b2, t));
    p[i] -= h.lr * m_hat / (std::sqrt(v_hat) + h.eps);
  }
}

void check_adamw(Stream& stream, const Ops& ops, const Hyper& h, float max_norm, int64_t first_step) {
  List params(kSizes), grads(kSizes), m(kSizes), v(kSizes);
  Random random(4);
  params.fill(random);
  if (first_step > 1) m.fill(random, -0.1f, 0.1f), v.fill(random, 0.01f, 0.1f);
  const auto to_double = [](const std::vector<float>& x) { return std::vector<double>(x.begin(), x.end()); };
  std::vector<double> p = to_double(params.flat()), m64 = to_double(m.flat()), v64 = to_double(v.flat());
  for (int64_t step = first_step; step < first_step + 5; step++) {
    grads.fill(random, -2, 2);
    Array<float> norm({1});
    ops.global_norm(stream, norm, grads.views);
    ops.adamw(stream, params.views, grads.views, m.views, v.views, max_norm > 0 ? &norm : nullptr, max_norm, h.lr,
              h.beta1, h.beta2, h.eps, h.weight_decay, step);
    EXPECT(synchronize(stream).empty());
    const double scale = max_norm > 0 ? std::fmin(1, max_norm / (static_cast<double>(norm[0]) + 1e-6)) : 1;
    reference_step(p, grads.flat(), m64, v64, scale, h, step);
  }
  // Five steps of a dozen roundings each: of the parameter (below 2), of a step (below 4 lr), of m (below 2), of v.
  const auto near = [](const char* label, const List& got, const std::vector<double>& expected, double absolute) {
    expect_near(label, got.flat().data(), expected.data(), static_cast<int64_t>(expected.size()), absolute,
                40 * 0x1p-24);
  };
  near("params", params, p, 5 * 0x1p-24 * (2 + 40 * h.lr));
  near("m", m, m64, 20 * 0x1p-24);
  near("v", v, v64, 0);
}

TEST(adamw_steps) {
  check_adamw(stream, ops, {}, 0, 1);
  check_adamw(stream, ops, {}, 0, 100000);
  check_adamw(stream, ops, {}, 1, 1);     // clips: the norm is about 300
  check_adamw(stream, ops, {}, 1e6f, 1);  // does not
  check_adamw(stream, ops, {1e-3f, 0, 0, 1e-3f, 0}, 0, 1);
}

TEST(adamw_pytorch_numbers) {
  // torch.optim.AdamW in float64 (lr 0.01, betas 0.9 and 0.95, eps 1e-8, weight_decay 0.1) after
  // torch.nn.utils.clip_grad_norm_(…, 1.0), three steps. The 0 is a gradient of exactly that: only the decay acts.
  const float gradients[3][4] = {{0.1f, -0.2f, 0.3f, 0}, {3, -0.2f, -0.5f, 0}, {-1, 0.4f, 1e-4f, 2}};
  const double expected[3][4] = {{0.489500001, -0.9890000005, 1.98800000033, 0.24975},
                                 {0.481027908077, -0.979234444131, 1.98368935461, 0.24950025},
                                 {0.477450065957, -0.977204958787, 1.97988619925, 0.243018518964}};
  const float start[4] = {0.5f, -1, 2, 0.25f};
  List params({4}), grads({4}), m({4}), v({4});
  std::memcpy(&params.arrays[0][0], start, sizeof start);
  Array<float> norm({1});
  for (int64_t step = 1; step <= 3; step++) {
    std::memcpy(&grads.arrays[0][0], gradients[step - 1], sizeof gradients[0]);
    ops.global_norm(stream, norm, grads.views);
    ops.adamw(stream, params.views, grads.views, m.views, v.views, &norm, 1, 0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, step);
    EXPECT(synchronize(stream).empty());
    expect_near("params", &params.arrays[0][0], expected[step - 1], 4, 2e-8, 3 * 0x1p-24);
  }
}

TEST(adamw_skips_a_step_whose_norm_is_not_finite) {
  List params(kSizes), grads(kSizes), m(kSizes), v(kSizes);
  Random random(6);
  params.fill(random), grads.fill(random), m.fill(random), v.fill(random, 0, 1);
  const std::vector<float> before[3] = {params.flat(), m.flat(), v.flat()};
  for (const float value : {NAN, INFINITY}) {
    Array<float> norm({1});
    norm[0] = value;
    ops.adamw(stream, params.views, grads.views, m.views, v.views, &norm, 1, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1);
    EXPECT(synchronize(stream).empty());
    EXPECT(params.flat() == before[0] && m.flat() == before[1] && v.flat() == before[2]);
  }
  Array<float> norm({1});
  norm[0] = 1;
  ops.adamw(stream, params.views, grads.views, m.views, v.views, &norm, 1, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1);
  EXPECT(synchronize(stream).empty() && params.flat() != before[0]);
}

TEST(adamw_clips_by_the_norm_and_a_millionth) {
  List params({1}), grads({1}), m({1}), v({1});
  grads.arrays[0][0] = 8;
  Array<float> norm({1});
  norm[0] = 1e-6f;
  ops.adamw(stream, params.views, grads.views, m.views, v.views, &norm, 1e-6f, 0, 0.5f, 0.5f, 1e-8f, 0, 1);
  EXPECT(synchronize(stream).empty());
  EXPECT(m.arrays[0][0] == 2 && v.arrays[0][0] == 8 && params.arrays[0][0] == 0);  // of a gradient of 8/2
}

TEST(adamw_no_parameters) {
  ops.adamw(stream, ViewList(), ViewList(), ViewList(), ViewList(), nullptr, 0, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1);
  EXPECT(synchronize(stream).empty());
}

TEST(optimizer_same_bits_on_any_threads) {
  const int threads = cpu::thread_count();
  std::vector<float> first;
  for (const int count : {1, 2, 5}) {
    cpu::set_thread_count(count);
    List params(kSizes), grads(kSizes), m(kSizes), v(kSizes);
    Random random(7);
    params.fill(random), grads.fill(random);
    Array<float> norm({1});
    ops.global_norm(stream, norm, grads.views);
    ops.adamw(stream, params.views, grads.views, m.views, v.views, &norm, 1, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1);
    EXPECT(synchronize(stream).empty());
    std::vector<float> all = params.flat();
    all.push_back(norm[0]);
    if (first.empty()) first = all;
    EXPECT(all == first);
  }
  cpu::set_thread_count(threads);
}

TEST(adamw_errors) {
  List params({3, 4}), grads({3, 4}), m({3, 4}), v({3, 4}), fewer({3}), wrong({3, 5});
  Array<float> norm({1}), two({2});
  Array<int32_t> ids({4});
  ViewList typed(2);
  typed[0] = params.views[0];
  typed[1] = ids;
  const auto lists = [&](OutList p, InList g, OutList first, OutList second) {
    return error_of([&] { ops.adamw(stream, p, g, first, second, nullptr, 0, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1); });
  };
  is(lists(params.views, fewer.views, m.views, v.views), "ERR_SHAPE: adamw: expected 2 grads, got 1");
  is(lists(params.views, grads.views, fewer.views, v.views), "ERR_SHAPE: adamw: expected 2 m, got 1");
  is(lists(params.views, grads.views, m.views, fewer.views), "ERR_SHAPE: adamw: expected 2 v, got 1");
  is(lists(params.views, wrong.views, m.views, v.views), "ERR_SHAPE: adamw: expected grads[1] of shape [4], got [5]");
  is(lists(params.views, grads.views, wrong.views, v.views), "ERR_SHAPE: adamw: expected m[1] of shape [4], got [5]");
  is(lists(params.views, grads.views, m.views, wrong.views), "ERR_SHAPE: adamw: expected v[1] of shape [4], got [5]");
  is(lists(typed, grads.views, m.views, v.views), "ERR_DTYPE: adamw: expected params[1] of dtype f32, got i32");
  params.views[0].strides[0] = 3;
  is(lists(params.views, grads.views, m.views, v.views),
     "ERR_SHAPE: adamw: expected params[0] to be contiguous, got a strided view of shape [3]");
  params.views[0].strides[0] = 1;

  const auto call = [&](OptIn n, Float max, Float lr, Float b1, Float b2, Float eps, Float decay, Int step) {
    return error_of(
        [&] { ops.adamw(stream, params.views, grads.views, m.views, v.views, n, max, lr, b1, b2, eps, decay, step); });
  };
  is(call(&two, 1, 0.1f, 0.9f, 0.99f, 0, 0, 1), "ERR_SHAPE: adamw: expected norm of shape [1], got [2]");
  is(call(&norm, 0, 0.1f, 0.9f, 0.99f, 0, 0, 1), "ERR_RANGE: adamw: expected max_norm above 0, got 0");
  is(call(&norm, NAN, 0.1f, 0.9f, 0.99f, 0, 0, 1), "ERR_RANGE: adamw: expected max_norm above 0, got nan");
  is(call(nullptr, 0, -1, 0.9f, 0.99f, 0, 0, 1), "ERR_RANGE: adamw: expected lr of at least 0 and finite, got -1");
  is(call(nullptr, 0, INFINITY, 0.9f, 0.99f, 0, 0, 1),
     "ERR_RANGE: adamw: expected lr of at least 0 and finite, got inf");
  is(call(nullptr, 0, 0.1f, 1, 0.99f, 0, 0, 1), "ERR_RANGE: adamw: expected beta1 in [0, 1), got 1");
  is(call(nullptr, 0, 0.1f, 0.9f, -0.5f, 0, 0, 1), "ERR_RANGE: adamw: expected beta2 in [0, 1), got -0.5");
  is(call(nullptr, 0, 0.1f, 0.9f, 0.99f, NAN, 0, 1),
     "ERR_RANGE: adamw: expected eps of at least 0 and finite, got nan");
  is(call(nullptr, 0, 0.1f, 0.9f, 0.99f, 0, -1, 1),
     "ERR_RANGE: adamw: expected weight_decay of at least 0 and finite, got -1");
  is(call(nullptr, 0, 0.1f, 0.9f, 0.99f, 0, 0, 0), "ERR_RANGE: adamw: expected step of at least 1, got 0");
}

}  // namespace
}  // namespace heed::test
