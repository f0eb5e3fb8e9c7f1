// Matrix instructions of tensor cores (PTX ISA, "mma" and "ldmatrix") and the layout of their fragments.
//
// d[16, 8] = a[16, 16] · b[16, 8] + c for bf16 and f16, with sums in f32. With g = lane / 4 and t = lane % 4, and with
// the lower column of a or row of b in the lower half of a register:
//
//   a[0]: a[g][2t, 2t+1]   a[1]: a[g+8][2t, 2t+1]   a[2]: a[g][2t+8, 2t+9]   a[3]: a[g+8][2t+8, 2t+9]
//   b[0]: b[2t, 2t+1][g]   b[1]: b[2t+8, 2t+9][g]
//   c[0], c[1]: c[g][2t, 2t+1]                      c[2], c[3]: c[g+8][2t, 2t+1]
//
// ldmatrix loads 8 × 8 matrices of 16-bit elements in that form: lane 8i + r gives the address of row r (16 bytes) of
// matrix i, and lane 4r + t receives elements 2t and 2t+1 of row r in register i. Hence a from memory [m][k], or b from
// memory [n][k], needs the plain form, and a from [k][m] or b from [k][n] needs the transposed one.
#pragma once
#include <type_traits>

#include "cuda/kernels/cp_async.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

template <class T>
__device__ __forceinline__ void mma_16x8x16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_16x8x16<bf16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void mma_16x8x16<f16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d = a · b, which begins a sum. It is cheaper than clearing the sum first.
template <class T>
__device__ __forceinline__ void mma_16x8x16_first(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_16x8x16_first<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}

template <>
__device__ __forceinline__ void mma_16x8x16_first<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}

// Four 8 × 8 matrices; `row` is this lane's row in shared memory, a multiple of 16 bytes.
template <bool kTransposed>
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[4], const void* row) {
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same for an address that was computed before, plus `kOffset` bytes, which costs no addition.
template <bool kTransposed, int kOffset>
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[4], uint32_t row) {
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row), "n"(kOffset)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row), "n"(kOffset)
                 : "memory");
}

// Packs two floats into one register of a fragment, with `low` in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  static_assert(sizeof(T) == 2, "two elements fill a register");
  if constexpr (std::is_same_v<T, bf16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

// The number of 16-byte parts of a row that swizzled() permutes among themselves: rows that are 8 / kSwizzledParts
// apart start in the same bank.
template <int kColumns>
constexpr int kSwizzledParts = ((kColumns / 8) & -(kColumns / 8)) < 8 ? ((kColumns / 8) & -(kColumns / 8)) : 8;

// Returns the place of element (row, column) in a tile of kColumns 16-bit elements per row (a multiple of 16). The
// 16-byte parts of a row are permuted so that two access patterns touch all 32 banks once: 8 rows at one column, which
// a matrix of ldmatrix reads, and 8 successive parts, which a quarter of a warp copies.
template <int kColumns>
__device__ __forceinline__ int swizzled(int row, int column) {
  static_assert(kColumns % 16 == 0, "rows are whole numbers of 32 bytes");
  constexpr int kParts = kSwizzledParts<kColumns>;
  return row * kColumns + (column ^ (row / (8 / kParts) % kParts * 8));
}

}  // namespace heed::cuda

#endif
