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

// Checks the norm by which gradients are clipped, if there is one.
void expect_norm(const char* op, OptIn norm, float max_norm) {
  if (!norm) return;
  expect_scalar(op, "norm", *norm);
  expect_range(op, "max_norm", max_norm, max_norm > 0, "above 0");
}

void expect_positive(const char* op, const char* name, float value) {
  expect_range(op, name, value, value >= 0 && value < INFINITY, "of at least 0 and finite");
}

void expect_share(const char* op, const char* name, float value) {
  expect_range(op, name, value, value >= 0 && value < 1, "in [0, 1)");
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
  expect_norm(op, norm, x.max_norm);
  expect_positive(op, "lr", x.lr);
  expect_share(op, "beta1", x.beta1);
  expect_share(op, "beta2", x.beta2);
  expect_positive(op, "eps", x.eps);
  expect_positive(op, "weight_decay", x.weight_decay);
  if (x.step < 1) fail(Code::range, "%s: expected step of at least 1, got %lld", op, static_cast<long long>(x.step));
}

void check_sgd(InOutList params, InList grads, InOutList m, OptIn norm, const SgdNumbers& x) {
  const char* op = "sgd";
  expect_like(op, "params", params, params);
  expect_like(op, "grads", grads, params);
  expect_share(op, "momentum", x.momentum);
  if (x.momentum > 0) {
    expect_like(op, "m", m, params);
  } else if (m.size() > 0 || x.nesterov) {
    fail(Code::argument, "%s: expected momentum above 0 for %s, got 0", op, x.nesterov ? "nesterov" : "m");
  }
  expect_norm(op, norm, x.max_norm);
  expect_positive(op, "lr", x.lr);
  expect_positive(op, "weight_decay", x.weight_decay);
}

void check_lion(InOutList params, InList grads, InOutList m, OptIn norm, const LionNumbers& x) {
  const char* op = "lion";
  expect_like(op, "params", params, params);
  expect_like(op, "grads", grads, params);
  expect_like(op, "m", m, params);
  expect_norm(op, norm, x.max_norm);
  expect_positive(op, "lr", x.lr);
  expect_share(op, "beta1", x.beta1);
  expect_share(op, "beta2", x.beta2);
  expect_positive(op, "weight_decay", x.weight_decay);
}

void check_lerp_list(InOutList outs, InList inps, OptIn norm, Float max_norm, Float weight) {
  const char* op = "lerp_list";
  expect_like(op, "outs", outs, outs);
  expect_like(op, "inps", inps, outs);
  expect_norm(op, norm, max_norm);
  expect_range(op, "weight", weight, weight >= 0 && weight <= 1, "in [0, 1]");
}

void check_scale_list(InOutList tensors, Float factor) {
  const char* op = "scale_list";
  expect_like(op, "tensors", tensors, tensors);
  expect_range(op, "factor", factor, std::isfinite(factor), "to be finite");
}

}  // namespace heed
