#include "cpu/widen.h"

#include <cstring>
#include <type_traits>
#include <utility>

#include "core/checks/checks.h"
#include "core/error.h"
#include "cpu/isa.h"
#include "cpu/stream.h"

namespace heed::cpu {
namespace {

enum class Rule : uint8_t { scalar, list, any, activation, mixed, f32, bf16, i32, u8 };

struct Parameter {
  Rule rule;
  bool output, accumulate;
};

// What the words of ops.def say, as types: there, many of them are the same one.
template <Rule rule, bool output = false, bool accumulate = false>
struct Word {
  static constexpr Parameter parameter{rule, output, accumulate};
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

// One call with its tensors in f32: what is 16 bits wide stands in workspaces until the end of the call.
class Widened {
 public:
  static constexpr int kMaxParameters = 24;

  // `views` are null where a parameter is no tensor or absent.
  Widened(Stream& stream, const char* op, const Parameter* roles, const TensorView* const* views, int count)
      : stream_(stream), op_(op), roles_(roles), views_(views), count_(count) {}
  ~Widened() {
    for (int i = 0; i < count_; i++)
      if (memory_[i]) stream_.allocator().free(memory_[i]);
  }
  Widened(const Widened&) = delete;
  Widened& operator=(const Widened&) = delete;

  // Throws ERR_DTYPE unless every tensor is what its word says. `parameters` is their text in ops.def.
  void check(const char* parameters) const {
    char name[32], first_name[32];
    const TensorView* first = nullptr;
    for (int i = 0; i < count_; i++) {
      if (!views_[i] || roles_[i].rule != Rule::activation) continue;
      parameter_name(parameters, i, name, sizeof name);
      expect_float(op_, name, *views_[i]);
      if (first) {
        expect_same_dtype(op_, name, *views_[i], first_name, *first);
      } else {
        first = views_[i];
        std::memcpy(first_name, name, sizeof name);
      }
    }
    for (int i = 0; i < count_; i++) {
      if (!views_[i]) continue;
      parameter_name(parameters, i, name, sizeof name);
      if (roles_[i].rule == Rule::mixed) expect_parameter_dtype(op_, name, *views_[i], first->dtype);
      if (roles_[i].rule == Rule::f32) expect_dtype(op_, name, *views_[i], DType::f32);
      if (roles_[i].rule == Rule::bf16) expect_dtype(op_, name, *views_[i], DType::bf16);
      if (roles_[i].rule == Rule::i32) expect_dtype(op_, name, *views_[i], DType::i32);
      if (roles_[i].rule == Rule::u8) expect_dtype(op_, name, *views_[i], DType::u8);
    }
  }

  // `flags` count where a parameter is an accumulate flag.
  void widen(const bool* flags) {
    for (int i = 0, output = 0; i < count_; i++) {
      const bool added = roles_[i].output && accumulates(output++, flags);
      if (!views_[i]) continue;
      f32_[i] = *views_[i];
      if (!is_short(*views_[i]) || (roles_[i].rule == Rule::any && !added)) continue;
      make_room(i);
      if (!roles_[i].output || added) copy(f32_[i], *views_[i]);
    }
  }

  const TensorView& view(size_t i) const { return f32_[i]; }

  // Rounds what the kernel wrote.
  void narrow() {
    for (int i = 0; i < count_; i++)
      if (roles_[i].output && memory_[i]) copy(*views_[i], f32_[i]);
  }

 private:
  bool accumulates(int output, const bool* flags) const {
    for (int i = 0; i < count_; i++)
      if (roles_[i].accumulate && output-- == 0) return flags[i];
    return false;
  }

  // A workspace without gaps whose dimensions lie in the order of the view's, repeated where they are.
  void make_room(int i) {
    TensorView& view = f32_[i];
    int order[kMaxRank];
    for (int d = 0; d < view.rank; d++) {
      int at = d;
      for (; at > 0 && view.strides[order[at - 1]] < view.strides[d]; at--) order[at] = order[at - 1];
      order[at] = d;
    }
    int64_t stride = 1;
    for (int k = view.rank - 1; k >= 0; k--) {
      const int d = order[k];
      if (view.strides[d] == 0) continue;
      view.strides[d] = stride;
      stride *= view.shape[d];
    }
    view.dtype = DType::f32;
    view.data = memory_[i] = stream_.allocator().allocate(static_cast<size_t>(stride) * sizeof(float), op_);
  }

  // Each element once, also where a view repeats it.
  void copy(TensorView out, TensorView inp) {
    for (int d = 0; d < out.rank; d++)
      if (out.strides[d] == 0 && out.shape[d] > 1) out.shape[d] = inp.shape[d] = 1;
    kernels().copy(stream_, out, inp, false);
  }

  Stream& stream_;
  const char* op_;
  const Parameter* roles_;
  const TensorView* const* views_;
  int count_;
  TensorView f32_[kMaxParameters];
  void* memory_[kMaxParameters] = {};
};

const TensorView* view_of(const TensorView& view) { return &view; }
const TensorView* view_of(const TensorView* view) { return view; }
template <class T>
const TensorView* view_of(const T&) {
  return nullptr;
}
bool flag_of(bool value) { return value; }
template <class T>
bool flag_of(const T&) {
  return false;
}

// The argument in place of `original`: of a tensor, its view in f32.
template <class T>
T replaced(const Widened& call, size_t i, T original) {
  if constexpr (std::is_same_v<T, const TensorView&>)
    return call.view(i);
  else if constexpr (std::is_same_v<T, const TensorView*>)
    return original ? &call.view(i) : nullptr;
  else
    return original;
}

template <class Op>
constexpr bool kTyped = false;

template <class Op, class Words = typename Op::Words, class Entry = typename Op::Entry>
struct Widening;

template <class Op, class... Words, class... Arguments>
struct Widening<Op, void(Words...), void (*)(Stream&, Arguments...)> {
  static constexpr int kCount = sizeof...(Words);
  static_assert(kCount <= Widened::kMaxParameters);
  static constexpr Parameter kRoles[] = {Words::parameter...};

  static void run(Stream& stream, Arguments... arguments) {
    const TensorView* const views[] = {view_of(arguments)...};
    bool widens = false;
    for (const TensorView* view : views) widens = widens || (view && is_short(*view));
    if (!widens) return (kernels().*Op::kEntry)(stream, arguments...);

    Widened call(stream, Op::kName, kRoles, views, kCount);
    call.check(Op::kParameters);
    if (kTyped<Op>) return (kernels().*Op::kEntry)(stream, arguments...);

    const bool flags[] = {flag_of(arguments)...};
    call.widen(flags);
    enter(call, stream, std::index_sequence_for<Arguments...>{}, arguments...);
    call.narrow();
  }

 private:
  template <size_t... I>
  static void enter(const Widened& call, Stream& stream, std::index_sequence<I...>, Arguments... arguments) {
    (kernels().*Op::kEntry)(stream, replaced<Arguments>(call, I, arguments)...);
  }
};

// What each word of ops.def means here, and the operations with these words.
namespace words {
using In = Word<Rule::activation>;
using Out = Word<Rule::activation, true>;
using OptIn = In;
using OptOut = Out;
using MixedIn = Word<Rule::mixed>;
using MixedOut = Word<Rule::mixed, true>;
using OptMixedIn = MixedIn;
using OptMixedOut = MixedOut;
using F32In = Word<Rule::f32>;
using F32Out = Word<Rule::f32, true>;
using OptF32In = F32In;
using OptF32Out = F32Out;
using Bf16In = Word<Rule::bf16>;
using Bf16Out = Word<Rule::bf16, true>;
using I32In = Word<Rule::i32>;
using I32Out = Word<Rule::i32, true>;
using OptI32In = I32In;
using U8In = Word<Rule::u8>;
using U8Out = Word<Rule::u8, true>;
using OptU8In = U8In;
using AnyIn = Word<Rule::any>;
using AnyOut = Word<Rule::any, true>;
using InList = Word<Rule::list>;
using OutList = Word<Rule::list, true>;
using Float = Word<Rule::scalar>;
using Int = Word<Rule::scalar>;
using Bool = Word<Rule::scalar>;
using Accumulate = Word<Rule::scalar, false, true>;

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

#define TYPED(name) \
  template <>       \
  constexpr bool kTyped<words::name> = true;
#include "cpu/typed_ops.def"
#undef TYPED

}  // namespace

const OpTable<Stream> widening_table = {
#define OP(name, params) &Widening<words::name>::run,
#include "core/ops.def"
#undef OP
};

}  // namespace heed::cpu
