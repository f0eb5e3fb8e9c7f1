#include "core/checks/lists.h"

#include <cmath>
#include <cstdio>

#include "core/error.h"

namespace heed {
namespace {

// The name of an item, such as "params[3]", for messages.
struct ItemName {
  char text[32];
  ItemName(const char* list, int64_t i) {
    std::snprintf(text, sizeof text, "%s[%lld]", list, static_cast<long long>(i));
  }
};

void expect_length(const char* op, const char* name, const ViewList& list, const ViewList& other) {
  if (list.size() != other.size())
    fail(Code::shape, "%s: expected %lld %s, got %lld", op, static_cast<long long>(other.size()), name,
         static_cast<long long>(list.size()));
}

void expect_scalar(const char* op, const char* name, const TensorView& view) {
  expect_f32(op, name, view);
  if (view.numel() != 1) expect_shape(op, name, view, {1});
}

// Checks that the tensors are f32 and contiguous and have the shapes of `params`.
void expect_like(const char* op, const char* name, const ViewList& list, const ViewList& params) {
  expect_length(op, name, list, params);
  for (int64_t t = 0; t < list.size(); t++) {
    const ItemName item(name, t);
    expect_f32(op, item.text, list[t]);
    expect_same_shape(op, item.text, list[t], params[t]);
  }
}

void expect_range(const char* op, const char* name, float value, bool good, const char* wanted) {
  if (!good) fail(Code::range, "%s: expected %s %s, got %g", op, name, wanted, static_cast<double>(value));
}

}  // namespace

void check_copy_list(OutList outs, InList inps) {
  const char* op = "copy_list";
  expect_length(op, "inps", inps, outs);
  for (int64_t t = 0; t < outs.size(); t++) {
    const ItemName out("outs", t), inp("inps", t);
    expect_contiguous(op, out.text, outs[t]);
    expect_contiguous(op, inp.text, inps[t]);
    expect_same_shape(op, inp.text, inps[t], outs[t]);
  }
}

void check_global_norm(Out norm, InList grads) {
  const char* op = "global_norm";
  expect_scalar(op, "norm", norm);
  for (int64_t t = 0; t < grads.size(); t++) expect_f32(op, ItemName("grads", t).text, grads[t]);
}

void check_adamw(InOutList params, InList grads, InOutList m, InOutList v, OptIn norm, const AdamwNumbers& x) {
  const char* op = "adamw";
  expect_like(op, "params", params, params);
  expect_like(op, "grads", grads, params);
  expect_like(op, "m", m, params);
  expect_like(op, "v", v, params);
  if (norm) {
    expect_scalar(op, "norm", *norm);
    expect_range(op, "max_norm", x.max_norm, x.max_norm > 0, "above 0");
  }
  expect_range(op, "lr", x.lr, x.lr >= 0 && x.lr < INFINITY, "of at least 0 and finite");
  expect_range(op, "beta1", x.beta1, x.beta1 >= 0 && x.beta1 < 1, "in [0, 1)");
  expect_range(op, "beta2", x.beta2, x.beta2 >= 0 && x.beta2 < 1, "in [0, 1)");
  expect_range(op, "eps", x.eps, x.eps >= 0 && x.eps < INFINITY, "of at least 0 and finite");
  expect_range(op, "weight_decay", x.weight_decay, x.weight_decay >= 0 && x.weight_decay < INFINITY,
               "of at least 0 and finite");
  if (x.step < 1) fail(Code::range, "%s: expected step of at least 1, got %lld", op, static_cast<long long>(x.step));
}

}  // namespace heed
