#include "addon/environment.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "cpu/stream.h"
#include "cuda/card.h"
#include "cuda/stream.h"

namespace heed::addon {

// A promise, or only the log, that waits for a point of a device's queue.
struct Environment::Pending {
  explicit Pending(Device& device) : device(device) {}

  Device& device;
  napi_deferred deferred = nullptr;  // null if there is no promise
  napi_ref result = nullptr;
  bool of_all = false;
  bool settles = true;           // true if it settles the log
  bool awaited = true;           // true if it keeps the process alive
  Told told;                     // called when it is settled, unless it is null
  std::unique_ptr<Owner> owner;  // destroyed then
  int64_t position = 0;          // position in the device's log
  Failures failures;             // since the previous fence
  Cause error;                   // reason for which the promise is rejected
};

class Environment::PendingFence final : public Fence {
 public:
  PendingFence(Environment& environment, Pending* pending) : environment_(environment), pending_(pending) {}
  void reached(Failures failures) noexcept override {
    pending_->failures = std::move(failures);
    bool first;
    {
      const std::lock_guard lock(environment_.mutex_);
      first = environment_.done_.empty() && environment_.released_.empty();
      environment_.done_.push_back(pending_);
    }
    if (first) napi_call_threadsafe_function(environment_.notify_, nullptr, napi_tsfn_nonblocking);
  }

 private:
  Environment& environment_;
  Pending* pending_;
};

class Environment::Read final : public Delivery {
 public:
  explicit Read(Pending& pending) : pending_(pending) {}
  void damaged(const Cause& cause) override {
    if (!pending_.error) pending_.error = cause;
  }

 private:
  Pending& pending_;
};

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

void Environment::create(Napi::Env env) {
  auto* environment = new Environment(env);
  napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { static_cast<Environment*>(data)->unreference(); }, nullptr);
  // Added after the thread-safe function's own hook, so that it runs before that hook.
  napi_add_env_cleanup_hook(env, [](void* data) { static_cast<Environment*>(data)->stop(); }, environment);
}

Environment::Environment(Napi::Env env) : env_(env) {
  auto& cpu = *devices_.emplace_back(std::make_unique<cpu::Stream>());
  cpu.let_go = [this, &cpu](auto owner) { let_go(cpu, std::move(owner)); };
  napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "heed"), 0, 1, nullptr, nullptr, this,
      [](napi_env env, napi_value, void* context, void*) {
        if (env) static_cast<Environment*>(context)->settle(env);
      },
      &notify_);
  napi_unref_threadsafe_function(env, notify_);
}

Environment::~Environment() {
  for (Pending* pending : pending_) delete pending;
}

Device& Environment::device(int64_t index) {
  const auto known = static_cast<int64_t>(devices_.size());
  if (index >= 0 && index < known && devices_[index]) return *devices_[index];
  const auto& cards = cuda::Card::all();
  const auto last = static_cast<int64_t>(cards.size());
  if (index < 0 || index > last)
    fail(Code::device, "expected a device index from 0 to %lld, got %lld", static_cast<long long>(last),
         static_cast<long long>(index));
  cuda::Card& card = *cards[index - 1];
  if (!card.unusable.empty()) fail(Code::device, "cuda:%d: %s", card.index, card.unusable.c_str());
  if (index >= known) devices_.resize(index + 1);
  devices_[index] =
      std::make_unique<cuda::Stream>(card, [this](const auto& image) { return unpack(image); }, background_);
  Device& opened = *devices_[index];
  opened.let_go = [this, &opened](auto owner) { let_go(opened, std::move(owner)); };
  return opened;
}

int64_t Environment::device_count() { return 1 + static_cast<int64_t>(cuda::Card::all().size()); }

int64_t Environment::index_of(const Device& device) const {
  const auto found = std::find_if(devices_.begin(), devices_.end(), [&](const auto& d) { return d.get() == &device; });
  return found - devices_.begin();
}

void Environment::set_background(bool background) {
  // A CUDA stream keeps its priority, so it throws before anything is changed.
  for (size_t i = devices_.size(); i-- > 0;)
    if (devices_[i]) devices_[i]->set_background(background);
  background_ = background;
}

std::shared_ptr<HostBuffer> Environment::host_buffer(size_t bytes) {
  if (buffers_.size() == buffers_.capacity())
    buffers_.erase(
        std::remove_if(buffers_.begin(), buffers_.end(), [](const auto& buffer) { return buffer.expired(); }),
        buffers_.end());
  auto buffer = std::make_shared<HostBuffer>(bytes);
  buffers_.push_back(buffer);
  return buffer;
}

// Transfers come first: the queue that is stopped may wait for a transfer whose sender waits for this queue.
void Environment::stop() {
  for (const auto& waited : buffers_)
    if (const auto buffer = waited.lock()) {
      buffer->fail(Error(Code::internal, "the environment has ended"));
      buffer->signal();
    }
  for (const auto& device : devices_)
    if (device) device->sending().end();
  for (const auto& device : devices_)
    if (device) device->stop();
  reference();  // what is released below may be the last that refers to the environment
  std::vector<Handle*> released;
  {
    const std::lock_guard late(late_mutex());
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      released.swap(released_);
    }
    // Only this thread may do that. Nothing runs any more, so that nothing uses the arrays.
    for (ArrayOwner* owner : arrays_) owner->release();
  }
  // The memory of others is theirs again, and callbacks have nothing left to wait for.
  std::vector<Told> told;
  std::vector<std::unique_ptr<Owner>> owners;
  for (Pending* pending : pending_) {
    if (pending->told) told.push_back(std::move(pending->told));
    if (pending->owner) owners.push_back(std::move(pending->owner));
    pending->told = nullptr;
  }
  const Error ended(Code::disposed, "the environment has ended");
  for (const Told& tell : told) tell(&ended);
  owners.clear();
  for (Handle* handle : released) release_now(handle);
  unreference();
}

void Environment::let_go(Device& device, std::unique_ptr<Owner> owner) {
  if (ended_) return;
  auto pending = std::make_unique<Pending>(device);
  pending->owner = std::move(owner);
  pending->awaited = false;
  enqueue(env_, std::move(pending));
}

std::recursive_mutex& Environment::late_mutex() {
  // It is not destroyed at the end of the process, when other threads may still run.
  static auto* const late = new std::recursive_mutex;
  return *late;
}

std::unique_lock<std::recursive_mutex> Environment::late_lock() const {
  return ended_ ? std::unique_lock(late_mutex()) : std::unique_lock<std::recursive_mutex>();
}

void Environment::reference() {
  const auto lock = late_lock();
  references_++;
}

void Environment::unreference() {
  const auto lock = late_lock();
  if (--references_ == 0) delete this;
}

void Environment::release_now(Handle* handle) {
  const auto lock = late_lock();
  if (handle->storage) {
    const int64_t before = live_bytes();
    handle->storage->device->release(handle->storage);
    collected_bytes_ += before - live_bytes();
  }
  delete handle;
  unreference();
}

void Environment::release(Handle* handle) {
  if (!on_its_thread()) {
    const std::lock_guard lock(mutex_);
    if (!ended_) {
      if (done_.empty() && released_.empty()) napi_call_threadsafe_function(notify_, nullptr, napi_tsfn_nonblocking);
      released_.push_back(handle);
      return;
    }
  }
  release_now(handle);
}

void Environment::finalize_handle(napi_env, void* data, void* hint) {
  static_cast<Environment*>(hint)->release(static_cast<Handle*>(data));
}

napi_value Environment::wrap(napi_env env, Handle* handle) {
  napi_value external = nullptr;
  references_++;
  if (napi_create_external(env, handle, &Environment::finalize_handle, this, &external) != napi_ok) {
    finalize_handle(env, handle, this);
    fail(Code::internal, "expected to create a tensor handle");
  }
  return external;
}

napi_value Environment::promise_of(napi_env env, Storage& storage, napi_value result, Cause failed) {
  storage.device->expect_not_capturing("read");
  auto pending = std::make_unique<Pending>(*storage.device);
  pending->error = std::move(failed);
  storage.device->log().deliver(storage, std::make_unique<Read>(*pending));
  return promise(env, std::move(pending), result);
}

napi_value Environment::promise_of_all(napi_env env, Device& device, napi_value result) {
  device.expect_not_capturing("synchronize");
  auto pending = std::make_unique<Pending>(device);
  pending->of_all = true;
  return promise(env, std::move(pending), result);
}

napi_value Environment::promise_after_queue(napi_env env, Device& device, napi_value result) {
  return promise(env, std::make_unique<Pending>(device), result);
}

void Environment::follow(napi_env env, Device& device) { enqueue(env, std::make_unique<Pending>(device)); }

napi_value Environment::promise(napi_env env, std::unique_ptr<Pending> pending, napi_value result) {
  napi_value promise = nullptr;
  // Pending goes into the queue in any case, because the log may refer to it.
  const bool made = napi_create_promise(env, &pending->deferred, &promise) == napi_ok &&
                    napi_create_reference(env, result, 1, &pending->result) == napi_ok;
  if (!made) pending->deferred = nullptr;
  enqueue(env, std::move(pending));
  if (!made) fail(Code::internal, "expected to create a promise");
  return promise;
}

void Environment::tell(Device& device, Storage* storage, Cause failed, Told told) {
  device.expect_not_capturing("wait");
  auto pending = std::make_unique<Pending>(device);
  pending->error = std::move(failed);
  pending->told = std::move(told);
  if (storage)
    device.log().deliver(*storage, std::make_unique<Read>(*pending));
  else
    pending->of_all = true;
  enqueue(env_, std::move(pending));
}

std::unique_ptr<Error> Environment::wait(Device& device, Storage* storage, Cause failed) {
  // It is shared, because waiting throws if the device is lost.
  const auto result = std::make_shared<std::unique_ptr<Error>>();
  tell(device, storage, std::move(failed), [result](const Error* failure) {
    if (failure) *result = std::make_unique<Error>(*failure);
  });
  device.wait_idle();
  const Napi::HandleScope scope(env_);
  settle(env_);
  return std::move(*result);
}

napi_value Environment::release_cached(napi_env env, Device& device, napi_value result) {
  device.expect_not_capturing("emptyCache");
  auto pending = std::make_unique<Pending>(device);
  pending->settles = false;
  napi_value promise = nullptr;
  if (napi_create_promise(env, &pending->deferred, &promise) != napi_ok ||
      napi_create_reference(env, result, 1, &pending->result) != napi_ok)
    fail(Code::internal, "expected to create a promise");
  device.release_cached(std::make_unique<PendingFence>(*this, add(env, std::move(pending))));
  return promise;
}

Environment::Pending* Environment::add(napi_env env, std::unique_ptr<Pending> pending) {
  if (pending->awaited && awaited_++ == 0) napi_ref_threadsafe_function(env, notify_);
  return pending_.emplace_back(pending.release());
}

void Environment::enqueue(napi_env env, std::unique_ptr<Pending> pending) {
  Pending* const kept = add(env, std::move(pending));
  kept->position = kept->device.log().fenced();
  kept->device.fence(new PendingFence(*this, kept));
}

void Environment::settle(napi_env env) {
  std::vector<Pending*> done;
  std::vector<Handle*> released;
  {
    const std::lock_guard lock(mutex_);
    done.swap(done_);
    released.swap(released_);
  }
  // First the log and all promises, then what belongs to others, which may call back and so settle what comes next.
  std::vector<std::pair<Told, Cause>> told;
  std::vector<std::unique_ptr<Owner>> owners;
  for (Pending* pending : done) {
    finish(env, *pending);
    if (pending->told) told.emplace_back(std::move(pending->told), pending->error);
    if (pending->owner) owners.push_back(std::move(pending->owner));
    if (pending->awaited) awaited_--;
    pending_.erase(std::find(pending_.begin(), pending_.end(), pending));
    delete pending;
  }
  if (!done.empty() && awaited_ == 0) napi_unref_threadsafe_function(env, notify_);
  for (Handle* handle : released) release_now(handle);
  for (const auto& [tell, cause] : told) tell(cause ? &cause->error : nullptr);
}

void Environment::finish(napi_env env, Pending& pending) {
  OperationLog& log = pending.device.log();
  if (pending.settles) log.settle(pending.position, pending.failures);
  if (pending.of_all && !pending.error) pending.error = log.first_untold();
  if (pending.failures.device) pending.error = std::make_shared<Mishap>(*pending.failures.device);
  if (pending.error && (pending.told || pending.deferred)) pending.error->told = true;
  if (!pending.deferred) return;
  if (pending.error) {
    const Error& error = pending.error->error;
    napi_reject_deferred(env, pending.deferred, make_error(env, error.name(), error.what()));
  } else {
    napi_value result = nullptr;
    napi_get_reference_value(env, pending.result, &result);
    napi_resolve_deferred(env, pending.deferred, result);
  }
  napi_delete_reference(env, pending.result);
}

ArrayOwner::ArrayOwner(Environment& environment, napi_value array) : Owner(false), environment_(environment) {
  if (napi_create_reference(environment.env(), array, 1, &array_) != napi_ok)
    fail(Code::internal, "expected to refer to an array");
  environment_.keep(this);
}

ArrayOwner::~ArrayOwner() {
  if (!array_) return;
  release();
  environment_.forget(this);
}

void ArrayOwner::release() {
  napi_delete_reference(environment_.env(), array_);
  array_ = nullptr;
}

int64_t Environment::live_bytes() const {
  int64_t live = 0;
  for (const auto& device : devices_)
    if (device) live += device->allocator().stats().live;
  return live;
}

void Environment::report_external_memory(napi_env env) {
  constexpr int64_t kStep = int64_t{4} << 20;
  constexpr std::chrono::seconds kUnused{10};
  const int64_t live = live_bytes();
  most_bytes_ = std::max(most_bytes_, live);
  int64_t known = std::max(live, reported_bytes_ - collected_bytes_);
  if (known - live >= kStep) {
    const auto now = std::chrono::steady_clock::now();
    if (now - most_since_ >= kUnused) {
      known = most_bytes_;
      most_bytes_ = live;
      most_since_ = now;
    }
  }
  const int64_t change = known - reported_bytes_;
  if (change < kStep && change > -kStep) return;
  reported_bytes_ = known;
  collected_bytes_ = 0;
  int64_t total;
  napi_adjust_external_memory(env, change, &total);
}

void Environment::set_unpack(napi_env env, napi_value function) {
  if (unpack_) napi_delete_reference(env, unpack_);
  unpack_ = nullptr;
  napi_create_reference(env, function, 1, &unpack_);
}

napi_value Environment::packed(napi_env env, const cuda::Image& image) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_arraybuffer(env, image.packed_bytes, &data, &buffer) != napi_ok)
    fail(Code::oom, "expected memory for the kernels of %s", image.name);
  std::memcpy(data, image.packed, image.packed_bytes);
  return buffer;
}

std::vector<char> Environment::unpack(const cuda::Image& image) {
  const Napi::HandleScope scope(env_);
  void* data = nullptr;
  size_t size = 0;
  napi_value function = nullptr, receiver = nullptr, result = nullptr;
  const napi_value pack = packed(env_, image);
  const bool called = unpack_ && napi_get_reference_value(env_, unpack_, &function) == napi_ok &&
                      napi_get_undefined(env_, &receiver) == napi_ok &&
                      napi_call_function(env_, receiver, function, 1, &pack, &result) == napi_ok &&
                      napi_get_buffer_info(env_, result, &data, &size) == napi_ok;
  if (!called || size != image.bytes) {
    napi_value thrown = nullptr;
    napi_get_and_clear_last_exception(env_, &thrown);
    fail(Code::internal, "expected to unpack the kernels of %s", image.name);
  }
  const char* const bytes = static_cast<const char*>(data);
  return {bytes, bytes + size};
}

void Environment::set_error_class(napi_env env, napi_value constructor) {
  if (error_class_) napi_delete_reference(env, error_class_);
  error_class_ = nullptr;
  napi_create_reference(env, constructor, 1, &error_class_);
}

napi_value Environment::make_error(napi_env env, const char* code, const char* message) {
  napi_value arguments[2];
  napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &arguments[0]);
  napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &arguments[1]);
  napi_value error = nullptr, constructor = nullptr;
  if (error_class_) napi_get_reference_value(env, error_class_, &constructor);
  if (!constructor || napi_new_instance(env, constructor, 2, arguments, &error) != napi_ok)
    napi_create_error(env, arguments[0], arguments[1], &error);
  return error;
}

}  // namespace heed::addon
