// Views of the tensors of a convolution as matrices, for the host functions of every device.
#pragma once
#include "core/checks/windows.h"

namespace heed {

// Returns a matrix at `data`, with the dtype of `like`.
TensorView matrix_at(const TensorView& like, void* data, int64_t rows, int64_t columns, int64_t row_stride,
                     int64_t column_stride);
// Returns a contiguous tensor with all its dimensions but the last one as rows.
TensorView rows_of(const TensorView& view);
TensorView transposed(const TensorView& matrix);

// Returns true if the patches of the images are their pixels, so that the convolution is a product: a window of one tap
// moves by single steps, without padding.
bool convolves_pixels(const TensorView& images, const TensorView& places, const TensorView& filter,
                      const WindowOptions& options);

}  // namespace heed
