// nvcuda::wmma: C + A·B of 16×16 matrices with f32 sums; all matrices are row-major except B, which is column-major.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

namespace {

using namespace nvcuda;

template <class T>
__device__ void multiply(float* d, const T* a, const T* b, const float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major> left;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::col_major> right;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::load_matrix_sync(left, a, 16);
  wmma::load_matrix_sync(right, b, 16);
  wmma::load_matrix_sync(sum, c, 16, wmma::mem_row_major);
  wmma::mma_sync(sum, left, right, sum);
  for (int i = 0; i < sum.num_elements; i++) sum.x[i] *= 2;
  wmma::store_matrix_sync(d, sum, 16, wmma::mem_row_major);
}

}  // namespace

// 2 (C + A·B): each thread's elements are doubled in place.
extern "C" __global__ void multiply_f16(float* d, const __half* a, const __half* b, const float* c) {
  multiply(d, a, b, c);
}
extern "C" __global__ void multiply_bf16(float* d, const __nv_bfloat16* a, const __nv_bfloat16* b, const float* c) {
  multiply(d, a, b, c);
}
