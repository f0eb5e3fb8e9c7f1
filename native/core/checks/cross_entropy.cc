#include "core/checks/cross_entropy.h"

#include <cmath>

#include "core/checks/rows.h"
#include "core/error.h"

namespace heed {

void check_cross_entropy(const char* op, Out loss, OptOut losses, OptOut dlogits, In logits, In targets, Int first,
                         Float smoothing, Float scale) {
  expect_contiguous_rows(op, "logits", logits);
  expect_f32(op, "loss", loss);
  if (loss.numel() != 1) expect_shape(op, "loss", loss, {1});
  expect_per_row(op, "losses", losses, logits, DType::f32);
  expect_like(op, "dlogits", dlogits, logits);
  expect_dtype(op, "targets", targets, DType::i32);
  expect_contiguous(op, "targets", targets);
  const int64_t rows = leading_shape(logits).numel(), count = targets.numel();
  if (first < 0 || first > count || rows > count - first)
    fail(Code::shape, "%s: expected a target for each of %lld rows from target %lld on, got %lld targets", op,
         static_cast<long long>(rows), static_cast<long long>(first), static_cast<long long>(count));
  if (!(smoothing >= 0 && smoothing <= 1))
    fail(Code::range, "%s: expected smoothing from 0 to 1, got %g", op, static_cast<double>(smoothing));
  if (!std::isfinite(scale)) fail(Code::range, "%s: expected a finite scale, got %g", op, static_cast<double>(scale));
}

}  // namespace heed
