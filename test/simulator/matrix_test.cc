// Tests matrix instructions: fragments are filled and read by the PTX ISA manual's formulas for each shape, which are
// written out here, and the product is computed from the matrices themselves. Small integers make every sum exact.
#include "simulator/matrix.h"

#include <functional>

#include "check.h"
#include "oracle.h"
#include "simulator/conversions.h"

using namespace heed::simulator;

namespace {

struct Place {
  int row, column;
};
using Formula = std::function<Place(int lane, int i)>;  // place of element i of a lane's fragment in the manual

struct Layout {
  Shape shape;
  Type a, b, c;
  int elements_a, elements_b, elements_c;  // per lane
  Formula at_a, at_b, at_c;
};

// "groupID = %laneid >> 2; threadID_in_group = %laneid % 4" are the manual's names.
int group_id(int lane) { return lane >> 2; }
int thread_id(int lane) { return lane % 4; }

Place accumulator(int lane, int i) {
  return {i < 2 ? group_id(lane) : group_id(lane) + 8, thread_id(lane) * 2 + (i & 1)};
}

Layout m16n8k16(Type type, Type sums) {
  return {{16, 8, 16},
          type,
          type,
          sums,
          8,
          4,
          4,
          [](int lane, int i) -> Place {
            const int row = (i >= 0 && i < 2) || (i >= 4 && i < 6) ? group_id(lane) : group_id(lane) + 8;
            return {row, i < 4 ? thread_id(lane) * 2 + (i & 1) : thread_id(lane) * 2 + (i & 1) + 8};
          },
          [](int lane, int i) -> Place {
            return {i < 2 ? thread_id(lane) * 2 + (i & 1) : thread_id(lane) * 2 + (i & 1) + 8, group_id(lane)};
          },
          accumulator};
}

Layout m16n8k8(Type type, Type sums) {
  return {{16, 8, 8},
          type,
          type,
          sums,
          4,
          2,
          4,
          [](int lane, int i) -> Place {
            return {i < 2 ? group_id(lane) : group_id(lane) + 8, thread_id(lane) * 2 + (i & 1)};
          },
          [](int lane, int i) -> Place { return {thread_id(lane) * 2 + i, group_id(lane)}; },
          accumulator};
}

Layout m16n8k8_tf32() {
  return {{16, 8, 8},
          Type::tf32,
          Type::tf32,
          Type::f32,
          4,
          2,
          4,
          [](int lane, int i) -> Place {
            return {i == 0 || i == 2 ? group_id(lane) : group_id(lane) + 8,
                    i < 2 ? thread_id(lane) : thread_id(lane) + 4};
          },
          [](int lane, int i) -> Place { return {i == 0 ? thread_id(lane) : thread_id(lane) + 4, group_id(lane)}; },
          accumulator};
}

Layout m16n8k4_tf32() {
  return {{16, 8, 4},
          Type::tf32,
          Type::tf32,
          Type::f32,
          2,
          1,
          4,
          [](int lane, int i) -> Place { return {i == 0 ? group_id(lane) : group_id(lane) + 8, thread_id(lane)}; },
          [](int lane, int) -> Place { return {thread_id(lane), group_id(lane)}; },
          accumulator};
}

Layout m16n8k32(Type a, Type b) {
  return {{16, 8, 32},
          a,
          b,
          Type::s32,
          16,
          8,
          4,
          [](int lane, int i) -> Place {
            const int row = (i >= 0 && i < 4) || (i >= 8 && i < 12) ? group_id(lane) : group_id(lane) + 8;
            return {row, i < 8 ? thread_id(lane) * 4 + (i & 3) : thread_id(lane) * 4 + (i & 3) + 16};
          },
          [](int lane, int i) -> Place {
            return {i < 4 ? thread_id(lane) * 4 + (i & 3) : thread_id(lane) * 4 + (i & 3) + 16, group_id(lane)};
          },
          accumulator};
}

Layout m16n8k16_bytes(Type a, Type b) {
  return {{16, 8, 16},
          a,
          b,
          Type::s32,
          8,
          4,
          4,
          [](int lane, int i) -> Place {
            return {i < 4 ? group_id(lane) : group_id(lane) + 8, thread_id(lane) * 4 + (i & 3)};
          },
          [](int lane, int i) -> Place { return {thread_id(lane) * 4 + i, group_id(lane)}; },
          accumulator};
}

Layout m8n8k16(Type a, Type b) {
  return {{8, 8, 16},
          a,
          b,
          Type::s32,
          4,
          4,
          2,
          [](int lane, int i) -> Place { return {group_id(lane), thread_id(lane) * 4 + i}; },
          [](int lane, int i) -> Place { return {thread_id(lane) * 4 + i, group_id(lane)}; },
          [](int lane, int i) -> Place { return {group_id(lane), thread_id(lane) * 2 + i}; }};
}

uint32_t encode(Type type, double value) {
  switch (type) {
    case Type::f16:
    case Type::bf16:
      return value == 0 ? 0 : format_of(type).round(value, Rounding::rn);
    case Type::tf32:
    case Type::f32:
      return bits_as<uint32_t>(static_cast<float>(value));
    case Type::s32:
      return static_cast<uint32_t>(static_cast<int32_t>(value));
    default:
      return static_cast<uint32_t>(static_cast<int32_t>(value)) & 0xff;
  }
}

double decode(Type type, uint32_t bits) {
  if (type == Type::f16) return format_of(type).value(static_cast<uint16_t>(bits));
  if (type == Type::s32) return static_cast<int32_t>(bits);
  return bits_as<float>(bits);
}

// Elements of a fragment in its registers: the manual packs them from the low bits on.
struct Registers {
  uint32_t lanes[16][32] = {};
  const uint32_t* in[16];
  uint32_t* out[16];
  Registers() {
    for (int i = 0; i < 16; i++) in[i] = out[i] = lanes[i];
  }
  void set(Type type, int lane, int i, uint32_t bits) {
    const int each = 4 / element_bytes(type);
    lanes[i / each][lane] |= bits << (i % each * 8 * element_bytes(type));
  }
  uint32_t get(Type type, int lane, int i) const {
    const int each = 4 / element_bytes(type);
    return lanes[i / each][lane] >> (i % each * 8 * element_bytes(type)) & (type == Type::f16 ? 0xffff : 0xffffffff);
  }
  static int element_bytes(Type type) { return bytes_of(type); }
};

double draw(heed::test::Random& random, Type type) {
  if (type == Type::u8) return static_cast<double>(random.below(256));
  if (type == Type::s8) return static_cast<double>(random.below(256) - 128);
  return static_cast<double>(random.below(17) - 8);
}

void check(const Layout& layout, bool saturate = false) {
  heed::test::Random random(layout.shape.k);
  const Shape shape = layout.shape;
  double a[32][32], b[32][32], c[32][32], d[32][32];
  for (int i = 0; i < shape.m; i++)
    for (int k = 0; k < shape.k; k++) a[i][k] = draw(random, layout.a);
  for (int k = 0; k < shape.k; k++)
    for (int j = 0; j < shape.n; j++) b[k][j] = draw(random, layout.b);
  for (int i = 0; i < shape.m; i++)
    for (int j = 0; j < shape.n; j++) {
      c[i][j] = static_cast<double>(random.below(64) - 32);
      if (layout.c == Type::s32 && (i + j) % 3 == 0) c[i][j] = i % 2 ? 2147483647.0 : -2147483648.0;
      d[i][j] = c[i][j];
      for (int k = 0; k < shape.k; k++) d[i][j] += a[i][k] * b[k][j];
      if (layout.c == Type::s32) {  // clamped or modulo 2^32
        const int64_t exact = static_cast<int64_t>(d[i][j]);
        d[i][j] = saturate ? static_cast<double>(std::min<int64_t>(std::max<int64_t>(exact, INT32_MIN), INT32_MAX))
                           : static_cast<int32_t>(static_cast<uint32_t>(exact));
      }
    }
  Registers ra, rb, rc, rd;
  for (int lane = 0; lane < 32; lane++) {
    for (int i = 0; i < layout.elements_a; i++) {
      const Place at = layout.at_a(lane, i);
      ra.set(layout.a, lane, i, encode(layout.a, a[at.row][at.column]));
    }
    for (int i = 0; i < layout.elements_b; i++) {
      const Place at = layout.at_b(lane, i);
      rb.set(layout.b, lane, i, encode(layout.b, b[at.row][at.column]));
    }
    for (int i = 0; i < layout.elements_c; i++) {
      const Place at = layout.at_c(lane, i);
      rc.set(layout.c, lane, i, encode(layout.c, c[at.row][at.column]));
    }
  }
  if (layout.a == Type::tf32)  // the bits below tf32's are not read
    for (auto& lanes : ra.lanes)
      for (uint32_t& bits : lanes) bits |= 0x1fff & (bits ? ~0u : 0u);
  Mma mma{shape, layout.a, layout.b, layout.c, saturate, 0, 0, 0};
  const MatrixMultiply multiply = find_mma(mma);
  EXPECT(multiply);
  if (!multiply) return;
  EXPECT(mma.registers_a == layout.elements_a * bytes_of(layout.a) / 4);
  EXPECT(mma.registers_b == layout.elements_b * bytes_of(layout.b) / 4);
  EXPECT(mma.registers_c == layout.elements_c * bytes_of(layout.c) / 4);
  multiply(ra.in, rb.in, rc.in, rd.out);
  int seen = 0;
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < layout.elements_c; i++) {
      const Place at = layout.at_c(lane, i);
      seen++;
      const double got = decode(layout.c, rd.get(layout.c, lane, i)), expected = d[at.row][at.column];
      if (got != expected)
        heed::test::report("m%dn%dk%d: D[%d][%d] is %g, expected %g", shape.m, shape.n, shape.k, at.row, at.column, got,
                           expected);
    }
  EXPECT(seen == shape.m * shape.n);
  multiply(ra.in, rb.in, rc.in, rc.out);  // in place
  for (int r = 0; r < mma.registers_c; r++) EXPECT(std::equal(rc.lanes[r], rc.lanes[r] + 32, rd.lanes[r]));
}

}  // namespace

TEST(matrix_mma_of_halves) {
  check(m16n8k16(Type::f16, Type::f32));
  check(m16n8k16(Type::f16, Type::f16));
  check(m16n8k16(Type::bf16, Type::f32));
  check(m16n8k8(Type::f16, Type::f32));
  check(m16n8k8(Type::f16, Type::f16));
  check(m16n8k8(Type::bf16, Type::f32));
}

TEST(matrix_mma_of_tf32) {
  check(m16n8k8_tf32());
  check(m16n8k4_tf32());
}

TEST(matrix_mma_of_bytes) {
  for (const Type a : {Type::s8, Type::u8})
    for (const Type b : {Type::s8, Type::u8})
      for (const bool saturate : {false, true}) {
        check(m16n8k32(a, b), saturate);
        check(m16n8k16_bytes(a, b), saturate);
        check(m8n8k16(a, b), saturate);
      }
}

TEST(matrix_mma_that_does_not_exist) {
  Mma narrow_sums{{16, 8, 16}, Type::bf16, Type::bf16, Type::f16};
  Mma mixed{{16, 8, 16}, Type::bf16, Type::f16, Type::f32};
  Mma flat{{16, 8, 4}, Type::f16, Type::f16, Type::f32};
  EXPECT(!find_mma(narrow_sums) && !find_mma(mixed) && !find_mma(flat));
}

// Random numbers: the error of sums of 16 exact products in f32, with each step rounded once.
TEST(matrix_mma_precision) {
  heed::test::Random random(9);
  for (const Type type : {Type::f16, Type::bf16}) {
    const Layout layout = m16n8k16(type, Type::f32);
    Registers ra, rb, rc, rd;
    double a[16][16], b[16][8];
    float c[16][8];
    for (int lane = 0; lane < 32; lane++) {
      const auto half = [&](double& value) {
        const uint16_t bits = format_of(type).round(random.uniform(-2, 2) + 1e-9, Rounding::rn);
        value = format_of(type).value(bits);
        return bits;
      };
      for (int i = 0; i < 8; i++) {
        const Place at = layout.at_a(lane, i);
        ra.set(type, lane, i, half(a[at.row][at.column]));
      }
      for (int i = 0; i < 4; i++) {
        const Place at = layout.at_b(lane, i), sum = layout.at_c(lane, i);
        rb.set(type, lane, i, half(b[at.row][at.column]));
        c[sum.row][sum.column] = random.uniform(-4, 4);
        rc.lanes[i][lane] = bits_as<uint32_t>(c[sum.row][sum.column]);
      }
    }
    Mma mma{{16, 8, 16}, type, type, Type::f32};
    find_mma(mma)(ra.in, rb.in, rc.in, rd.out);
    for (int lane = 0; lane < 32; lane++)
      for (int i = 0; i < 4; i++) {
        const Place at = layout.at_c(lane, i);
        float expected = c[at.row][at.column];
        for (int k = 0; k < 16; k++)  // in the documented order; a product is exact in a double
          expected = static_cast<float>(a[at.row][k] * b[k][at.column] + expected);
        EXPECT(rd.lanes[i][lane] == bits_as<uint32_t>(expected));
      }
  }
}

// m8n8k4 of f64: A (lane / 4, lane % 4), B (lane % 4, lane / 4), C (lane / 4, 2 · (lane % 4) + i).
TEST(matrix_mma_of_f64) {
  double a[32], b[32], c[2][32], d[2][32];
  for (int lane = 0; lane < 32; lane++) {
    a[lane] = 1 + lane / 4 + 10 * (lane % 4);
    b[lane] = 3 * (lane % 4) - lane / 4;
    c[0][lane] = lane;
    c[1][lane] = -lane;
  }
  const double* const in[] = {c[0], c[1]};
  double* const out[] = {d[0], d[1]};
  mma_f64(a, b, in, out);
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 2; i++) {
      const int row = lane / 4, column = lane % 4 * 2 + i;
      double expected = c[i][lane];
      for (int k = 0; k < 4; k++) expected += (1 + row + 10 * k) * (3.0 * k - column);
      EXPECT(d[i][lane] == expected);
    }
}

// ldmatrix: lane i's address is row i % 8 of matrix i / 8. Lane l receives, of each matrix, elements 2 · (l % 4) and
// the next of row l / 4; with .trans, rows 2 · (l % 4) and the next of column l / 4.
TEST(matrix_load_and_store) {
  uint16_t memory[32][16];  // a row has 8 elements; the rest must stay unchanged
  const uint8_t* rows[32];
  uint8_t* written_rows[32];
  uint16_t written[32][16];
  for (int i = 0; i < 32; i++) {
    for (int j = 0; j < 16; j++) memory[i][j] = static_cast<uint16_t>(i * 256 + j);
    rows[i] = reinterpret_cast<uint8_t*>(memory[31 - i]);  // in any order
    written_rows[i] = reinterpret_cast<uint8_t*>(written[31 - i]);
  }
  for (const int count : {1, 2, 4})
    for (const bool transposed : {false, true}) {
      Registers d;
      load_matrix(rows, count, transposed, d.out);
      for (int matrix = 0; matrix < count; matrix++)
        for (int lane = 0; lane < 32; lane++)
          for (int e = 0; e < 2; e++) {
            const int along = lane % 4 * 2 + e, row = transposed ? along : lane / 4,
                      column = transposed ? lane / 4 : along;
            EXPECT((d.lanes[matrix][lane] >> (16 * e) & 0xffff) == memory[31 - matrix * 8 - row][column]);
          }
      std::fill_n(&written[0][0], 32 * 16, uint16_t{0xeeee});
      store_matrix(written_rows, count, transposed, d.in);
      for (int i = 0; i < 32; i++)
        for (int j = 0; j < 16; j++)
          EXPECT(written[31 - i][j] == (i < count * 8 && j < 8 ? memory[31 - i][j] : 0xeeee));
    }
  Registers plain, turned, moved;
  load_matrix(rows, 1, false, plain.out);
  load_matrix(rows, 1, true, turned.out);
  move_matrix(plain.in[0], moved.out[0]);
  EXPECT(std::equal(moved.lanes[0], moved.lanes[0] + 32, turned.lanes[0]));
}

namespace {

// Fills a fragment as wmma.load does from matrix[row][column].
void load_fragment(const WmmaFragment& fragment, Type type, const double (*matrix)[32], Registers& registers) {
  for (int r = 0; r < fragment.registers; r++)
    for (int lane = 0; lane < 32; lane++)
      for (int e = 0; e < fragment.elements; e++) {
        const auto at = fragment.at[r][lane][e];
        registers.set(type, lane, r * fragment.elements + e, encode(type, matrix[at.row][at.column]));
      }
}

void check_wmma(Shape shape, Type a, Type c, Type d, int registers_a, int registers_b, int registers_c) {
  heed::test::Random random(shape.m + shape.k);
  double ma[32][32], mb[32][32], mc[32][32];
  for (int i = 0; i < 32; i++)
    for (int j = 0; j < 32; j++) {
      ma[i][j] = draw(random, a);
      mb[i][j] = draw(random, a);
      mc[i][j] = static_cast<double>(random.below(64) - 32);
    }
  const WmmaFragment* fa = find_wmma_fragment(Operand::a, shape, a);
  const WmmaFragment* fb = find_wmma_fragment(Operand::b, shape, a);
  const WmmaFragment* fc = find_wmma_fragment(Operand::c, shape, c);
  const WmmaFragment* fd = find_wmma_fragment(Operand::c, shape, d);
  const MatrixMultiply multiply = find_wmma({shape, a, c, d, false});
  EXPECT(fa && fb && fc && fd && multiply);
  if (!(fa && fb && fc && fd && multiply)) return;
  EXPECT(fa->registers == registers_a && fb->registers == registers_b && fc->registers == registers_c);
  Registers ra, rb, rc, rd;
  load_fragment(*fa, a, ma, ra);
  load_fragment(*fb, a, mb, rb);
  load_fragment(*fc, c, mc, rc);
  multiply(ra.in, rb.in, rc.in, rd.out);
  bool written[32][32] = {};
  for (int r = 0; r < fd->registers; r++)
    for (int lane = 0; lane < 32; lane++)
      for (int e = 0; e < fd->elements; e++) {
        const auto at = fd->at[r][lane][e];
        double expected = mc[at.row][at.column];
        for (int k = 0; k < shape.k; k++) expected += ma[at.row][k] * mb[k][at.column];
        EXPECT(decode(d, rd.get(d, lane, r * fd->elements + e)) == expected);
        EXPECT(at.row < shape.m && at.column < shape.n && !written[at.row][at.column]);
        written[at.row][at.column] = true;
      }
}

}  // namespace

TEST(matrix_wmma) {
  // Numbers of registers from the manual: 8 for f16 in every shape.
  for (const Shape shape : {Shape{16, 16, 16}, Shape{32, 8, 16}, Shape{8, 32, 16}}) {
    check_wmma(shape, Type::f16, Type::f32, Type::f32, 8, 8, 8);
    check_wmma(shape, Type::f16, Type::f16, Type::f16, 8, 8, 4);
    check_wmma(shape, Type::f16, Type::f16, Type::f32, 8, 8, 4);
    check_wmma(shape, Type::f16, Type::f32, Type::f16, 8, 8, 8);
    const int a = shape.m / 4, b = shape.n / 4;  // 2, 4 or 8
    check_wmma(shape, Type::bf16, Type::f32, Type::f32, a, b, 8);
    check_wmma(shape, Type::s8, Type::s32, Type::s32, a / 2, b / 2, 8);
    check_wmma(shape, Type::u8, Type::s32, Type::s32, a / 2, b / 2, 8);
  }
  check_wmma({16, 16, 8}, Type::tf32, Type::f32, Type::f32, 4, 4, 8);
  EXPECT(!find_wmma_fragment(Operand::a, {16, 16, 8}, Type::f16) &&
         !find_wmma({{16, 16, 16}, Type::bf16, Type::f16, Type::f16, false}));
}
