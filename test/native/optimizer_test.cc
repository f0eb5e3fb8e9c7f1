// Tests the optimisers and the global gradient norm: lists of uneven tensors, empty lists, any number of threads, and
// every error.
#include <deque>

#include "sweep.h"

namespace heed::test {
namespace {

// A list of tensors of the given sizes.
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
};

// Empty tensors at both ends and in the middle; one of more than a chunk, and one of exactly a chunk.
const std::vector<int64_t> kSizes = {0, 1, 17, 16384, 0, 16385, 3, 40000, 33, 0};

void is(const std::string& got, const char* expected) {
  if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
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

TEST(optimizer_of_uneven_lists) {
  sweep(stream, [&](Sweep& s) {
    for (const bool clips : {false, true}) {
      List params(kSizes), grads(kSizes), m(kSizes), v(kSizes);
      Random random(7);
      for (List* list : {&params, &grads, &m}) list->fill(random);
      v.fill(random, 0, 1);
      Array<float> norm({1});
      ops.global_norm(stream, norm, grads.views);
      ops.adamw(stream, params.views, grads.views, m.views, v.views, clips ? &norm : nullptr, clips ? 1 : 0, 0.1f, 0.9f,
                0.999f, 1e-8f, 0.1f, 1);
      EXPECT(synchronize(stream).empty());
      s.same("global_norm", &norm[0], sizeof(float));
      for (const List* list : {&params, &m, &v})
        for (const Array<float>& array : list->arrays)
          s.same("adamw", array.values.get(), static_cast<size_t>(array.size) * sizeof(float));
    }
  });
}

TEST(sgd_lion_and_averages_of_uneven_lists) {
  sweep(stream, [&](Sweep& s) {
    List params(kSizes), grads(kSizes), m(kSizes);
    Random random(8);
    for (List* list : {&params, &grads, &m}) list->fill(random);
    Array<float> norm({1});
    ops.global_norm(stream, norm, grads.views);
    ops.sgd(stream, params.views, grads.views, m.views, &norm, 1, 0.1f, 0.9f, 0.1f, true);
    ops.sgd(stream, params.views, grads.views, ViewList(), nullptr, 0, 0.1f, 0, 0, false);
    ops.lion(stream, params.views, grads.views, m.views, &norm, 1, 0.1f, 0.9f, 0.99f, 0.1f);
    ops.lerp_list(stream, m.views, grads.views, nullptr, 0, 0.25f);
    ops.scale_list(stream, m.views, 3);
    EXPECT(synchronize(stream).empty());
    for (const List* list : {&params, &m})
      for (const Array<float>& array : list->arrays)
        s.same("sgd, lion and averages", array.values.get(), static_cast<size_t>(array.size) * sizeof(float));
  });
}

TEST(optimizer_of_no_parameters) {
  Array<float> norm(std::initializer_list<int64_t>{});
  norm[0] = 1;
  ops.global_norm(stream, norm, ViewList());
  ops.adamw(stream, ViewList(), ViewList(), ViewList(), ViewList(), nullptr, 0, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1);
  ops.sgd(stream, ViewList(), ViewList(), ViewList(), nullptr, 0, 0.1f, 0.9f, 0, false);
  ops.lion(stream, ViewList(), ViewList(), ViewList(), nullptr, 0, 0.1f, 0.9f, 0.99f, 0);
  ops.lerp_list(stream, ViewList(), ViewList(), nullptr, 0, 0.5f);
  ops.scale_list(stream, ViewList(), 2);
  EXPECT(synchronize(stream).empty() && norm[0] == 0);
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
