// Runs the operations of ops.def with arguments from a caller: JavaScript (ops.cc) or another library
// (interface_ops.cc). Arguments are read according to the type of each parameter, so that a call cannot disagree with
// its kernel.
//
// A Source of arguments has `name`, the operation's, and `environment()`, and reads the argument i as what is asked
// for: handle(i), is_null(i), length(i) and list_handle(i, j), number(i), integer(i), boolean(i). It throws if that is
// not what was given.
#pragma once
#include <algorithm>
#include <array>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "addon/call.h"
#include "addon/tensors.h"
#include "cpu/isa.h"
#include "cpu/stream.h"
#include "cuda/ops.h"
#include "cuda/stream.h"

namespace heed::addon {

// The use of a parameter according to its word in ops.def.
enum class Role : uint8_t { other, in, out, in_out, accumulate };

namespace words {
template <Role value>
struct Word {
  static constexpr Role role = value;
};
using In = Word<Role::in>;
using Out = Word<Role::out>;
using OptIn = In;
using OptOut = Out;
using MixedIn = In;
using MixedOut = Out;
using OptMixedIn = In;
using OptMixedOut = Out;
using F32In = In;
using F32Out = Out;
using OptF32In = In;
using OptF32Out = Out;
using Bf16In = In;
using Bf16Out = Out;
using I32In = In;
using I32Out = Out;
using OptI32In = In;
using OptI32Out = Out;
using U8In = In;
using U8Out = Out;
using OptU8In = In;
using AnyIn = In;
using AnyOut = Out;
using AnyInOut = Word<Role::in_out>;
using OptF32InOut = Word<Role::in_out>;
using InList = In;
using OutList = Out;
using InOutList = Word<Role::in_out>;
using Float = Word<Role::other>;
using Int = Float;
using Bool = Float;
using Accumulate = Word<Role::accumulate>;

#define OP(name, params) using name = void params;
#include "core/ops.def"
#undef OP
}  // namespace words

// The use of each parameter. For an Accumulate, `output` is the index of the parameter that it belongs to; otherwise it
// is -1.
struct ParameterUse {
  Role role;
  int output;
};
template <class Words>
struct Roles;
template <class... Words>
struct Roles<void(Words...)> {
  static constexpr auto list = [] {
    constexpr Role roles[] = {Words::role...};
    constexpr size_t count = sizeof...(Words);
    std::array<ParameterUse, count> list{};
    // The k-th Accumulate of ops.def belongs to the k-th output.
    size_t output = 0;
    for (size_t i = 0; i < count; i++) {
      list[i] = {roles[i], -1};
      if (roles[i] != Role::accumulate) continue;
      while (roles[output] != Role::out) output++;
      list[i].output = static_cast<int>(output++);
    }
    return list;
  }();
};

// Reads arguments, finds the one device on which all tensors live, and notes in its log how they are used.
template <class Source>
class Reader {
 public:
  Reader(Source& call, const ParameterUse* parameters) : call_(call), parameters_(parameters) {
    std::fill_n(outputs_, Call::kMaxArguments, -1);
  }
  // An argument was wrong, so there is no operation.
  ~Reader() {
    if (device_ && !ended_) device_->log().cancel();
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Called when all arguments are read and the operation has enqueued its work. If `whole` is false, some of the work
  // may be missing.
  void end(bool whole) {
    ended_ = true;
    device_->log().end(whole);
  }

  const TensorView& view(size_t i) { return view_of(call_.handle(i), i); }
  const TensorView* optional_view(size_t i) { return call_.is_null(i) ? nullptr : &view(i); }
  ViewList views(size_t i) {
    const uint32_t length = call_.length(i);
    ViewList list(length);
    for (uint32_t j = 0; j < length; j++) list[j] = view_of(call_.list_handle(i, j), i);
    return list;
  }

  bool boolean(size_t i) {
    const bool value = call_.boolean(i);
    const int output = parameters_[i].output;
    // An output that is null was not noted.
    if (value && output >= 0 && outputs_[output] >= 0) device_->log().keeps(static_cast<size_t>(outputs_[output]));
    return value;
  }

  Device& device() const {
    if (!device_) fail(Code::argument, "%s: expected at least one tensor", call_.name);
    return *device_;
  }

 private:
  const TensorView& view_of(Handle& handle, size_t i) {
    Device* device = handle.storage->device;
    if (device_ && device_ != device) fail(Code::device, "%s: expected all tensors on one device", call_.name);
    if (!device_) device->begin_operation();
    device_ = device;
    device->use(handle.storage);
    note(handle, i);
    return handle.view;
  }

  void note(const Handle& handle, size_t i) {
    const Role role = parameters_[i].role;
    Storage& storage = *handle.storage;
    if (role != Role::in) expect_writable(call_.name, storage);
    OperationLog& log = device_->log();
    if (role != Role::out) log.note(storage, OperationLog::Use::reads);
    if (role == Role::in) return;
    if (role == Role::out) outputs_[i] = static_cast<int>(log.noted());
    log.note(storage, role == Role::out && fills(handle) ? OperationLog::Use::renews : OperationLog::Use::writes);
  }

  static bool fills(const Handle& handle) {
    const TensorView& view = handle.view;
    return view.numel() * static_cast<int64_t>(size_of(view.dtype)) == handle.storage->bytes() && view.contiguous();
  }

  Source& call_;
  const ParameterUse* const parameters_;
  Device* device_ = nullptr;
  bool ended_ = false;
  int outputs_[Call::kMaxArguments];  // index of the use of each output
};

template <class Source, class Parameter>
auto read_argument(Source& call, Reader<Source>& reader, size_t i) {
  if constexpr (std::is_same_v<Parameter, const TensorView&>)
    return std::cref(reader.view(i));
  else if constexpr (std::is_same_v<Parameter, const TensorView*>)
    return reader.optional_view(i);
  else if constexpr (std::is_same_v<Parameter, const ViewList&>)
    return reader.views(i);
  else if constexpr (std::is_same_v<Parameter, float>)
    return static_cast<float>(call.number(i));
  else if constexpr (std::is_same_v<Parameter, int64_t>)
    return call.integer(i);
  else
    return reader.boolean(i);
}

template <class Source, class... Parameters, size_t... I>
void invoke(Source& call, const ParameterUse* parameters, void (*on_cpu)(cpu::Stream&, Parameters...),
            void (*on_cuda)(cuda::Stream&, Parameters...), std::index_sequence<I...>) {
  Reader<Source> reader(call, parameters);
  // Braces evaluate in order, so the first wrong argument is reported.
  std::tuple arguments{read_argument<Source, Parameters>(call, reader, I)...};
  Device& device = reader.device();
  try {
    if (device.backend == Backend::cpu)
      on_cpu(static_cast<cpu::Stream&>(device), std::get<I>(arguments)...);
    else
      on_cuda(static_cast<cuda::Stream&>(device), std::get<I>(arguments)...);
  } catch (...) {
    reader.end(false);
    throw;
  }
  reader.end(true);
  Environment& environment = call.environment();
  if (device.log().wants_fence()) environment.follow(environment.env(), device);
}

// Runs an operation with the arguments of `call`; Words are those of its parameters in ops.def.
template <class Words, class Source, class... Parameters>
void invoke(Source& call, void (*on_cpu)(cpu::Stream&, Parameters...), void (*on_cuda)(cuda::Stream&, Parameters...)) {
  invoke(call, Roles<Words>::list.data(), on_cpu, on_cuda, std::index_sequence_for<Parameters...>{});
}

}  // namespace heed::addon
