// Rotary position embedding (Su et al., "RoFormer", 2021): in each head of the token at position p, pair i of
// dimensions is rotated by the angle whose cosine and sine are table[p, i]: (a, b) → (a · cos - b · sin, a · sin + b ·
// cos). With `inverse` it is rotated by the negative angle, which is the gradient. Pairs are the neighbours (2i, 2i+1)
// or, among R dimensions, (i, i + R/2); dimensions beyond R are copied.
//
// inp and out are [B, T, H, D] with any strides and D contiguous; out may be inp. The work is parallel over tokens. A
// part of a token's row of the table is laid out in the order of vectors and then used for all of the token's heads.
#include "core/checks/rotary.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kPairs = 128;  // pairs of a part

// Each lane of a pair of neighbours gets the other lane's value.
inline vf swap_neighbours(vf x) {
  typedef uint64_t pairs __attribute__((vector_size(kWidth * 4)));
  return (vf)((pairs)x << 32 | (pairs)x >> 32);
}

struct Rotary {
  bool interleaved, inverse, accumulate;
  int64_t half;  // R/2

  template <class Lanes, class T>
  void put(const Lanes& lanes, T* to, vf v) const {
    lanes.store(to, accumulate ? lanes.load(to) + v : v);
  }

  // Rotates pairs [begin, begin + n) of `heads` heads.
  template <class T>
  void turn(T* out, const T* inp, int64_t out_stride, int64_t inp_stride, int64_t heads, const float* angles,
            int64_t begin, int64_t n) const {
    float cosine[2 * kPairs], sine[2 * kPairs];
    for (int64_t i = 0; i < n; i++) {
      const float c = angles[2 * (begin + i)], s = inverse ? -angles[2 * (begin + i) + 1] : angles[2 * (begin + i) + 1];
      if (interleaved) {
        cosine[2 * i] = cosine[2 * i + 1] = c;
        sine[2 * i] = -s;
        sine[2 * i + 1] = s;
      } else {
        cosine[i] = c;
        sine[i] = s;
      }
    }
    for (int64_t h = 0; h < heads; h++) {
      const T* x = inp + h * inp_stride + (interleaved ? 2 * begin : begin);
      T* y = out + h * out_stride + (interleaved ? 2 * begin : begin);
      if (interleaved) {
        over_row(2 * n, [&](int64_t i, auto lanes, int) {
          const vf v = lanes.load(x + i);
          put(lanes, y + i, fma(v, lanes.load(cosine + i), swap_neighbours(v) * lanes.load(sine + i)));
        });
      } else {
        over_row(n, [&](int64_t i, auto lanes, int) {
          const vf a = lanes.load(x + i), b = lanes.load(x + half + i);
          const vf c = lanes.load(cosine + i), s = lanes.load(sine + i);
          put(lanes, y + i, fma(a, c, -(b * s)));
          put(lanes, y + half + i, fma(b, c, a * s));
        });
      }
    }
  }
};

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::rotary(Stream& stream, Out out, In inp, F32In table, OptI32In starts, OptI32In positions,
                      Bool interleaved, Bool inverse, Accumulate accumulate) {
  const char* op = "rotary";
  const RotarySizes n = check_rotary(op, out, inp, table, starts, positions);
  if (inp.empty()) return;

  const Rotary rotary{interleaved, inverse, accumulate, n.R / 2};
  const float* angles = table.f32();
  const int32_t *first = starts ? starts->i32() : nullptr, *given = positions ? positions->i32() : nullptr;
  stream.launch(op, [=] {
    const auto position = [=](int64_t b, int64_t t) {
      return given ? int64_t{given[b * n.T + t]} : (first ? int64_t{first[b]} : 0) + t;
    };
    for (int64_t b = 0; b < n.B; b++)
      for (int64_t t = 0; t < n.T; t++)
        if (position(b, t) < 0 || position(b, t) >= n.positions)
          fail(Code::range, "expected positions in [0, %lld), got %lld at token %lld of sequence %lld",
               static_cast<long long>(n.positions), static_cast<long long>(position(b, t)), static_cast<long long>(t),
               static_cast<long long>(b));
    with_float_type(inp.dtype, [&](auto type) {
      using T = decltype(type);
      parallel_for(n.B * n.T, rows_per_task(n.H * n.D), [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; token++) {
          const int64_t b = token / n.T, t = token % n.T;
          const T* x = inp.ptr<T>() + b * inp.strides[0] + t * inp.strides[1];
          T* y = out.ptr<T>() + b * out.strides[0] + t * out.strides[1];
          for (int64_t pair = 0; pair < rotary.half; pair += kPairs)
            rotary.turn(y, x, out.strides[2], inp.strides[2], n.H, angles + position(b, t) * n.R, pair,
                        min_of(kPairs, rotary.half - pair));
          for (int64_t h = 0; h < n.H && n.R < n.D; h++) {
            const T* from = x + h * inp.strides[2] + n.R;
            T* to = y + h * out.strides[2] + n.R;
            over_row(n.D - n.R, [&](int64_t i, auto lanes, int) { rotary.put(lanes, to + i, lanes.load(from + i)); });
          }
        }
      });
    });
  });
}

}  // namespace heed::cpu
