// Memory that JavaScript and other libraries share: the interface for addons, tensors over arrays, and the externals in
// which tensors and DLPack tensors travel through JavaScript.
#include <memory>
#include <utility>

#include "addon/call.h"
#include "addon/dlpack.h"
#include "addon/interface.h"
#include "addon/tensors.h"

namespace heed::addon {
namespace {

// A DLPack tensor on its way through JavaScript.
struct Capsule {
  int32_t kind;
  void* managed;  // null once it has been taken
};

// interface() -> External for heed_open()
napi_value interface_external(Call& call) {
  auto& environment = Environment::of(call.env);
  struct Kept {
    heed_handover handover;
    Environment& environment;
  };
  auto* context = reinterpret_cast<heed_context*>(&environment);
  auto* kept = new Kept{{HEED_MAGIC, &interface_functions(), context}, environment};
  environment.reference();
  napi_value external = nullptr;
  const auto finalize = [](napi_env, void* data, void*) {
    auto* kept = static_cast<Kept*>(data);
    kept->environment.unreference();
    delete kept;
  };
  if (napi_create_external(call.env, kept, finalize, nullptr, &external) != napi_ok) {
    finalize(call.env, kept, nullptr);
    fail(Code::internal, "%s: expected to create an external", call.name);
  }
  return external;
}

// share(dtype, shape, Uint8Array) -> handle: a tensor on the CPU over the array's memory, which stays alive with it
napi_value share(Call& call) {
  auto& environment = Environment::of(call.env);
  TensorView view;
  view.dtype = dtype_of(call.integer(0), call.name);
  const uint32_t rank = call.length(1);
  if (rank > kMaxRank) fail(Code::shape, "%s: expected at most %d dimensions, got %u", call.name, kMaxRank, rank);
  view.rank = static_cast<int32_t>(rank);
  for (uint32_t d = 0; d < rank; d++) view.shape[d] = call.integer_of(call.element(1, d), 1);
  napi_typedarray_type type;
  size_t length = 0;
  bool typed = false;
  napi_is_typedarray(call.env, call[2], &typed);
  if (!typed || napi_get_typedarray_info(call.env, call[2], &type, &length, &view.data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array)
    fail(Code::argument, "%s: expected argument 2 to be a Uint8Array", call.name);
  const size_t bytes = make_contiguous(view, call.name);
  if (bytes != length) fail(Code::shape, "%s: expected %zu bytes, got %zu", call.name, bytes, length);
  Handle content =
      adopt_tensor(environment.device(0), view, true, std::make_unique<ArrayOwner>(environment, call[2]), call.name);
  return environment.wrap(call.env, new Handle(content));
}

void set(Call& call, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(call.env, object, name, value);
}

napi_value integer(Call& call, int64_t value) {
  napi_value number = nullptr;
  napi_create_int64(call.env, value, &number);
  return number;
}

// Returns {handle, device, dtype, shape, strides}: what lib/ makes a Tensor of. Takes over the handle's share.
napi_value described(Call& call, Environment& environment, const Handle& handle) {
  const TensorView& view = handle.view;
  napi_value object = nullptr, shape = nullptr, strides = nullptr;
  const int64_t device = environment.index_of(*handle.storage->device);
  const napi_value external = environment.wrap(call.env, new Handle(handle));
  napi_create_object(call.env, &object);
  napi_create_array(call.env, &shape);
  napi_create_array(call.env, &strides);
  for (int d = 0; d < view.rank; d++) {
    napi_set_element(call.env, shape, static_cast<uint32_t>(d), integer(call, view.shape[d]));
    napi_set_element(call.env, strides, static_cast<uint32_t>(d), integer(call, view.strides[d]));
  }
  set(call, object, "handle", external);
  set(call, object, "device", integer(call, device));
  set(call, object, "dtype", integer(call, static_cast<int64_t>(view.dtype)));
  set(call, object, "shape", shape);
  set(call, object, "strides", strides);
  return object;
}

// toNative(handle) -> External for tensor_from_value
napi_value to_native(Call& call) { return tensor_external(Environment::of(call.env), call.handle(0)); }

// fromNative(External of tensor_to_value) -> description
napi_value from_native(Call& call) {
  auto& environment = Environment::of(call.env);
  const Handle& handle = tensor_of(environment, call[0], call.name);
  handle.storage->device->retain(handle.storage);
  return described(call, environment, handle);
}

// toDLPack(handle, versioned) -> External; the elements may not have been computed yet
napi_value export_dlpack(Call& call) {
  auto& environment = Environment::of(call.env);
  const int32_t kind = call.boolean(1) ? HEED_DL_MANAGED_VERSIONED : HEED_DL_MANAGED;
  void* const managed = to_dlpack(environment, call.handle(0), kind, call.name);
  try {
    return dlpack_external(environment, kind, managed);
  } catch (...) {
    delete_dlpack(kind, managed);
    throw;
  }
}

// fromDLPack(External) -> description
napi_value import_dlpack(Call& call) {
  auto& environment = Environment::of(call.env);
  int32_t kind = 0;
  void* const managed = take_dlpack(environment, call[0], &kind, call.name);
  try {
    const FromDlpack made = from_dlpack(environment, kind, managed, call.name);
    const napi_value description = described(call, environment, made.handle);
    made.owned = managed;
    return description;
  } catch (...) {
    delete_dlpack(kind, managed);
    throw;
  }
}

// computed(handle) -> Promise: resolves when everything enqueued so far has run, and rejects if the elements are
// damaged
napi_value computed(Call& call) {
  napi_value object = nullptr;  // a reference needs an object
  napi_create_object(call.env, &object);
  return Environment::of(call.env).promise_of(call.env, *call.handle(0).storage, object, nullptr);
}

}  // namespace

napi_value tagged_external(Environment& environment, void* data, napi_finalize finalize, const napi_type_tag& tag) {
  napi_value external = nullptr;
  if (napi_create_external(environment.env(), data, finalize, &environment, &external) != napi_ok) {
    finalize(environment.env(), data, &environment);
    fail(Code::internal, "expected to create an external");
  }
  if (napi_type_tag_object(environment.env(), external, &tag) != napi_ok)
    fail(Code::internal, "expected to tag an external");
  return external;
}

void* tagged_data(Environment& environment, napi_value value, const napi_type_tag& tag) {
  napi_valuetype type = napi_undefined;
  bool tagged = false;
  void* data = nullptr;
  if (!value || napi_typeof(environment.env(), value, &type) != napi_ok || type != napi_external ||
      napi_check_object_type_tag(environment.env(), value, &tag, &tagged) != napi_ok || !tagged ||
      napi_get_value_external(environment.env(), value, &data) != napi_ok)
    return nullptr;
  return data;
}

napi_value dlpack_external(Environment& environment, int32_t kind, void* managed) {
  const auto finalize = [](napi_env, void* data, void*) {
    const std::unique_ptr<Capsule> capsule(static_cast<Capsule*>(data));
    if (capsule->managed) delete_dlpack(capsule->kind, capsule->managed);
  };
  // Only an external that could be made owns it.
  auto* const capsule = new Capsule{kind, nullptr};
  const napi_value external = tagged_external(environment, capsule, finalize, kDlpackTag);
  capsule->managed = managed;
  return external;
}

void* take_dlpack(Environment& environment, napi_value value, int32_t* kind, const char* op) {
  auto* capsule = static_cast<Capsule*>(tagged_data(environment, value, kDlpackTag));
  if (!capsule) fail(Code::argument, "%s: expected an External that holds a DLPack tensor, got another value", op);
  if (!capsule->managed)
    fail(Code::disposed, "%s: expected an External that holds a DLPack tensor, got one whose tensor has been taken",
         op);
  *kind = capsule->kind;
  return std::exchange(capsule->managed, nullptr);
}

napi_value tensor_external(Environment& environment, const Handle& handle) {
  auto copy = std::make_unique<Handle>(handle);
  handle.storage->device->retain(handle.storage);
  environment.reference();
  const auto finalize = [](napi_env, void* data, void* hint) {
    static_cast<Environment*>(hint)->release(static_cast<Handle*>(data));
  };
  return tagged_external(environment, copy.release(), finalize, kTensorTag);
}

Handle& tensor_of(Environment& environment, napi_value value, const char* op) {
  auto* handle = static_cast<Handle*>(tagged_data(environment, value, kTensorTag));
  if (!handle) fail(Code::argument, "%s: expected an External that holds a tensor of heed, got another value", op);
  return *handle;
}

void define_interface(napi_env env, napi_value exports) {
  define(env, exports, "interface", &guarded<&interface_external>);
  define(env, exports, "share", &guarded<&share>);
  define(env, exports, "toNative", &guarded<&to_native>);
  define(env, exports, "fromNative", &guarded<&from_native>);
  define(env, exports, "toDLPack", &guarded<&export_dlpack>);
  define(env, exports, "fromDLPack", &guarded<&import_dlpack>);
  define(env, exports, "computed", &guarded<&computed>);
}

}  // namespace heed::addon
