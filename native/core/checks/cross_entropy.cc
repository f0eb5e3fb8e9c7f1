#include "core/checks/cross_entropy.h"

#include "core/checks/rows.h"
#include "core/error.h"

namespace heed {

void check_cross_entropy(const char* op, Out loss, OptOut losses, OptOut dlogits, In logits, In targets,
                         Float smoothing) {
  expect_contiguous_rows(op, "logits", logits);
  expect_f32(op, "loss", loss);
  if (loss.numel() != 1) expect_shape(op, "loss", loss, {1});
  expect_per_row(op, "losses", losses, logits, DType::f32);
  expect_like(op, "dlogits", dlogits, logits);
  expect_per_row(op, "targets", &targets, logits, DType::i32);
  if (!(smoothing >= 0 && smoothing <= 1))
    fail(Code::range, "%s: expected smoothing from 0 to 1, got %g", op, static_cast<double>(smoothing));
}

}  // namespace heed
