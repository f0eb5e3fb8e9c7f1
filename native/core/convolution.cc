#include "core/convolution.h"

namespace heed {

TensorView matrix_at(const TensorView& like, void* data, int64_t rows, int64_t columns, int64_t row_stride,
                     int64_t column_stride) {
  TensorView result;
  result.data = data;
  result.dtype = like.dtype;
  result.rank = 2;
  result.shape[0] = rows;
  result.shape[1] = columns;
  result.strides[0] = row_stride;
  result.strides[1] = column_stride;
  return result;
}

TensorView rows_of(const TensorView& view) {
  const int64_t columns = view.dim(-1);
  int64_t rows = 1;
  for (int i = 0; i < view.rank - 1; i++) rows *= view.shape[i];
  return matrix_at(view, view.data, rows, columns, columns, 1);
}

TensorView transposed(const TensorView& matrix) {
  return matrix_at(matrix, matrix.data, matrix.shape[1], matrix.shape[0], matrix.strides[1], matrix.strides[0]);
}

bool convolves_pixels(const TensorView& images, const TensorView& places, const TensorView& filter,
                      const WindowOptions& o) {
  return filter.shape[0] == 1 && filter.shape[1] == 1 && o.stride_h == 1 && o.stride_w == 1 && o.pad_top == 0 &&
         o.pad_left == 0 && images.shape[1] == places.shape[1] && images.shape[2] == places.shape[2];
}

}  // namespace heed
