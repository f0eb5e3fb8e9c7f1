// Everything that one Node environment (the main thread or a worker_thread) owns: its devices, its handles and its
// pending reads.
//
// It lives until the environment has ended and the last handle has been finalised, in whichever order V8 chooses. At
// the environment's end the queue stops before anything else is destroyed, so that no kernel writes to memory of a dead
// isolate.
#pragma once
#include <napi.h>

#include <condition_variable>
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

  // Returns a device by index: 0 is the CPU, and 1 + n is the CUDA device n, which is opened at its first use. Throws
  // ERR_DEVICE or ERR_CUDA.
  Device& device(int64_t index);

  // Lets the work of all devices give way to that of other environments. Throws ERR_DEVICE if a CUDA device is open.
  void set_background(bool background);

  napi_value wrap(napi_env env, Handle* handle);  // takes ownership

  // Wraps a graph or a timer of a device: the result is an external whose data is the unique_ptr.
  template <class T>
  napi_value wrap(napi_env env, std::unique_ptr<T> object);

  // These promises resolve with `result` once everything enqueued on the device so far has run. The promise of a
  // storage, whose elements are in the result, rejects if they are damaged, or with `failed`, the reason why not all of
  // the read is in the queue. The promise of all rejects with the first failure on the device that nobody was told of.
  // Both reject if the device is lost.
  napi_value promise_of(napi_env env, Storage& storage, napi_value result, Cause failed);
  napi_value promise_of_all(napi_env env, Device& device, napi_value result);
  napi_value promise_after_queue(napi_env env, Device& device, napi_value result);
  // Waits, on the JavaScript thread, until everything enqueued so far on the storage's device has run. Throws what
  // promise_of() rejects with.
  void wait_for(napi_env env, Storage& storage, Cause failed);
  // Returns a promise that resolves once the system has got back the device's cache.
  napi_value release_cached(napi_env env, Device& device, napi_value result);
  // Makes the device's log learn of failures before this point, although no promise waits for it.
  void follow(napi_env env, Device& device);

  // Returns a buffer for bytes in transit between two devices. The queue that waits for it waits at most until the
  // environment ends.
  std::shared_ptr<HostBuffer> host_buffer(size_t bytes);

  // Tells V8 how much memory live tensors hold, if that has changed much. It must be the last action of a call: V8 may
  // collect garbage in here and so free tensors.
  void report_external_memory(napi_env env);

  void set_error_class(napi_env env, napi_value constructor);
  // Sets the function of lib/ that unpacks an image of kernels.
  void set_unpack(napi_env env, napi_value function);
  // Returns the pack of an image, as an ArrayBuffer.
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
  Pending* enqueue(napi_env env, std::unique_ptr<Pending> pending);
  void settle(napi_env env);
  void finish(napi_env env, Pending& pending);

  void stop();
  std::vector<char> unpack(const cuda::Image& image);

  std::vector<std::unique_ptr<Device>> devices_;  // null for devices that are not opened
  bool background_ = false;
  int64_t references_ = 1;  // the environment itself and each handle
  int64_t reported_bytes_ = 0;
  const napi_env env_;
  napi_ref error_class_ = nullptr;
  napi_ref unpack_ = nullptr;
  napi_threadsafe_function notify_ = nullptr;

  std::vector<std::weak_ptr<HostBuffer>> buffers_;  // some may have been destroyed

  std::vector<Pending*> pending_;  // JavaScript thread only
  std::mutex mutex_;
  std::condition_variable reached_;  // told of each pending that is added to done_
  std::vector<Pending*> done_;       // guarded by mutex_
};

// An object that a device made must not outlive it: the environment waits for it in the same way as for a tensor's
// handle.
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
