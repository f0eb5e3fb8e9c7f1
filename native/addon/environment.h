// What one Node environment (the main thread or a worker_thread) owns: its devices, its handles, its pending reads.
//
// It lives until both the environment has ended and the last handle has been finalised, whichever order V8 chooses.
// At the environment's end the queue stops before anything else goes, so that no kernel writes to memory of a dead
// isolate.
#pragma once
#include <napi.h>

#include <memory>
#include <mutex>
#include <vector>

#include "core/device.h"
#include "cuda/image.h"

namespace heed::addon {

class Environment {
 public:
  static Environment& of(napi_env env);
  static void create(Napi::Env env);

  // By index: 0 is the CPU, 1 + n the CUDA device n, opened at its first use. Throws ERR_DEVICE or ERR_CUDA.
  Device& device(int64_t index);

  napi_value wrap(napi_env env, Handle* handle);  // takes ownership

  // For a graph or a timer of a device: an external whose data is the unique_ptr.
  template <class T>
  napi_value wrap(napi_env env, std::unique_ptr<T> object);

  // Each resolves with `result` once everything enqueued on the device so far has run. That of a storage, whose
  // elements are in the result, rejects where they are damaged; that of all with the first failure on the device that
  // nobody was told of; and each where the device is lost.
  napi_value promise_of(napi_env env, Storage& storage, napi_value result);
  napi_value promise_of_all(napi_env env, Device& device, napi_value result);
  napi_value promise_after_queue(napi_env env, Device& device, napi_value result);
  // Resolves once the system has the cache of the device back.
  napi_value release_cached(napi_env env, Device& device, napi_value result);
  // Has the device's log learn what fails before this point, though nobody waits for it.
  void follow(napi_env env, Device& device);

  // Bytes on their way between two devices, for which the queue of one of them waits until the environment ends.
  std::shared_ptr<HostBuffer> host_buffer(size_t bytes);

  // Tells V8 how much memory live tensors hold, when that has changed much. The last thing a call does: V8 may collect
  // garbage, and so free tensors, in here.
  void report_external_memory(napi_env env);

  void set_error_class(napi_env env, napi_value constructor);
  // The function of lib/ that unpacks an image of kernels.
  void set_unpack(napi_env env, napi_value function);
  // The pack of an image, as an ArrayBuffer.
  static napi_value packed(napi_env env, const cuda::Image& image);
  napi_value make_error(napi_env env, const char* code, const char* message);

 private:
  struct Pending;
  class PendingFence;
  class Read;

  Environment(Napi::Env env);
  ~Environment();
  void unreference() {
    if (--references_ == 0) delete this;
  }
  static void finalize_handle(napi_env env, void* data, void* hint);
  napi_value promise(napi_env env, std::unique_ptr<Pending> pending, napi_value result);
  Pending* add(napi_env env, std::unique_ptr<Pending> pending);
  void enqueue(napi_env env, std::unique_ptr<Pending> pending);
  void settle(napi_env env);
  void finish(napi_env env, Pending& pending);

  void stop();
  std::vector<char> unpack(const cuda::Image& image);

  std::vector<std::unique_ptr<Device>> devices_;  // null where not opened
  int64_t references_ = 1;                        // the environment itself and each handle
  int64_t reported_bytes_ = 0;
  const napi_env env_;
  napi_ref error_class_ = nullptr;
  napi_ref unpack_ = nullptr;
  napi_threadsafe_function notify_ = nullptr;

  std::vector<std::weak_ptr<HostBuffer>> buffers_;  // some may be gone

  std::vector<Pending*> pending_;  // JavaScript thread only
  std::mutex mutex_;
  std::vector<Pending*> done_;  // guarded by mutex_
};

// What a device made lives no longer than it: the environment waits for it as for a tensor's handle.
template <class T>
napi_value Environment::wrap(napi_env env, std::unique_ptr<T> object) {
  napi_value external = nullptr;
  auto* owned = new std::unique_ptr<T>(std::move(object));
  const auto finalize = [](napi_env, void* data, void* hint) {
    delete static_cast<std::unique_ptr<T>*>(data);
    static_cast<Environment*>(hint)->unreference();
  };
  references_++;
  if (napi_create_external(env, owned, finalize, this, &external) != napi_ok) {
    finalize(env, owned, this);
    fail(Code::internal, "expected to create a handle");
  }
  return external;
}

}  // namespace heed::addon
