// Everything that one Node environment (the main thread or a worker_thread) owns: its devices, its handles and its
// pending reads.
//
// It lives until the environment has ended and the last handle has been finalised, in whichever order V8 chooses. At
// the environment's end the queue stops before anything else is destroyed, so that no kernel writes to memory of a dead
// isolate.
#pragma once
#include <napi.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "core/device.h"
#include "cuda/image.h"

namespace heed::addon {

class ArrayOwner;

class Environment {
 public:
  static Environment& of(napi_env env);
  static void create(Napi::Env env);

  // Something outside of JavaScript that uses the environment has a share of it, as each handle does. The last one to
  // give its share back deletes the environment.
  void reference();
  void unreference();
  bool on_its_thread() const { return std::this_thread::get_id() == thread_; }
  bool ended() const { return ended_; }
  napi_env env() const { return env_; }

  // Returns a device by index: 0 is the CPU, and 1 + n is the CUDA device n, which is opened at its first use. Throws
  // ERR_DEVICE or ERR_CUDA.
  Device& device(int64_t index);

  // Lets the work of all devices give way to that of other environments. Throws ERR_DEVICE if a CUDA device is open.
  void set_background(bool background);

  // Returns the number of devices, the CPU included, also of those that are not available.
  static int64_t device_count();
  // Returns the index of one of the devices above.
  int64_t index_of(const Device& device) const;

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
  // Returns a promise that resolves once the system has got back the device's cache.
  napi_value release_cached(napi_env env, Device& device, napi_value result);
  // Makes the device's log learn of failures before this point, although no promise waits for it.
  void follow(napi_env env, Device& device);

  // Called once, on the environment's thread, with null or the failure.
  using Told = std::function<void(const Error* failure)>;
  // Calls `told` as promise_of() (if there is a storage) or promise_of_all() would settle. If the environment ends
  // first, it is called then.
  void tell(Device& device, Storage* storage, Cause failed, Told told);
  // Blocks until everything enqueued on the device has run, and returns what such a promise would reject with: `failed`
  // unless it is null. What is due is settled before it returns.
  std::unique_ptr<Error> wait(Device& device, Storage* storage, Cause failed = nullptr);

  // Deletes a handle and gives back its share of its storage and its share of the environment. It may be called on any
  // thread. If it is another one than the environment's, that thread does it later, unless the environment has ended.
  void release(Handle* handle);

  // Notes an owner that refers to an object of JavaScript, until it is forgotten.
  void keep(ArrayOwner* owner) { arrays_.insert(owner); }
  void forget(ArrayOwner* owner) { arrays_.erase(owner); }

  // Returns a buffer for bytes in transit between two devices. The queue that waits for it waits at most until the
  // environment ends.
  std::shared_ptr<HostBuffer> host_buffer(size_t bytes);

  // Tells V8 how much memory live tensors hold, if that has changed much. It must be the last action of a call: V8 may
  // collect garbage in here and so free tensors.
  //
  // V8 begins a collection whenever the memory that it knows of has grown by 64 MiB. The memory of a training step
  // grows by more than that and is released at the step's end by the program itself, so that a collection would find
  // nothing. V8 is therefore told at once of memory that collections have freed, but of less memory that the program
  // released only when it has not been used for some seconds.
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
  static void finalize_handle(napi_env env, void* data, void* hint);
  napi_value promise(napi_env env, std::unique_ptr<Pending> pending, napi_value result);
  Pending* add(napi_env env, std::unique_ptr<Pending> pending);
  void enqueue(napi_env env, std::unique_ptr<Pending> pending);
  void settle(napi_env env);
  void finish(napi_env env, Pending& pending);
  void let_go(Device& device, std::unique_ptr<Owner> owner);
  // After an environment has ended, several threads may release its handles. They hold this lock of the whole process,
  // which outlives every environment. late_lock() locks it if the environment has ended.
  static std::recursive_mutex& late_mutex();
  std::unique_lock<std::recursive_mutex> late_lock() const;
  void release_now(Handle* handle);

  void stop();
  std::vector<char> unpack(const cuda::Image& image);
  int64_t live_bytes() const;

  std::vector<std::unique_ptr<Device>> devices_;  // null for devices that are not opened
  bool background_ = false;
  int64_t references_ = 1;       // the environment itself, each handle, and each tensor or context of another library
  int64_t reported_bytes_ = 0;   // what V8 was told
  int64_t collected_bytes_ = 0;  // what finalizers have freed since then
  int64_t most_bytes_ = 0;       // the most that was live since most_since_
  std::chrono::steady_clock::time_point most_since_ = std::chrono::steady_clock::now();
  const napi_env env_;
  napi_ref error_class_ = nullptr;
  napi_ref unpack_ = nullptr;
  napi_threadsafe_function notify_ = nullptr;

  std::vector<std::weak_ptr<HostBuffer>> buffers_;  // some may have been destroyed

  const std::thread::id thread_ = std::this_thread::get_id();
  std::unordered_set<ArrayOwner*> arrays_;

  std::vector<Pending*> pending_;  // JavaScript thread only, like the next member
  int64_t awaited_ = 0;            // how many of them keep the process alive
  std::mutex mutex_;
  std::vector<Pending*> done_;      // guarded by mutex_, like the next member
  std::vector<Handle*> released_;   // handles that other threads have released
  std::atomic<bool> ended_{false};  // changes once, under mutex_
};

// An object of JavaScript whose memory a tensor uses.
class ArrayOwner final : public Owner {
 public:
  ArrayOwner(Environment& environment, napi_value array);
  ~ArrayOwner() override;
  void release();  // gives the object up; for the end of the environment

 private:
  Environment& environment_;
  napi_ref array_ = nullptr;
};

// An object that a device made must not outlive it: the environment waits for it in the same way as for a tensor's
// handle.
template <class T>
napi_value Environment::wrap(napi_env env, std::unique_ptr<T> object) {
  napi_value external = nullptr;
  auto* owned = new std::unique_ptr<T>(std::move(object));
  const auto finalize = [](napi_env, void* data, void* hint) {
    auto& environment = *static_cast<Environment*>(hint);
    const auto lock = environment.late_lock();
    delete static_cast<std::unique_ptr<T>*>(data);
    environment.unreference();
  };
  references_++;
  if (napi_create_external(env, owned, finalize, this, &external) != napi_ok) {
    finalize(env, owned, this);
    fail(Code::internal, "expected to create a handle");
  }
  return external;
}

}  // namespace heed::addon
