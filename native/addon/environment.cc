#include "addon/environment.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "cpu/stream.h"
#include "cuda/card.h"
#include "cuda/stream.h"

namespace heed::addon {

struct Environment::Pending {
  napi_deferred deferred = nullptr;
  napi_ref result = nullptr;
  std::optional<Error> error;
};

class Environment::ReadFence final : public Fence {
 public:
  ReadFence(Environment& environment, Pending* pending) : environment_(environment), pending_(pending) {}
  void reached(const Error* error) noexcept override {
    if (error) pending_->error = *error;
    bool first;
    {
      const std::lock_guard lock(environment_.mutex_);
      first = environment_.done_.empty();
      environment_.done_.push_back(pending_);
    }
    if (first) napi_call_threadsafe_function(environment_.notify_, nullptr, napi_tsfn_nonblocking);
  }

 private:
  Environment& environment_;
  Pending* pending_;
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
  // After the thread-safe function's own hook was added, so that it runs before it.
  napi_add_env_cleanup_hook(env, [](void* data) { static_cast<Environment*>(data)->stop(); }, environment);
}

Environment::Environment(Napi::Env env) {
  devices_.push_back(std::make_unique<cpu::Stream>());
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
  devices_[index] = std::make_unique<cuda::Stream>(card);
  return *devices_[index];
}

// The CPU first: its kernel in progress may wait for what a CUDA device sends.
void Environment::stop() {
  for (const auto& device : devices_)
    if (device) device->stop();
}

void Environment::finalize_handle(napi_env, void* data, void* hint) {
  auto* handle = static_cast<Handle*>(data);
  if (handle->storage) handle->storage->device->release(handle->storage);
  delete handle;
  static_cast<Environment*>(hint)->unreference();
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

napi_value Environment::promise_after_queue(napi_env env, Device& device, napi_value result) {
  auto* pending = new Pending;
  napi_value promise = nullptr;
  if (napi_create_promise(env, &pending->deferred, &promise) != napi_ok ||
      napi_create_reference(env, result, 1, &pending->result) != napi_ok) {
    delete pending;
    fail(Code::internal, "expected to create a promise");
  }
  if (pending_.empty()) napi_ref_threadsafe_function(env, notify_);  // a pending read keeps the process alive
  pending_.push_back(pending);
  device.fence(new ReadFence(*this, pending));
  return promise;
}

void Environment::settle(napi_env env) {
  std::vector<Pending*> done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(done_);
  }
  for (Pending* pending : done) {
    if (pending->error) {
      napi_reject_deferred(env, pending->deferred, make_error(env, pending->error->name(), pending->error->what()));
    } else {
      napi_value result = nullptr;
      napi_get_reference_value(env, pending->result, &result);
      napi_resolve_deferred(env, pending->deferred, result);
    }
    napi_delete_reference(env, pending->result);
    pending_.erase(std::find(pending_.begin(), pending_.end(), pending));
    delete pending;
  }
  if (pending_.empty()) napi_unref_threadsafe_function(env, notify_);
}

void Environment::report_external_memory(napi_env env) {
  constexpr int64_t kStep = int64_t{4} << 20;
  int64_t live = 0;
  for (const auto& device : devices_)
    if (device) live += device->allocator().stats().live;
  const int64_t change = live - reported_bytes_;
  if (change < kStep && change > -kStep) return;
  reported_bytes_ = live;
  int64_t total;
  napi_adjust_external_memory(env, change, &total);
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
