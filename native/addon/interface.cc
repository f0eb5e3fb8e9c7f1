// The functions of include/heed.h. No exception leaves them.
#include "addon/interface.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "addon/dlpack.h"
#include "addon/tensors.h"
#include "cuda/card.h"

namespace heed::addon {
namespace {

constexpr heed_status status_of(Code code) { return static_cast<heed_status>(code) + 1; }
static_assert(status_of(Code::shape) == HEED_ERROR_SHAPE && status_of(Code::dtype) == HEED_ERROR_DTYPE &&
              status_of(Code::device) == HEED_ERROR_DEVICE && status_of(Code::disposed) == HEED_ERROR_DISPOSED &&
              status_of(Code::range) == HEED_ERROR_RANGE && status_of(Code::oom) == HEED_ERROR_OOM &&
              status_of(Code::argument) == HEED_ERROR_ARGUMENT && status_of(Code::cuda) == HEED_ERROR_CUDA &&
              status_of(Code::internal) == HEED_ERROR_INTERNAL);
static_assert(HEED_MAX_RANK == kMaxRank);

thread_local char last_message[512] = "";

heed_status failed(Code code, const char* message) {
  std::snprintf(last_message, sizeof last_message, "%s", message);
  return status_of(code);
}

// Calls body(environment) if that is possible now, and turns what it throws into a status.
template <class Body>
heed_status attempt(const char* op, Environment* environment, const Body& body) noexcept {
  try {
    if (!environment) fail(Code::argument, "%s: expected a context and a tensor, got a null pointer", op);
    if (environment->ended()) fail(Code::disposed, "%s: expected a live environment, got one that has ended", op);
    if (!environment->on_its_thread())
      fail(Code::argument, "%s: expected to be called on the thread of the environment, got another thread", op);
    body(*environment);
    return HEED_OK;
  } catch (const Error& error) {
    return failed(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return failed(Code::oom, "out of memory");
  } catch (const std::exception& error) {
    return failed(Code::internal, error.what());
  }
}

template <class Body>
heed_status with(const char* op, heed_context* context, const Body& body) noexcept {
  return attempt(op, reinterpret_cast<Environment*>(context), body);
}
template <class Body>
heed_status with(const char* op, heed_tensor* tensor, const Body& body) noexcept {
  return attempt(op, tensor ? tensor->environment : nullptr,
                 [&](Environment& environment) { body(environment, *tensor->handle); });
}

template <class T>
T* expect_pointer(T* pointer, const char* op, const char* what) {
  if (!pointer) fail(Code::argument, "%s: expected %s, got a null pointer", op, what);
  return pointer;
}

// Gives a tensor to the caller.
void give(Environment& environment, const Handle& content, heed_tensor** to) {
  std::unique_ptr<heed_tensor> tensor;
  try {
    auto handle = std::make_unique<Handle>(content);
    tensor = std::make_unique<heed_tensor>(heed_tensor{handle.get(), &environment});
    static_cast<void>(handle.release());
  } catch (...) {
    content.storage->device->release(content.storage);
    throw;
  }
  environment.reference();
  *to = tensor.release();
}

void raise(const std::unique_ptr<Error>& error) {
  if (error) throw *error;
}

Environment::Told teller(heed_callback callback, void* data) {
  return [callback, data](const Error* failure) {
    callback(data, failure ? status_of(failure->code()) : HEED_OK, failure ? failure->what() : "");
  };
}

TensorView shape_of(const char* op, int32_t dtype, int32_t rank, const int64_t* shape, const int64_t* strides) {
  TensorView view;
  view.dtype = dtype_of(dtype, op);
  if (rank < 0 || rank > kMaxRank) fail(Code::shape, "%s: expected 0 to %d dimensions, got %d", op, kMaxRank, rank);
  view.rank = rank;
  if (rank > 0) expect_pointer(shape, op, "a shape");
  for (int d = 0; d < rank; d++) {
    view.shape[d] = shape[d];
    if (strides) view.strides[d] = strides[d];
  }
  return view;
}

// Copies a struct as far as the caller's version of it reaches.
template <class Struct>
void write_struct(const char* op, const Struct& from, Struct* to) {
  expect_pointer(to, op, "a struct");
  constexpr size_t kLeast = sizeof from.size + sizeof(int32_t);
  const size_t given = to->size;
  if (given < kLeast || given > (size_t{1} << 16))
    fail(Code::argument, "%s: expected the struct's size in its first member, got %zu", op, given);
  const size_t size = std::min(given, sizeof from);
  std::memcpy(reinterpret_cast<char*>(to) + sizeof to->size, reinterpret_cast<const char*>(&from) + sizeof from.size,
              size - sizeof from.size);
}

// Memory of another library.
class MemoryOwner final : public Owner {
 public:
  explicit MemoryOwner(bool read_only) : Owner(read_only) {}
  ~MemoryOwner() override {
    if (deleter) deleter(data);
  }
  void (*deleter)(void* data) = nullptr;
  void* data = nullptr;
};

// ---- contexts and errors ------------------------------------------------------------------------------------------

void context_retain(heed_context* context) { reinterpret_cast<Environment*>(context)->reference(); }
void context_release(heed_context* context) {
  if (context) reinterpret_cast<Environment*>(context)->unreference();
}

const char* last_error() { return last_message; }

const char* status_name(heed_status status) {
  if (status == HEED_OK) return "OK";
  if (status < HEED_ERROR_SHAPE || status > HEED_ERROR_INTERNAL) return "ERR_INTERNAL";
  return Error(static_cast<Code>(status - 1), "").name();
}

// ---- devices ------------------------------------------------------------------------------------------------------

heed_status device_count(heed_context* context, int32_t* count) {
  return with("device_count", context, [&](Environment&) {
    *expect_pointer(count, "device_count", "a place for the count") = static_cast<int32_t>(Environment::device_count());
  });
}

heed_status device_info(heed_context* context, int32_t device, heed_device_info* info) {
  constexpr const char* op = "device_info";
  return with(op, context, [&](Environment&) {
    const int64_t count = Environment::device_count();
    if (device < 0 || device >= count)
      fail(Code::device, "%s: expected a device index from 0 to %lld, got %d", op, static_cast<long long>(count - 1),
           device);
    heed_device_info found{};
    found.kind = device == 0 ? HEED_CPU : HEED_CUDA;
    found.available = 1;
    if (device == 0) {
      std::snprintf(found.description, sizeof found.description, "%s", "CPU");
    } else {
      const cuda::Card& card = *cuda::Card::all()[static_cast<size_t>(device - 1)];
      found.ordinal = card.index;
      found.available = card.unusable.empty();
      found.memory = card.memory;
      std::snprintf(found.description, sizeof found.description, "%s",
                    (card.unusable.empty() ? card.name : card.unusable).c_str());
    }
    write_struct(op, found, info);
  });
}

heed_status device_wait(heed_context* context, int32_t device) {
  return with("device_wait", context,
              [&](Environment& environment) { raise(environment.wait(environment.device(device), nullptr)); });
}

heed_status device_after(heed_context* context, int32_t device, heed_callback callback, void* data) {
  constexpr const char* op = "device_after";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(reinterpret_cast<void*>(callback), op, "a callback");
    environment.tell(environment.device(device), nullptr, nullptr, teller(callback, data));
  });
}

heed_status device_stream(heed_context* context, int32_t device, void** stream) {
  constexpr const char* op = "device_stream";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(stream, op, "a place for the stream");
    *stream = environment.device(device).native_queue();
  });
}

// ---- tensors ------------------------------------------------------------------------------------------------------

heed_status tensor_empty(heed_context* context, int32_t device, int32_t dtype, int32_t rank, const int64_t* shape,
                         heed_tensor** tensor) {
  constexpr const char* op = "tensor_empty";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(tensor, op, "a place for the tensor");
    const TensorView view = shape_of(op, dtype, rank, shape, nullptr);
    give(environment, make_tensor(environment.device(device), view, op), tensor);
    environment.report_external_memory(environment.env());
  });
}

heed_status tensor_from_memory(heed_context* context, const heed_memory* given, heed_tensor** tensor) {
  constexpr const char* op = "tensor_from_memory";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(tensor, op, "a place for the tensor");
    expect_pointer(given, op, "a struct");
    if (given->size < sizeof(heed_memory))
      fail(Code::argument, "%s: expected the struct's size in its first member, got %zu", op, given->size);
    TensorView view = shape_of(op, given->dtype, given->rank, given->shape, given->strides);
    view.data = given->data;
    auto owner = std::make_unique<MemoryOwner>(given->read_only != 0);
    MemoryOwner& made = *owner;
    give(environment, adopt_tensor(environment.device(given->device), view, !given->strides, std::move(owner), op),
         tensor);
    // Only now, because the memory stays the caller's if anything fails.
    made.data = given->deleter_data;
    made.deleter = given->deleter;
  });
}

heed_status tensor_view(heed_tensor* base, int32_t rank, const int64_t* shape, const int64_t* strides, int64_t offset,
                        heed_tensor** view) {
  constexpr const char* op = "tensor_view";
  return with(op, base, [&](Environment& environment, Handle& handle) {
    expect_pointer(view, op, "a place for the tensor");
    TensorView wanted = shape_of(op, static_cast<int32_t>(handle.view.dtype), rank, shape, strides);
    if (!strides) make_contiguous(wanted, op);
    give(environment, view_tensor(handle, wanted, offset, op), view);
  });
}

void tensor_release(heed_tensor* tensor) {
  if (!tensor) return;
  tensor->environment->release(tensor->handle);
  delete tensor;
}

heed_status tensor_info(heed_tensor* tensor, heed_tensor_info* info) {
  constexpr const char* op = "tensor_info";
  return with(op, tensor, [&](Environment& environment, Handle& handle) {
    const TensorView& view = handle.view;
    heed_tensor_info found{};
    found.device = static_cast<int32_t>(environment.index_of(*handle.storage->device));
    found.dtype = static_cast<int32_t>(view.dtype);
    found.rank = view.rank;
    found.read_only = handle.storage->owner && handle.storage->owner->read_only;
    for (int d = 0; d < view.rank; d++) {
      found.shape[d] = view.shape[d];
      found.strides[d] = view.strides[d];
    }
    found.data = view.data;
    found.bytes = static_cast<uint64_t>(view.numel()) * size_of(view.dtype);
    write_struct(op, found, info);
  });
}

heed_status tensor_write(heed_tensor* tensor, const void* source, uint64_t bytes) {
  constexpr const char* op = "tensor_write";
  return with(op, tensor, [&](Environment&, Handle& handle) {
    if (bytes) expect_pointer(source, op, "a source");
    upload(handle, source, static_cast<size_t>(bytes), op);
  });
}

heed_status tensor_read(heed_tensor* tensor, void* destination, uint64_t given, heed_callback callback, void* data) {
  constexpr const char* op = "tensor_read";
  return with(op, tensor, [&](Environment& environment, Handle& handle) {
    const size_t bytes = contiguous_bytes(handle.view, op);
    if (given != bytes)
      fail(Code::shape, "%s: expected room for %zu bytes, got %llu", op, bytes, static_cast<unsigned long long>(given));
    if (bytes) expect_pointer(destination, op, "a destination");
    expect_pointer(reinterpret_cast<void*>(callback), op, "a callback");
    Device& device = *handle.storage->device;
    device.expect_not_capturing(op);
    Cause failure = download(handle, destination, op);
    environment.tell(device, handle.storage, std::move(failure), teller(callback, data));
  });
}

heed_status tensor_transfer(heed_tensor* to, heed_tensor* from) {
  constexpr const char* op = "tensor_transfer";
  return with(op, to, [&](Environment& environment, Handle& handle) {
    expect_pointer(from, op, "a tensor");
    if (from->environment != &environment) fail(Code::argument, "%s: expected tensors of one environment", op);
    if (from->handle->storage->device == handle.storage->device)
      fail(Code::device, "%s: expected tensors on two devices, got two on the same; use the operation copy", op);
    transfer(environment, handle, *from->handle, op);
  });
}

heed_status tensor_wait(heed_tensor* tensor) {
  return with("tensor_wait", tensor, [&](Environment& environment, Handle& handle) {
    // A callback may release the tensor meanwhile.
    raise(environment.wait(*handle.storage->device, handle.storage));
  });
}

heed_status tensor_after(heed_tensor* tensor, heed_callback callback, void* data) {
  constexpr const char* op = "tensor_after";
  return with(op, tensor, [&](Environment& environment, Handle& handle) {
    expect_pointer(reinterpret_cast<void*>(callback), op, "a callback");
    environment.tell(*handle.storage->device, handle.storage, nullptr, teller(callback, data));
  });
}

// ---- to JavaScript and back ---------------------------------------------------------------------------------------

heed_status tensor_to_value(heed_tensor* tensor, void** value) {
  constexpr const char* op = "tensor_to_value";
  return with(op, tensor, [&](Environment& environment, Handle& handle) {
    *expect_pointer(value, op, "a place for the value") = tensor_external(environment, handle);
  });
}

heed_status tensor_from_value(heed_context* context, void* value, heed_tensor** tensor) {
  constexpr const char* op = "tensor_from_value";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(tensor, op, "a place for the tensor");
    const Handle& handle = tensor_of(environment, static_cast<napi_value>(value), op);
    handle.storage->device->retain(handle.storage);
    give(environment, handle, tensor);
  });
}

heed_status tensor_to_dlpack(heed_tensor* tensor, int32_t kind, void** managed) {
  constexpr const char* op = "tensor_to_dlpack";
  return with(op, tensor, [&](Environment& environment, Handle& handle) {
    expect_pointer(managed, op, "a place for the DLPack tensor");
    *managed = to_dlpack(environment, handle, kind, op);
  });
}

heed_status tensor_from_dlpack(heed_context* context, int32_t kind, void* managed, heed_tensor** tensor) {
  constexpr const char* op = "tensor_from_dlpack";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(tensor, op, "a place for the tensor");
    const FromDlpack made = from_dlpack(environment, kind, managed, op);
    give(environment, made.handle, tensor);
    made.owned = managed;
  });
}

heed_status dlpack_to_value(heed_context* context, int32_t kind, void* managed, void** value) {
  constexpr const char* op = "dlpack_to_value";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(value, op, "a place for the value");
    expect_pointer(managed, op, "a DLPack tensor");
    if (kind != HEED_DL_MANAGED && kind != HEED_DL_MANAGED_VERSIONED)
      fail(Code::argument, "%s: expected HEED_DL_MANAGED or HEED_DL_MANAGED_VERSIONED, got %d", op, kind);
    *value = dlpack_external(environment, kind, managed);
  });
}

heed_status dlpack_from_value(heed_context* context, void* value, int32_t* kind, void** managed) {
  constexpr const char* op = "dlpack_from_value";
  return with(op, context, [&](Environment& environment) {
    expect_pointer(kind, op, "a place for the kind");
    expect_pointer(managed, op, "a place for the DLPack tensor");
    *managed = take_dlpack(environment, static_cast<napi_value>(value), kind, op);
  });
}

heed_status call(heed_context* context, const char* name, const heed_argument* arguments, int32_t count) {
  return with("call", context, [&](Environment& environment) { call_operation(environment, name, arguments, count); });
}

const heed_interface functions = {
    HEED_MAJOR,
    HEED_MINOR,
    sizeof(heed_interface),
    context_retain,
    context_release,
    last_error,
    status_name,
    device_count,
    device_info,
    device_wait,
    device_after,
    device_stream,
    tensor_empty,
    tensor_from_memory,
    tensor_view,
    tensor_release,
    tensor_info,
    tensor_write,
    tensor_read,
    tensor_transfer,
    tensor_wait,
    tensor_after,
    tensor_to_value,
    tensor_from_value,
    tensor_to_dlpack,
    tensor_from_dlpack,
    dlpack_to_value,
    dlpack_from_value,
    call,
};

}  // namespace

const heed_interface& interface_functions() { return functions; }

}  // namespace heed::addon
