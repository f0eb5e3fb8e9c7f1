// The kernels of gemm_decoded.h: those of gemm_mma.h, gemm_tf32.h and gemm_f32.h with another loader of b. It decodes
// the weight's numbers on their way into a tile in shared memory, and rounds them to the dtype of a. So the sums have
// the order and the bits of a product with a matrix of the same numbers.
//
// b has the weight's outputs along the K of the product, and its inputs across. A loader puts eight neighbouring inputs
// of an output at once into a tile [outputs][inputs]. Outputs and inputs that do not exist are zeros and are not read.
// Codes of 8 and 4 bits are read one step ahead: those of the next tile are in registers while the threads multiply.
#pragma once
#include "cuda/kernels/gemm_decoded.h"

#if HEED_DEVICE_CODE
#include "cuda/kernels/gemm_f32.h"
#include "cuda/kernels/gemm_mma.h"
#include "cuda/kernels/gemm_tf32.h"

namespace heed::cuda {

// How a kernel's tiles lie in shared memory: the place of an element, in elements.
template <class T, int kOuter>
struct SwizzledTile {
  using Element = T;
  static constexpr int kPitch = kOuter;
  __device__ __forceinline__ static int place(int row, int column) { return tile_place<T, false, kOuter>(row, column); }
};
template <int kOuter>
struct PaddedTile {
  using Element = float;
  static constexpr int kPitch = kOuter + 4;
  __device__ __forceinline__ static int place(int row, int column) { return row * kPitch + column; }
};

// Puts eight numbers into a row of a tile, from a column on that is a multiple of eight.
template <class Tile>
__device__ __forceinline__ void store_eight(uint32_t tile, int row, int column, const float (&x)[8]) {
  using T = typename Tile::Element;
  const uint32_t to = tile + Tile::place(row, column) * static_cast<int>(sizeof(T));
  if constexpr (sizeof(T) == 2)
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(pack<T>(x[0], x[1])),
                 "r"(pack<T>(x[2], x[3])), "r"(pack<T>(x[4], x[5])), "r"(pack<T>(x[6], x[7]))
                 : "memory");
  else
    asm volatile(
        "st.shared.v4.f32 [%0], {%1, %2, %3, %4};\n\t"
        "st.shared.v4.f32 [%0 + 16], {%5, %6, %7, %8};" ::"r"(to),
        "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]), "f"(x[4]), "f"(x[5]), "f"(x[6]), "f"(x[7])
        : "memory");
}

// Loads tiles of kDepth outputs and kOuter inputs of a weight in 8 or 4 bits. Sixteen neighbouring threads, a team,
// have the outputs of a panel, whose words are neighbours in memory, and eight of its inputs.
template <class Tile, int kDepth, int kOuter, int kThreads, int bits>
struct QuantizedLoader {
  using C = QuantizedCodes<bits>;
  static constexpr bool kDecodes = true, kAlong = false;
  static constexpr int kColumns = kOuter, kPitch = Tile::kPitch;
  static constexpr int kTeams = kThreads / kPanelColumns, kPanels = kDepth / kPanelColumns;
  static constexpr int kTurns = kOuter / 8 / kTeams;  // of a team in a panel
  static constexpr int kWords = 8 / C::kPerWord;      // of eight inputs
  static constexpr int kTurnInputs = kTeams * 8, kTurnWords = kTurnInputs / C::kPerWord * kPanelColumns;
  static_assert(kTurns * kTurnInputs == kOuter && kPanels * kPanelColumns == kDepth, "teams share a tile evenly");

  const QuantizedWeight& w;
  const uint32_t* codes;   // the team's first word in the next tile
  const uint16_t* scales;  // of the team's first group in the next tile
  int groups[kTurns];      // distance of a turn's scales from those of the first, or -1 if there are no such inputs
  int outputs;             // that are left, from this thread's first one in the next tile on; none without inputs
  int output, input;       // in the tile
  uint32_t tile;
  uint32_t words[kPanels][kTurns][kWords], word_scales[kPanels][kTurns];

  __device__ __forceinline__ QuantizedLoader(const GemmParams&, const QuantizedWeight& w, const GemmTile& t,
                                             int64_t first, int64_t, uint32_t tile = 0)
      : w(w),
        output(threadIdx.x % kPanelColumns),
        input(static_cast<int>(threadIdx.x / kPanelColumns) * 8),
        tile(tile) {
    const int64_t panel = t.begin / kPanelColumns, k = first + input;
    codes =
        reinterpret_cast<const uint32_t*>(w.codes) + panel * w.panel_words + k / C::kPerWord * kPanelColumns + output;
    scales = w.scales + panel * w.panel_scales + k / w.group * kPanelColumns + output;
    outputs = k < w.K ? gemm_left(w.N, t.begin + output) : 0;
#pragma unroll
    for (int turn = 1; turn < kTurns; turn++) {
      const int64_t at = k + turn * kTurnInputs;
      groups[turn] = at < w.K ? static_cast<int>((at / w.group - k / w.group) * kPanelColumns) : -1;
    }
    fetch();
  }

  // Decodes the tile that was fetched last into the stage at `at`, and fetches the next one.
  __device__ __forceinline__ void next(uint32_t at) {
#pragma unroll
    for (int panel = 0; panel < kPanels; panel++)
#pragma unroll
      for (int turn = 0; turn < kTurns; turn++) {
        const float scale = scale_of(static_cast<uint16_t>(word_scales[panel][turn]));
        float x[8];
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = C::weight(words[panel][turn][j / C::kPerWord], j % C::kPerWord) * scale;
        store_eight<Tile>(tile + at, panel * kPanelColumns + output, input + turn * kTurnInputs, x);
      }
    fetch();
  }

 private:
  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int panel = 0; panel < kPanels; panel++)
#pragma unroll
      for (int turn = 0; turn < kTurns; turn++) {
        const bool here = panel * kPanelColumns < outputs && (turn == 0 || groups[turn] >= 0);
#pragma unroll
        for (int i = 0; i < kWords; i++)
          words[panel][turn][i] =
              here ? codes[panel * w.panel_words + turn * kTurnWords + i * kPanelColumns] : C::kZeros;
        word_scales[panel][turn] = here ? scales[panel * w.panel_scales + (turn == 0 ? 0 : groups[turn])] : 0;
      }
    codes += kPanels * w.panel_words;
    scales += kPanels * w.panel_scales;
    outputs -= kDepth;
  }
};

// Loads such tiles of a weight in blocks. Neighbouring threads have neighbouring inputs of an output, which share a
// block.
template <class Tile, int kDepth, int kOuter, int kThreads>
struct BlocksLoader {
  static constexpr bool kDecodes = true, kAlong = false;
  static constexpr int kColumns = kOuter, kPitch = Tile::kPitch;
  static constexpr int kAcross = kOuter / 8, kRows = kThreads / kAcross;  // outputs that the threads have at once
  static_assert(kThreads % kAcross == 0 && kDepth % kRows == 0, "threads share a tile evenly");

  const BlockWeight& w;
  const uint8_t* from;  // the block of the thread's inputs, of its first output in the next tile
  int number;           // of the first input in the block
  int outputs;          // that are left, from this thread's first one in the next tile on; none without inputs
  int output, input;    // in the tile
  uint32_t tile;

  __device__ __forceinline__ BlocksLoader(const GemmParams&, const BlockWeight& w, const GemmTile& t, int64_t first,
                                          int64_t, uint32_t tile = 0)
      : w(w), output(threadIdx.x / kAcross), input(threadIdx.x % kAcross * 8), tile(tile) {
    const int64_t k = first + input;
    from = w.blocks + (t.begin + output) * w.row_bytes + k / w.numbers * w.bytes;
    number = static_cast<int>(k % w.numbers);
    outputs = k < w.K ? gemm_left(w.N, t.begin + output) : 0;
  }

  __device__ __forceinline__ void next(uint32_t at) {
#pragma unroll 1
    for (int row = 0; row < kDepth; row += kRows) {
      float x[8] = {};
      if (row < outputs) decode_eight(w.kind, from, number, x);
      store_eight<Tile>(tile + at, row + output, input, x);
      from += kRows * w.row_bytes;
    }
    outputs -= kDepth;
  }
};

// The loaders of a tile of kOuter inputs, by the form of the weight.
template <int bits>
struct Codes {
  template <class Tile, int kDepth, int kOuter, int kThreads>
  using Loader = QuantizedLoader<Tile, kDepth, kOuter, kThreads, bits>;
};
struct Blocks {
  template <class Tile, int kDepth, int kOuter, int kThreads>
  using Loader = BlocksLoader<Tile, kDepth, kOuter, kThreads>;
};

// kAligned is as in gemm_mma.h, for a alone.
template <class T, class Shape, bool kAligned, class Form, class Params>
__device__ void gemm_mma_decoded(const Params& p) {
  using Stages = GemmMmaStages<T, Shape, false>;
  using LoaderA =
      std::conditional_t<kAligned, GemmLoader<T, Stages, Shape::kM, true>, GemmAnyLoader<T, Stages, Shape::kM, true>>;
  using LoaderB = typename Form::template Loader<SwizzledTile<T, Shape::kN>, Shape::kK, Shape::kN, Shape::kThreads>;
  gemm_mma_tile<T, Shape, Stages, LoaderA, LoaderB>(p.product, p.weight);
}

template <class Shape, class Form, class Params>
__device__ void gemm_tf32_decoded(const Params& p) {
  using Stages = GemmTf32Stages<Shape, false>;
  using LoaderA = GemmLoader<float, Stages, Shape::kM, true>;
  using LoaderB = typename Form::template Loader<SwizzledTile<float, Shape::kN>, Shape::kK, Shape::kN, Shape::kThreads>;
  gemm_turns<Shape>(
      p.product, [&](const GemmTile& t) { gemm_tf32_part<Shape, Stages, LoaderA, LoaderB>(p.product, p.weight, t); });
}

template <class Shape, class Form, class Params>
__device__ void gemm_f32_decoded(const Params& p) {
  using LoaderB = typename Form::template Loader<PaddedTile<Shape::kN>, Shape::kK, Shape::kN, Shape::kThreads>;
  gemm_turns<Shape>(p.product, [&](const GemmTile& t) { gemm_f32_part<Shape, LoaderB>(p.product, p.weight, t); });
}

}  // namespace heed::cuda

#endif

// Declares a kernel for every form of a weight, with `body`<…, form>. Names end in the number of bits, or in "blocks",
// whose decoders need more registers.
#define HEED_DECODED(name, threads, least, least_blocks, body, ...)                      \
  HEED_KERNEL(name##_8, DecodedCodesParams, threads, least, body<__VA_ARGS__, Codes<8>>) \
  HEED_KERNEL(name##_4, DecodedCodesParams, threads, least, body<__VA_ARGS__, Codes<4>>) \
  HEED_KERNEL(name##_blocks, DecodedBlocksParams, threads, least_blocks, body<__VA_ARGS__, Blocks>)
#define HEED_DECODED_MMA(T)                                                                                  \
  HEED_DECODED(gemm_decoded_##T##_few, MmaFew::kThreads, 4, 4, gemm_mma_decoded, T, MmaFew, true)            \
  HEED_DECODED(gemm_decoded_##T##_small, MmaSmall::kThreads, 4, 4, gemm_mma_decoded, T, MmaSmall, true)      \
  HEED_DECODED(gemm_decoded_##T##_unaligned, MmaSmall::kThreads, 2, 2, gemm_mma_decoded, T, MmaSmall, false) \
  HEED_DECODED(gemm_decoded_##T##_large, MmaLarge::kThreads, 2, 2, gemm_mma_decoded, T, MmaLarge, true)

// The host's choice among them for one form.
#define HEED_DECODED_CHOOSE_MMA(T, form)          \
  switch (size) {                                 \
    case GemmSize::few:                           \
      return gemm_decoded_##T##_few_##form;       \
    case GemmSize::small:                         \
      return gemm_decoded_##T##_small_##form;     \
    case GemmSize::unaligned:                     \
      return gemm_decoded_##T##_unaligned_##form; \
    default:                                      \
      return gemm_decoded_##T##_large_##form;     \
  }
