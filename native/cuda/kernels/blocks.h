// Weights in blocks of GGUF files (core/blocks.h) as the kernels of a CUDA device read them, and their decoders, of
// eight numbers at a time. Blocks begin at any byte, so they are read by bytes. Products with scales are in the order
// of the formulas, as in cpu/kernels/blocks.h.
#pragma once
#include "core/blocks.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

struct BlockWeight {
  const uint8_t* blocks;  // [N, row_bytes]
  BlockKind kind;
  int64_t K, N, row_bytes;
  int numbers, bytes;  // of a block
};

#if HEED_DEVICE_CODE

__device__ __forceinline__ float half_at(const uint8_t* from) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(from[0] | from[1] << 8)));
}

// Numbers of the codes of iq4_nl and iq4_xs, and of mxfp4, as bytes of words.
__device__ __forceinline__ float of_table(uint32_t a, uint32_t b, uint32_t c, uint32_t d, int code) {
  const uint32_t word = code < 8 ? (code < 4 ? a : b) : (code < 12 ? c : d);
  return static_cast<float>(static_cast<int8_t>(word >> (8 * (code & 3))));
}
__device__ __forceinline__ float nonlinear(int code) {
  return of_table(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u, code);
}
__device__ __forceinline__ float e2m1(int code) {
  return of_table(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu, code);
}

// The scale and minimum of a part of a q4_k or q5_k, whose 12 bytes have 6 bits of each.
struct PartScale {
  float scale, least;
  __device__ __forceinline__ PartScale(const uint8_t* block, int part) {
    const uint8_t* const packed = block + 4;
    const int s = part < 4 ? packed[part] & 63 : (packed[part + 4] & 15) | packed[part - 4] >> 6 << 4;
    const int m = part < 4 ? packed[part + 4] & 63 : packed[part + 4] >> 4 | packed[part] >> 6 << 4;
    scale = half_at(block) * static_cast<float>(s);
    least = half_at(block + 2) * static_cast<float>(m);
  }
};

// out[j] = number i + j of a block, for a multiple i of 8.
__device__ __forceinline__ void decode_eight(BlockKind kind, const uint8_t* block, int i, float (&out)[8]) {
  // Codes of 4 bits whose low halves are the first n of 2n, and whose high halves are the others.
  const auto half_bytes = [&](const uint8_t* from, int n, int at, const auto& number) {
    const int shift = at < n ? 0 : 4;
#pragma unroll
    for (int j = 0; j < 8; j++) out[j] = number(from[at % n + j] >> shift & 15, j);
  };
  const auto fifth = [](const uint8_t* from, int at, int j) { return (from[at / 8] >> j & 1) << 4; };
  const auto scaled = [](float d, int q) { return __fmul_rn(d, static_cast<float>(q)); };
  switch (kind) {
    case BlockKind::q4_0: {
      const float d = half_at(block);
      return half_bytes(block + 2, 16, i, [&](int q, int) { return scaled(d, q - 8); });
    }
    case BlockKind::q4_1: {
      const float d = half_at(block), m = half_at(block + 2);
      return half_bytes(block + 4, 16, i, [&](int q, int) { return fmaf(d, static_cast<float>(q), m); });
    }
    case BlockKind::q5_0: {
      const float d = half_at(block);
      return half_bytes(block + 6, 16, i, [&](int q, int j) { return scaled(d, (q | fifth(block + 2, i, j)) - 16); });
    }
    case BlockKind::q5_1: {
      const float d = half_at(block), m = half_at(block + 2);
      return half_bytes(block + 8, 16, i,
                        [&](int q, int j) { return fmaf(d, static_cast<float>(q | fifth(block + 4, i, j)), m); });
    }
    case BlockKind::q8_0: {
      const float d = half_at(block);
#pragma unroll
      for (int j = 0; j < 8; j++) out[j] = scaled(d, static_cast<int8_t>(block[2 + i + j]));
      return;
    }
    case BlockKind::q2_k: {
      const int part = block[i / 16];
      const float scale = scaled(half_at(block + 80), part & 15), least = scaled(half_at(block + 82), part >> 4);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const int q = block[16 + i / 128 * 32 + i % 32 + j] >> (2 * (i / 32 % 4)) & 3;
        out[j] = fmaf(scale, static_cast<float>(q), -least);
      }
      return;
    }
    case BlockKind::q3_k: {
      const uint8_t* const packed = block + 96;
      const int part = i / 16, low = part < 8 ? packed[part] & 15 : packed[part - 8] >> 4;
      const int high = packed[8 + part % 4] >> (2 * (part / 4)) & 3;
      const float scale = scaled(half_at(block + 108), (low | high << 4) - 32);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const int q = block[32 + i / 128 * 32 + i % 32 + j] >> (2 * (i / 32 % 4)) & 3;
        out[j] = scaled(scale, (q | (block[i % 32 + j] >> (i / 32) & 1) << 2) - 4);
      }
      return;
    }
    case BlockKind::q4_k: {
      const PartScale part(block, i / 32);
      return half_bytes(block + 16 + i / 64 * 32, 32, i % 64,
                        [&](int q, int) { return fmaf(part.scale, static_cast<float>(q), -part.least); });
    }
    case BlockKind::q5_k: {
      const PartScale part(block, i / 32);
      return half_bytes(block + 48 + i / 64 * 32, 32, i % 64, [&](int q, int j) {
        const int high = (block[16 + i % 32 + j] >> (i / 32) & 1) << 4;
        return fmaf(part.scale, static_cast<float>(q | high), -part.least);
      });
    }
    case BlockKind::q6_k: {
      const float scale = scaled(half_at(block + 208), static_cast<int8_t>(block[192 + i / 16]));
      const int shift = i % 128 < 64 ? 0 : 4;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const int low = block[i / 128 * 64 + i % 64 + j] >> shift & 15;
        const int high = block[128 + i / 128 * 32 + i % 32 + j] >> (2 * (i / 32 % 4)) & 3;
        out[j] = scaled(scale, (low | high << 4) - 32);
      }
      return;
    }
    case BlockKind::iq4_nl: {
      const float d = half_at(block);
      return half_bytes(block + 2, 16, i, [&](int q, int) { return __fmul_rn(d, nonlinear(q)); });
    }
    case BlockKind::iq4_xs: {
      const int part = i / 32, low = block[4 + part / 2] >> (4 * (part % 2)) & 15;
      const int high = (block[2] | block[3] << 8) >> (2 * part) & 3;
      const float scale = scaled(half_at(block), (low | high << 4) - 32);
      return half_bytes(block + 8 + 16 * part, 16, i % 32, [&](int q, int) { return __fmul_rn(scale, nonlinear(q)); });
    }
    case BlockKind::mxfp4: {
      const uint32_t e = block[0];
      const float scale = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
      return half_bytes(block + 1, 16, i, [&](int q, int) { return __fmul_rn(scale, e2m1(q)); });
    }
  }
}

#else

inline BlockWeight block_weight(const BlockLayout& layout, In blocks) {
  return {blocks.ptr<uint8_t>(),
          layout.kind,
          layout.K,
          layout.N,
          layout.row_bytes(),
          static_cast<int>(layout.numbers()),
          static_cast<int>(layout.bytes())};
}

#endif

}  // namespace heed::cuda
