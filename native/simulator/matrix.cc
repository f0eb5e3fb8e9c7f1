// All matrix instructions follow one scheme. A register of A or B holds, over the lanes (group, t), a tile of 8 rows of
// A (or 8 columns of B, each of which is a row here) by W elements of k: W = 8 for 16-bit types, 4 for tf32, 16 for
// 8-bit ones. An instruction consists of MB × NB × KB such tiles:
//
//   A: register kb·MB + mb     B: register nb·KB + kb     C: tile nb·MB + mb; two registers of f32 or s32, one of f16
//
// mma m16n8k16 of 16-bit types has MB = 2, NB = 1, KB = 2; wmma m8n32k16 has 1, 4, 2. The wmma layouts are not
// prescribed, so they follow the same scheme.
#include "simulator/matrix.h"

#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "simulator/clones.h"
#include "simulator/conversions.h"

namespace heed::simulator {
namespace {

// d[row][0..7] += Σ_k a[row][k] · b[k][0..7], with k ascending, fused.
HEED_CLONES void accumulate(const float* a, const float* b, float* d, int rows, int depth) {
  for (int row = 0; row < rows; row++) {
    float sum[8];
    for (int n = 0; n < 8; n++) sum[n] = d[row * 8 + n];
    for (int k = 0; k < depth; k++)
      for (int n = 0; n < 8; n++) sum[n] = __builtin_fmaf(a[row * depth + k], b[k * 8 + n], sum[n]);
    for (int n = 0; n < 8; n++) d[row * 8 + n] = sum[n];
  }
}

void accumulate(const int32_t* a, const int32_t* b, int32_t* d, int rows, int depth) {
  for (int row = 0; row < rows; row++)
    for (int k = 0; k < depth; k++)
      for (int n = 0; n < 8; n++)
        d[row * 8 + n] = static_cast<int32_t>(static_cast<uint32_t>(d[row * 8 + n]) +
                                              static_cast<uint32_t>(a[row * depth + k] * b[k * 8 + n]));
}

// Widen a register's tile, [8][W], to the type of the sums.
HEED_CLONES void widen_f16(const uint32_t* words, float* tile) {
  uint16_t bits[64];
  std::memcpy(bits, words, sizeof bits);
  for (int i = 0; i < 64; i++) {
    const uint32_t shifted = (bits[i] & 0x7fffu) << 13, exponent = shifted & 0x0f800000;
    const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(shifted + 0x38800000) - 6.103515625e-05f);
    const uint32_t normal = exponent == 0 ? subnormal : shifted + 0x38000000;
    const uint32_t u = exponent == 0x0f800000 ? shifted + 0x70000000 : normal;
    tile[i] = bits_as<float>(u | (bits[i] & 0x8000u) << 16);
  }
}

template <Type T>
struct Tile {
  using Sum = int32_t;
  static constexpr int width = 16;
  static void widen(const uint32_t* words, int32_t* tile) {
    uint8_t bytes[128];
    std::memcpy(bytes, words, sizeof bytes);
    for (int i = 0; i < 128; i++) tile[i] = T == Type::s8 ? static_cast<int8_t>(bytes[i]) : bytes[i];
  }
};
template <>
struct Tile<Type::f16> {
  using Sum = float;
  static constexpr int width = 8;
  static void widen(const uint32_t* words, float* tile) { widen_f16(words, tile); }
};
template <>
struct Tile<Type::bf16> {
  using Sum = float;
  static constexpr int width = 8;
  static void widen(const uint32_t* words, float* tile) {
    uint16_t bits[64];
    std::memcpy(bits, words, sizeof bits);
    for (int i = 0; i < 64; i++) tile[i] = bf16_to_f32(bits[i]);
  }
};
template <>
struct Tile<Type::tf32> {  // the low 13 bits of a register are not read
  using Sum = float;
  static constexpr int width = 4;
  static void widen(const uint32_t* words, float* tile) {
    for (int i = 0; i < 32; i++) tile[i] = bits_as<float>(words[i] & 0xffffe000);
  }
};

// Accumulator tiles, [8][8].
template <Type C, class Sum>
void load_tile(Fragments c, int tile, Sum* sum) {
  if constexpr (C == Type::f16) {
    widen_f16(c[tile], sum);
  } else {
    for (int lane = 0; lane < 32; lane++) {
      sum[2 * lane] = bits_as<Sum>(c[2 * tile][lane]);
      sum[2 * lane + 1] = bits_as<Sum>(c[2 * tile + 1][lane]);
    }
  }
}

template <Type D, class Sum>
void store_tile(const Sum* sum, int tile, uint32_t* const* d) {
  if constexpr (D == Type::f16) {
    for (int lane = 0; lane < 32; lane++)
      d[tile][lane] = to_f16(sum[2 * lane]) | static_cast<uint32_t>(to_f16(sum[2 * lane + 1])) << 16;
  } else {
    for (int lane = 0; lane < 32; lane++) {
      d[2 * tile][lane] = bits_as<uint32_t>(sum[2 * lane]);
      d[2 * tile + 1][lane] = bits_as<uint32_t>(sum[2 * lane + 1]);
    }
  }
}

// A row of A is a row of its tiles. B's tiles hold its columns, so they are transposed.
template <Type A, Type B, Type C, Type D, int MB, int NB, int KB>
void multiply(Fragments a, Fragments b, Fragments c, uint32_t* const* d) {
  using Sum = typename Tile<A>::Sum;
  constexpr int width = Tile<A>::width, depth = KB * width;
  static_assert(width == Tile<B>::width, "one width of elements");
  Sum rows[MB * 8 * depth], columns[NB][depth * 8], sum[MB * NB * 64], tile[8 * width];
  for (int kb = 0; kb < KB; kb++) {
    for (int mb = 0; mb < MB; mb++) {
      Tile<A>::widen(a[kb * MB + mb], tile);
      for (int row = 0; row < 8; row++)
        std::memcpy(rows + (mb * 8 + row) * depth + kb * width, tile + row * width, width * sizeof(Sum));
    }
    for (int nb = 0; nb < NB; nb++) {
      Tile<B>::widen(b[nb * KB + kb], tile);
      for (int k = 0; k < width; k++)
        for (int n = 0; n < 8; n++) columns[nb][(kb * width + k) * 8 + n] = tile[n * width + k];
    }
  }
  for (int i = 0; i < MB * NB; i++) load_tile<C>(c, i, sum + i * 64);
  for (int nb = 0; nb < NB; nb++) accumulate(rows, columns[nb], sum + nb * MB * 64, MB * 8, depth);
  for (int i = 0; i < MB * NB; i++) store_tile<D>(sum + i * 64, i, d);
}

// .satfinite: one exact sum, which is clamped once.
template <Type A, Type B, int MB, int NB, int KB>
void multiply_saturated(Fragments a, Fragments b, Fragments c, uint32_t* const* d) {
  uint32_t zeros[32] = {}, products[MB * NB * 2][32];
  const uint32_t* zero[MB * NB * 2];
  uint32_t* product[MB * NB * 2];
  for (int i = 0; i < MB * NB * 2; i++) {
    zero[i] = zeros;
    product[i] = products[i];
  }
  // 32 products of 8-bit numbers do not overflow.
  multiply<A, B, Type::s32, Type::s32, MB, NB, KB>(a, b, zero, product);
  for (int i = 0; i < MB * NB * 2; i++)
    for (int lane = 0; lane < 32; lane++) {
      const int64_t exact = int64_t{static_cast<int32_t>(c[i][lane])} + static_cast<int32_t>(products[i][lane]);
      d[i][lane] = static_cast<uint32_t>(exact > INT32_MAX ? INT32_MAX : exact < INT32_MIN ? INT32_MIN : exact);
    }
}

template <Type A, Type B, int MB, int NB, int KB>
MatrixMultiply integer(bool saturate) {
  return saturate ? multiply_saturated<A, B, MB, NB, KB> : multiply<A, B, Type::s32, Type::s32, MB, NB, KB>;
}

template <int MB, int NB, int KB>
MatrixMultiply find_integer(Type a, Type b, bool saturate) {
  if (a == Type::s8 && b == Type::s8) return integer<Type::s8, Type::s8, MB, NB, KB>(saturate);
  if (a == Type::s8 && b == Type::u8) return integer<Type::s8, Type::u8, MB, NB, KB>(saturate);
  if (a == Type::u8 && b == Type::s8) return integer<Type::u8, Type::s8, MB, NB, KB>(saturate);
  if (a == Type::u8 && b == Type::u8) return integer<Type::u8, Type::u8, MB, NB, KB>(saturate);
  return nullptr;
}

template <Type A, int MB, int NB, int KB>
MatrixMultiply find_float(Type c, Type d) {
  if (c == Type::f32 && d == Type::f32) return multiply<A, A, Type::f32, Type::f32, MB, NB, KB>;
  if constexpr (A == Type::f16) {
    if (c == Type::f16 && d == Type::f16) return multiply<A, A, Type::f16, Type::f16, MB, NB, KB>;
    if (c == Type::f32 && d == Type::f16) return multiply<A, A, Type::f32, Type::f16, MB, NB, KB>;
    if (c == Type::f16 && d == Type::f32) return multiply<A, A, Type::f16, Type::f32, MB, NB, KB>;
  }
  return nullptr;
}

bool is_byte(Type type) { return type == Type::s8 || type == Type::u8; }

int width_of(Type type) { return type == Type::tf32 ? 4 : is_byte(type) ? 16 : 8; }

// Transposes 8 × 8 16-bit elements.
void transpose(uint16_t* tile) {
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < i; j++) {
      const uint16_t t = tile[i * 8 + j];
      tile[i * 8 + j] = tile[j * 8 + i];
      tile[j * 8 + i] = t;
    }
}

}  // namespace

MatrixMultiply find_mma(Mma& mma) {
  MatrixMultiply result = nullptr;
  const Shape shape = mma.shape;
  if (is_byte(mma.a) && is_byte(mma.b) && mma.c == Type::s32) {
    if (shape == Shape{8, 8, 16}) result = find_integer<1, 1, 1>(mma.a, mma.b, mma.saturate);
    if (shape == Shape{16, 8, 16}) result = find_integer<2, 1, 1>(mma.a, mma.b, mma.saturate);
    if (shape == Shape{16, 8, 32}) result = find_integer<2, 1, 2>(mma.a, mma.b, mma.saturate);
  } else if (mma.a == mma.b && !mma.saturate) {
    const bool deep = shape == Shape{16, 8, 16}, middle = shape == Shape{16, 8, 8}, flat = shape == Shape{16, 8, 4};
    if (mma.a == Type::f16 && deep) result = find_float<Type::f16, 2, 1, 2>(mma.c, mma.c);
    if (mma.a == Type::f16 && middle) result = find_float<Type::f16, 2, 1, 1>(mma.c, mma.c);
    if (mma.a == Type::bf16 && deep) result = find_float<Type::bf16, 2, 1, 2>(mma.c, mma.c);
    if (mma.a == Type::bf16 && middle) result = find_float<Type::bf16, 2, 1, 1>(mma.c, mma.c);
    if (mma.a == Type::tf32 && middle) result = find_float<Type::tf32, 2, 1, 2>(mma.c, mma.c);
    if (mma.a == Type::tf32 && flat) result = find_float<Type::tf32, 2, 1, 1>(mma.c, mma.c);
  }
  const int mb = shape.m / 8, nb = shape.n / 8, kb = shape.k / width_of(mma.a);
  mma.registers_a = mb * kb;
  mma.registers_b = nb * kb;
  mma.registers_c = mb * nb * (mma.c == Type::f16 ? 1 : 2);
  return result;
}

void mma_f64(const double* a, const double* b, const double* const* c, double* const* d) {
  double sum[8][8];
  for (int row = 0; row < 8; row++)
    for (int column = 0; column < 8; column++) {
      double s = c[column & 1][row * 4 + column / 2];
      for (int k = 0; k < 4; k++) s = std::fma(a[row * 4 + k], b[column * 4 + k], s);
      sum[row][column] = s;
    }
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 2; i++) d[i][lane] = sum[lane / 4][lane % 4 * 2 + i];
}

void load_matrix(const uint8_t* const* rows, int count, bool transposed, uint32_t* const* d) {
  for (int matrix = 0; matrix < count; matrix++) {
    uint16_t tile[64];
    for (int row = 0; row < 8; row++) std::memcpy(tile + row * 8, rows[matrix * 8 + row], 16);
    if (transposed) transpose(tile);
    std::memcpy(d[matrix], tile, sizeof tile);
  }
}

void store_matrix(uint8_t* const* rows, int count, bool transposed, Fragments s) {
  for (int matrix = 0; matrix < count; matrix++) {
    uint16_t tile[64];
    std::memcpy(tile, s[matrix], sizeof tile);
    if (transposed) transpose(tile);
    for (int row = 0; row < 8; row++) std::memcpy(rows[matrix * 8 + row], tile + row * 8, 16);
  }
}

void move_matrix(const uint32_t* a, uint32_t* d) {
  uint16_t tile[64];
  std::memcpy(tile, a, sizeof tile);
  transpose(tile);
  std::memcpy(d, tile, sizeof tile);
}

const WmmaFragment* find_wmma_fragment(Operand operand, Shape shape, Type type) {
  using Key = std::tuple<Operand, int, int, int, Type>;
  static std::mutex mutex;
  static std::map<Key, WmmaFragment> fragments;
  const bool factor = operand != Operand::c;
  const bool is_16 = shape == Shape{16, 16, 16} || shape == Shape{32, 8, 16} || shape == Shape{8, 32, 16};
  const bool is_tf32 = shape == Shape{16, 16, 8};
  if (!is_16 && !is_tf32) return nullptr;
  if (factor && is_tf32 != (type == Type::tf32)) return nullptr;
  if (factor && !is_tf32 && !is_byte(type) && type != Type::f16 && type != Type::bf16) return nullptr;
  if (!factor && type != Type::f32 && (is_tf32 || (type != Type::f16 && type != Type::s32))) return nullptr;
  std::lock_guard lock(mutex);
  const auto [entry, is_new] = fragments.try_emplace(Key{operand, shape.m, shape.n, shape.k, type});
  WmmaFragment& fragment = entry->second;
  if (!is_new) return &fragment;

  const int width = width_of(type), mb = shape.m / 8, kb = shape.k / width;
  fragment.element_bytes = bytes_of(type);
  fragment.elements = 4 / fragment.element_bytes;
  const int tiles = operand == Operand::a ? mb * kb : operand == Operand::b ? shape.n / 8 * kb : mb * shape.n / 8;
  fragment.registers = !factor ? tiles * 2 / fragment.elements : type == Type::f16 ? 8 : tiles;
  for (int r = 0; r < fragment.registers; r++)
    for (int lane = 0; lane < 32; lane++)
      for (int e = 0; e < fragment.elements; e++) {
        const int group = lane / 4, along = lane % 4 * fragment.elements + e;
        int row, column;
        if (operand == Operand::a) {
          const int tile = r % tiles;
          row = tile % mb * 8 + group;
          column = tile / mb * width + along;
        } else if (operand == Operand::b) {
          const int tile = r % tiles;
          row = tile % kb * width + along;
          column = tile / kb * 8 + group;
        } else {
          const int tile = fragment.elements == 2 ? r : r / 2;
          row = tile % mb * 8 + group;
          column = tile / mb * 8 + lane % 4 * 2 + (fragment.elements == 2 ? e : r % 2);
        }
        fragment.at[r][lane][e] = {static_cast<uint8_t>(row), static_cast<uint8_t>(column)};
      }
  return &fragment;
}

MatrixMultiply find_wmma(const Wmma& wmma) {
  const Shape shape = wmma.shape;
  const bool square = shape == Shape{16, 16, 16}, tall = shape == Shape{32, 8, 16}, wide = shape == Shape{8, 32, 16};
  if (is_byte(wmma.a) && wmma.c == Type::s32 && wmma.d == Type::s32) {
    if (square) return find_integer<2, 2, 1>(wmma.a, wmma.a, wmma.saturate);
    if (tall) return find_integer<4, 1, 1>(wmma.a, wmma.a, wmma.saturate);
    if (wide) return find_integer<1, 4, 1>(wmma.a, wmma.a, wmma.saturate);
    return nullptr;
  }
  if (wmma.saturate) return nullptr;
  if (wmma.a == Type::f16) {
    if (square) return find_float<Type::f16, 2, 2, 2>(wmma.c, wmma.d);
    if (tall) return find_float<Type::f16, 4, 1, 2>(wmma.c, wmma.d);
    if (wide) return find_float<Type::f16, 1, 4, 2>(wmma.c, wmma.d);
  }
  if (wmma.a == Type::bf16) {
    if (square) return find_float<Type::bf16, 2, 2, 2>(wmma.c, wmma.d);
    if (tall) return find_float<Type::bf16, 4, 1, 2>(wmma.c, wmma.d);
    if (wide) return find_float<Type::bf16, 1, 4, 2>(wmma.c, wmma.d);
  }
  if (wmma.a == Type::tf32 && shape == Shape{16, 16, 8}) return find_float<Type::tf32, 2, 2, 2>(wmma.c, wmma.d);
  return nullptr;
}

}  // namespace heed::simulator
