// Tensor handles: allocation, views, and copies between host and device memory.
#include <cstdlib>

#include "addon/call.h"
#include "addon/tensors.h"

namespace heed::addon {
namespace {

int read_dims(Call& call, size_t i, int64_t* dims) {
  const uint32_t rank = call.length(i);
  if (rank > kMaxRank) fail(Code::shape, "%s: expected at most %d dimensions, got %u", call.name, kMaxRank, rank);
  for (uint32_t d = 0; d < rank; d++) {
    dims[d] = call.integer_of(call.element(i, d), i);
    if (dims[d] < 0)
      fail(Code::shape, "%s: expected sizes of at least 0, got %lld", call.name, static_cast<long long>(dims[d]));
  }
  return static_cast<int>(rank);
}

// Returns the released handle that was given as argument i for reuse, or null. Creating a handle is the most expensive
// part of a small operation.
Handle* released_handle(Call& call, size_t i) {
  if (call.is_null(i)) return nullptr;
  void* data = nullptr;
  if (napi_get_value_external(call.env, call[i], &data) != napi_ok || !data)
    fail(Code::argument, "%s: expected argument %zu to be a tensor handle", call.name, i);
  auto* handle = static_cast<Handle*>(data);
  if (handle->storage)
    fail(Code::argument, "%s: expected a disposed tensor's handle as argument %zu, got a live one", call.name, i);
  return handle;
}

// Puts `content`, including its share of the storage, into that handle or a new one.
napi_value handle_with(Call& call, size_t i, Handle* released, const Handle& content) {
  if (!released) return Environment::of(call.env).wrap(call.env, new Handle(content));
  *released = content;
  return call[i];
}

// alloc(device, dtype, shape, released?): uninitialised, contiguous
napi_value alloc(Call& call) {
  auto& environment = Environment::of(call.env);
  Device& device = environment.device(call.integer(0));
  TensorView view;
  view.dtype = dtype_of(call.integer(1), call.name);
  view.rank = read_dims(call, 2, view.shape);
  Handle* const released = released_handle(call, 3);
  napi_value result = handle_with(call, 3, released, make_tensor(device, view, call.name));
  environment.report_external_memory(call.env);
  return result;
}

// view(handle, shape, strides, offset, released?): shares the storage; strides and offset in elements of the handle's
// dtype
napi_value view(Call& call) {
  const Handle& base = call.handle(0);
  TensorView view;
  view.rank = read_dims(call, 1, view.shape);
  if (read_dims(call, 2, view.strides) != view.rank)
    fail(Code::shape, "%s: expected as many strides as sizes", call.name);
  const int64_t offset = call.integer(3);
  Handle* const released = released_handle(call, 4);
  return handle_with(call, 4, released, view_tensor(base, view, offset, call.name));
}

// release(handle): takes effect in queue order; a second call does nothing
napi_value release(Call& call) {
  void* data = nullptr;
  if (napi_get_value_external(call.env, call[0], &data) != napi_ok || !data)
    fail(Code::argument, "%s: expected a tensor handle", call.name);
  auto* handle = static_cast<Handle*>(data);
  if (!handle->storage) return nullptr;
  handle->storage->device->release(handle->storage);
  handle->storage = nullptr;
  Environment::of(call.env).report_external_memory(call.env);
  return nullptr;
}

// upload(handle, ArrayBufferView): the bytes are copied before the call returns
napi_value upload(Call& call) {
  Handle& handle = call.handle(0);
  bool typed = false;
  napi_is_typedarray(call.env, call[1], &typed);
  if (!typed) fail(Code::argument, "%s: expected a typed array", call.name);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(call.env, call[1], &type, &length, &data, nullptr, nullptr);
  constexpr size_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  const size_t given = static_cast<size_t>(type) < sizeof sizes / sizeof *sizes ? length * sizes[type] : 0;
  addon::upload(handle, data, given, call.name);
  return nullptr;
}

// Returns true if the host has memory for an ArrayBuffer of `bytes` and for what V8 needs besides. V8 itself, if it
// gets no memory for an ArrayBuffer, first collects garbage several times, a quarter of a second in all, and ends the
// process if there is no memory for that.
bool has_memory(size_t bytes) {
  constexpr size_t kSpare = size_t{32} << 20;
  // A compiler may otherwise leave out both calls.
  void* volatile memory = std::malloc(bytes + kSpare);
  const bool there = memory != nullptr;
  std::free(memory);
  return there;
}

// Returns an ArrayBuffer of `bytes`, whose memory is at `data`. A large one is created by JavaScript's constructor,
// which throws if the host has no memory left. napi_create_arraybuffer is faster, but ends the process in that case.
napi_value array_buffer(Call& call, size_t bytes, void** data) {
  constexpr size_t kSmall = size_t{64} << 10, kLarge = size_t{1} << 20;
  napi_value buffer = nullptr;
  if (bytes <= kSmall) {
    if (napi_create_arraybuffer(call.env, bytes, data, &buffer) == napi_ok) return buffer;
  } else if (bytes < kLarge || has_memory(bytes)) {
    napi_value global = nullptr, constructor = nullptr, length = nullptr;
    napi_get_global(call.env, &global);
    napi_get_named_property(call.env, global, "ArrayBuffer", &constructor);
    napi_create_double(call.env, static_cast<double>(bytes), &length);
    if (napi_new_instance(call.env, constructor, 1, &length, &buffer) == napi_ok &&
        napi_get_arraybuffer_info(call.env, buffer, data, nullptr) == napi_ok)
      return buffer;
  }
  napi_value ignored;  // the engine's own RangeError, which is reported as our error
  napi_get_and_clear_last_exception(call.env, &ignored);
  fail(Code::oom, "%s: out of memory for %zu bytes on the host", call.name, bytes);
}

// read(handle) -> Promise<ArrayBuffer>: resolves after everything that was enqueued so far
napi_value read(Call& call) {
  Handle& handle = call.handle(0);
  void* data = nullptr;
  const napi_value buffer = array_buffer(call, contiguous_bytes(handle.view, call.name), &data);
  // If it fails, some of it may be on its way, so that the buffer must stay until the queue has come here.
  Cause failed = download(handle, data, call.name);
  return Environment::of(call.env).promise_of(call.env, *handle.storage, buffer, std::move(failed));
}

// readNow(handle) -> ArrayBuffer: waits for everything that was enqueued so far
napi_value read_now(Call& call) {
  Handle& handle = call.handle(0);
  void* data = nullptr;
  const napi_value buffer = array_buffer(call, contiguous_bytes(handle.view, call.name), &data);
  Cause failed = download(handle, data, call.name);
  Storage& storage = *handle.storage;
  const auto error = Environment::of(call.env).wait(*storage.device, &storage, std::move(failed));
  if (error) throw Error(*error);
  return buffer;
}

// transfer(to, from): copies a contiguous tensor to one with the same number of bytes on another device, in the order
// of both queues
napi_value transfer(Call& call) {
  addon::transfer(Environment::of(call.env), call.handle(0), call.handle(1), call.name);
  return nullptr;
}

// beginCapture(device), endCapture(device) -> graph, launchGraph(graph), releaseGraph(graph)
napi_value begin_capture(Call& call) {
  Environment::of(call.env).device(call.integer(0)).begin_capture();
  return nullptr;
}

napi_value end_capture(Call& call) {
  auto graph = Environment::of(call.env).device(call.integer(0)).end_capture();
  return Environment::of(call.env).wrap(call.env, std::move(graph));
}

template <class T>
std::unique_ptr<T>& owned(Call& call, size_t i = 0) {
  void* data = nullptr;
  if (napi_get_value_external(call.env, call[i], &data) != napi_ok || !data)
    fail(Code::argument, "%s: expected a handle", call.name);
  return *static_cast<std::unique_ptr<T>*>(data);
}

napi_value launch_graph(Call& call) {
  const auto& graph = owned<Graph>(call);
  if (!graph) fail(Code::disposed, "%s: expected a live graph, got a disposed one", call.name);
  graph->launch();
  return nullptr;
}

napi_value release_graph(Call& call) {
  owned<Graph>(call).reset();
  return nullptr;
}

// startTimer(device) -> timer
napi_value start_timer(Call& call) {
  auto timer = Environment::of(call.env).device(call.integer(0)).start_timer();
  return Environment::of(call.env).wrap(call.env, std::move(timer));
}

// stopTimer(device, timer) -> Promise<ArrayBuffer>: one float64, the milliseconds
napi_value stop_timer(Call& call) {
  auto& environment = Environment::of(call.env);
  Device& device = environment.device(call.integer(0));
  void* data = nullptr;
  const napi_value buffer = array_buffer(call, sizeof(double), &data);
  owned<Timer>(call, 1)->stop(static_cast<double*>(data));
  return environment.promise_after_queue(call.env, device, buffer);
}

// synchronize(device) -> Promise<undefined>: rejects with the first failure on the device that no read was told of
napi_value synchronize(Call& call) {
  auto& environment = Environment::of(call.env);
  napi_value object = nullptr;  // a reference needs an object
  napi_create_object(call.env, &object);
  return environment.promise_of_all(call.env, environment.device(call.integer(0)), object);
}

napi_value memory(Call& call) {
  Device& device = Environment::of(call.env).device(call.integer(0));
  const MemoryStats& stats = device.allocator().stats();
  napi_value object = nullptr;
  napi_create_object(call.env, &object);
  const auto set = [&](const char* name, int64_t value) {
    napi_value number = nullptr;
    napi_create_int64(call.env, value, &number);
    napi_set_named_property(call.env, object, name, number);
  };
  set("live", stats.live);
  set("peak", stats.peak);
  set("cached", stats.cached);
  set("unbacked", device.allocator().unbacked());
  set("tensors", stats.allocations);
  set("uploading", device.uploads().bytes());
  return object;
}

// availableMemory(device) -> number: the bytes that the device has left, or -1 if the allocator does not know it
napi_value available_memory(Call& call) {
  Device& device = Environment::of(call.env).device(call.integer(0));
  napi_value number = nullptr;
  napi_create_int64(call.env, device.allocator().available(), &number);
  return number;
}

napi_value reset_peak(Call& call) {
  Environment::of(call.env).device(call.integer(0)).allocator().reset_peak();
  return nullptr;
}

// releaseCached(device) -> Promise<undefined>: resolves once the system has got back the cache
napi_value release_cached(Call& call) {
  auto& environment = Environment::of(call.env);
  napi_value object = nullptr;  // a reference needs an object
  napi_create_object(call.env, &object);
  return environment.release_cached(call.env, environment.device(call.integer(0)), object);
}

}  // namespace

void define_memory(napi_env env, napi_value exports) {
  define(env, exports, "alloc", &guarded<&alloc>);
  define(env, exports, "view", &guarded<&view>);
  define(env, exports, "release", &guarded<&release>);
  define(env, exports, "upload", &guarded<&upload>);
  define(env, exports, "read", &guarded<&read>);
  define(env, exports, "readNow", &guarded<&read_now>);
  define(env, exports, "transfer", &guarded<&transfer>);
  define(env, exports, "beginCapture", &guarded<&begin_capture>);
  define(env, exports, "endCapture", &guarded<&end_capture>);
  define(env, exports, "launchGraph", &guarded<&launch_graph>);
  define(env, exports, "releaseGraph", &guarded<&release_graph>);
  define(env, exports, "startTimer", &guarded<&start_timer>);
  define(env, exports, "stopTimer", &guarded<&stop_timer>);
  define(env, exports, "synchronize", &guarded<&synchronize>);
  define(env, exports, "memory", &guarded<&memory>);
  define(env, exports, "availableMemory", &guarded<&available_memory>);
  define(env, exports, "resetPeak", &guarded<&reset_peak>);
  define(env, exports, "releaseCached", &guarded<&release_cached>);
}

}  // namespace heed::addon
