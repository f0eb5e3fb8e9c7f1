// Checks of operations over rows: the last dimension is a row of C elements, and all other dimensions count the rows.
#pragma once
#include "core/checks/checks.h"

namespace heed {

// Returns the view without its last dimension. It has one value per row, at the row's first element.
TensorView leading_shape(const TensorView& view);
// Returns a view with one value per column. Only its shape means anything.
TensorView last_shape(const TensorView& view);

// Checks that activations are contiguous and have at least one dimension.
void expect_contiguous_rows(const char* op, const char* name, const TensorView& view);
// The following functions check a tensor only if it is given. It must be contiguous and, in this order: have the dtype
// and shape of `other`; be f32 with one value per row; be a parameter with one value per column.
void expect_like(const char* op, const char* name, const TensorView* view, const TensorView& other);
void expect_per_row(const char* op, const char* name, const TensorView* view, const TensorView& rows, DType dtype);
void expect_per_column(const char* op, const char* name, const TensorView* view, const TensorView& rows);

}  // namespace heed
