#include "cpu/dtype_rules.h"

#include <cstring>
#include <type_traits>

#include "core/checks/checks.h"
#include "core/error.h"
#include "cpu/isa.h"

namespace heed::cpu {
namespace {

enum class Rule : uint8_t { scalar, list, any, activation, mixed, f32, bf16, i32, u8 };

// What the words of ops.def say, as types: there, many of them are the same one.
template <Rule value>
struct Word {
  static constexpr Rule rule = value;
};

bool is_short(const TensorView& view) { return view.dtype == DType::bf16 || view.dtype == DType::f16; }

// The last word of the i-th parameter in "(Out out, In inp)", for messages.
void parameter_name(const char* parameters, int i, char* name, size_t size) {
  const char* begin = parameters + 1;
  for (; i > 0; i--) begin = std::strchr(begin, ',') + 1;
  size_t length = std::strcspn(begin, ",)"), last = length;
  while (begin[last - 1] != ' ') last--;
  length = length - last < size ? length - last : size - 1;
  std::memcpy(name, begin + last, length);
  name[length] = 0;
}

// Throws ERR_DTYPE unless every tensor is what its word says; `views` are null where a parameter is no tensor or
// absent. `parameters` is their text in ops.def.
void check(const char* op, const char* parameters, const Rule* rules, const TensorView* const* views, int count) {
  char name[32], first_name[32];
  const TensorView* first = nullptr;
  for (int i = 0; i < count; i++) {
    if (!views[i] || rules[i] != Rule::activation) continue;
    parameter_name(parameters, i, name, sizeof name);
    expect_float(op, name, *views[i]);
    if (first) {
      expect_same_dtype(op, name, *views[i], first_name, *first);
    } else {
      first = views[i];
      std::memcpy(first_name, name, sizeof name);
    }
  }
  for (int i = 0; i < count; i++) {
    if (!views[i]) continue;
    parameter_name(parameters, i, name, sizeof name);
    if (rules[i] == Rule::mixed) expect_parameter_dtype(op, name, *views[i], first->dtype);
    if (rules[i] == Rule::f32) expect_dtype(op, name, *views[i], DType::f32);
    if (rules[i] == Rule::bf16) expect_dtype(op, name, *views[i], DType::bf16);
    if (rules[i] == Rule::i32) expect_dtype(op, name, *views[i], DType::i32);
    if (rules[i] == Rule::u8) expect_dtype(op, name, *views[i], DType::u8);
  }
}

const TensorView* view_of(const TensorView& view) { return &view; }
const TensorView* view_of(const TensorView* view) { return view; }
template <class T>
const TensorView* view_of(const T&) {
  return nullptr;
}

template <class Op, class Words = typename Op::Words, class Entry = typename Op::Entry>
struct Checked;

template <class Op, class... Words, class... Arguments>
struct Checked<Op, void(Words...), void (*)(Stream&, Arguments...)> {
  static constexpr Rule kRules[] = {Words::rule...};

  static void run(Stream& stream, Arguments... arguments) {
    const TensorView* const views[] = {view_of(arguments)...};
    bool any_short = false;
    for (const TensorView* view : views) any_short = any_short || (view && is_short(*view));
    if (any_short) check(Op::kName, Op::kParameters, kRules, views, sizeof...(Words));
    (kernels().*Op::kEntry)(stream, arguments...);
  }
};

// What each word of ops.def means here, and the operations with these words.
namespace words {
using In = Word<Rule::activation>;
using Out = Word<Rule::activation>;
using OptIn = In;
using OptOut = Out;
using MixedIn = Word<Rule::mixed>;
using MixedOut = Word<Rule::mixed>;
using OptMixedIn = MixedIn;
using OptMixedOut = MixedOut;
using F32In = Word<Rule::f32>;
using F32Out = Word<Rule::f32>;
using OptF32In = F32In;
using OptF32Out = F32Out;
using Bf16In = Word<Rule::bf16>;
using Bf16Out = Word<Rule::bf16>;
using I32In = Word<Rule::i32>;
using I32Out = Word<Rule::i32>;
using OptI32In = I32In;
using OptI32Out = I32Out;
using U8In = Word<Rule::u8>;
using U8Out = Word<Rule::u8>;
using OptU8In = U8In;
using AnyIn = Word<Rule::any>;
using AnyOut = Word<Rule::any>;
using AnyInOut = Word<Rule::any>;
using InList = Word<Rule::list>;
using OutList = Word<Rule::list>;
using InOutList = Word<Rule::list>;
using Float = Word<Rule::scalar>;
using Int = Word<Rule::scalar>;
using Bool = Word<Rule::scalar>;
using Accumulate = Word<Rule::scalar>;

#define OP(name, params)                                                       \
  struct name {                                                                \
    using Words = void params;                                                 \
    using Entry = decltype(OpTable<Stream>::name);                             \
    static constexpr Entry OpTable<Stream>::* kEntry = &OpTable<Stream>::name; \
    static constexpr const char* kName = #name;                                \
    static constexpr const char* kParameters = #params;                        \
  };
#include "core/ops.def"
#undef OP
}  // namespace words

}  // namespace

const OpTable<Stream> checked_table = {
#define OP(name, params) &Checked<words::name>::run,
#include "core/ops.def"
#undef OP
};

}  // namespace heed::cpu
