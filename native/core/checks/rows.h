// Checks of operations over rows: the last dimension is a row of C elements, all others count the rows.
#pragma once
#include "core/checks/checks.h"

namespace heed {

// The view without its last dimension: a value per row, at the row's first element.
TensorView leading_shape(const TensorView& view);
// A value per column: only the shape means anything.
TensorView last_shape(const TensorView& view);

// Activations, contiguous and of at least one dimension.
void expect_contiguous_rows(const char* op, const char* name, const TensorView& view);
// Each of these if given: contiguous; of `other`'s dtype and shape; f32 and a value a row; a parameter, a value a
// column.
void expect_like(const char* op, const char* name, const TensorView* view, const TensorView& other);
void expect_per_row(const char* op, const char* name, const TensorView* view, const TensorView& rows, DType dtype);
void expect_per_column(const char* op, const char* name, const TensorView* view, const TensorView& rows);

}  // namespace heed
