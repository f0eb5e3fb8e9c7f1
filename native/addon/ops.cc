// The N-API export of every operation, generated from ops.def: arguments are read by the type of each parameter, so
// an export cannot disagree with the kernel it calls.
#include <tuple>
#include <utility>

#include "addon/call.h"
#include "cpu/isa.h"
#include "cpu/stream.h"
#include "cuda/ops.h"
#include "cuda/stream.h"

namespace heed::addon {
namespace {

// Reads arguments and finds the one device they all live on.
class Reader {
 public:
  explicit Reader(Call& call) : call_(call) {}

  const TensorView& view(size_t i) { return view_of(call_.handle(i)); }
  const TensorView* optional_view(size_t i) { return call_.is_null(i) ? nullptr : &view(i); }
  ViewList views(size_t i) {
    const uint32_t length = call_.length(i);
    ViewList list(length);
    for (uint32_t j = 0; j < length; j++) {
      napi_handle_scope scope;
      napi_open_handle_scope(call_.env, &scope);
      const TensorView& view = view_of(call_.handle_of(call_.element(i, j), i));
      napi_close_handle_scope(call_.env, scope);
      list[j] = view;
    }
    return list;
  }

  Device& device() const {
    if (!device_) fail(Code::argument, "%s: expected at least one tensor", call_.name);
    return *device_;
  }

 private:
  const TensorView& view_of(Handle& handle) {
    Device* device = handle.storage->device;
    if (device_ && device_ != device) fail(Code::device, "%s: expected all tensors on one device", call_.name);
    device_ = device;
    device->use(handle.storage);
    return handle.view;
  }

  Call& call_;
  Device* device_ = nullptr;
};

template <class Parameter>
struct Argument;
template <>
struct Argument<const TensorView&> {
  static const TensorView& read(Call&, Reader& reader, size_t i) { return reader.view(i); }
};
template <>
struct Argument<const TensorView*> {
  static const TensorView* read(Call&, Reader& reader, size_t i) { return reader.optional_view(i); }
};
template <>
struct Argument<const ViewList&> {
  static ViewList read(Call&, Reader& reader, size_t i) { return reader.views(i); }
};
template <>
struct Argument<float> {
  static float read(Call& call, Reader&, size_t i) { return static_cast<float>(call.number(i)); }
};
template <>
struct Argument<int64_t> {
  static int64_t read(Call& call, Reader&, size_t i) { return call.integer(i); }
};
template <>
struct Argument<bool> {
  static bool read(Call& call, Reader&, size_t i) { return call.boolean(i); }
};

template <class Parameter>
using Stored = decltype(Argument<Parameter>::read(std::declval<Call&>(), std::declval<Reader&>(), 0));

template <class... Parameters, size_t... I>
void invoke(Call& call, void (*on_cpu)(cpu::Stream&, Parameters...), void (*on_cuda)(cuda::Stream&, Parameters...),
            std::index_sequence<I...>) {
  static_assert(sizeof...(Parameters) <= Call::kMaxArguments);
  Reader reader(call);
  // Braces evaluate in order: the first wrong argument is the one reported.
  std::tuple<Stored<Parameters>...> arguments{Argument<Parameters>::read(call, reader, I)...};
  Device& device = reader.device();
  if (device.backend == Backend::cpu) return on_cpu(static_cast<cpu::Stream&>(device), std::get<I>(arguments)...);
  on_cuda(static_cast<cuda::Stream&>(device), std::get<I>(arguments)...);
}

template <class... Parameters>
void invoke(Call& call, void (*on_cpu)(cpu::Stream&, Parameters...), void (*on_cuda)(cuda::Stream&, Parameters...)) {
  invoke(call, on_cpu, on_cuda, std::index_sequence_for<Parameters...>{});
}

template <auto on_cpu, auto on_cuda>
napi_value run(Call& call) {
  invoke(call, cpu::ops().*on_cpu, cuda::ops().*on_cuda);
  return nullptr;
}

}  // namespace

napi_value create_ops(napi_env env) {
  napi_value ops = nullptr;
  napi_create_object(env, &ops);
#define OP(name, params) \
  define(env, ops, #name, &guarded<&run<&OpTable<cpu::Stream>::name, &OpTable<cuda::Stream>::name>>);
#include "core/ops.def"
#undef OP
  return ops;
}

}  // namespace heed::addon
