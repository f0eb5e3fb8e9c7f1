// Collective operations of the processes of a distributed run. Those on tensors run in the order of their device's
// queue: an operation begins when the queue has computed its input, the queue goes on meanwhile, and what follows the
// call of collectiveWait waits for the result. A failure belongs to the data, as that of any operation: the output is
// damaged. MPI does those on tensors of the CPU, and NCCL those on tensors of CUDA devices.
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "addon/call.h"
#include "addon/tensors.h"
#include "comm/communicator.h"
#include "cpu/stream.h"
#include "cuda/detour.h"
#include "cuda/stream.h"

namespace heed::addon {
namespace {

using comm::Communicator;
using comm::Kind;
using comm::Operation;
using comm::Wire;

Communicator& communicator(Call& call) {
  Communicator* const current = Communicator::current();
  if (!current) fail(Code::distributed, "%s: expected collectives that are open", call.name);
  return *current;
}

// Promises that the communicator's thread settles, by way of the event loop of the environment that opened it.
class Promises {
 public:
  struct Promise {
    napi_deferred deferred = nullptr;
    std::optional<Error> error;
    std::function<napi_value(napi_env)> result;  // called on the JavaScript thread
  };

  // The environment that has opened the communicator; it lives as long as the process or its worker.
  explicit Promises(napi_env env) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, "heed collectives", NAPI_AUTO_LENGTH, &name);
    napi_create_threadsafe_function(
        env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
        [](napi_env env, napi_value, void* context, void* data) {
          static_cast<Promises*>(context)->settle(env, static_cast<Promise*>(data));
        },
        &notify_);
    napi_unref_threadsafe_function(env, notify_);
  }
  // Returns a promise; `*made` must be given to settle_later() once, on any thread.
  napi_value make(napi_env env, Promise** made) {
    auto promise = std::make_unique<Promise>();
    napi_value value = nullptr;
    if (napi_create_promise(env, &promise->deferred, &value) != napi_ok)
      fail(Code::internal, "expected to create a promise");
    if (pending_++ == 0) napi_ref_threadsafe_function(env, notify_);  // keeps the process alive
    *made = promise.release();
    return value;
  }
  void settle_later(Promise* promise) { napi_call_threadsafe_function(notify_, promise, napi_tsfn_nonblocking); }

 private:
  void settle(napi_env env, Promise* settled) {
    const std::unique_ptr<Promise> promise(settled);
    if (!env) return;  // the environment has ended
    if (--pending_ == 0) napi_unref_threadsafe_function(env, notify_);
    if (promise->error) {
      const Error& error = *promise->error;
      napi_reject_deferred(env, promise->deferred, Environment::of(env).make_error(env, error.name(), error.what()));
    } else {
      napi_resolve_deferred(env, promise->deferred, promise->result(env));
    }
  }

  napi_threadsafe_function notify_ = nullptr;
  int64_t pending_ = 0;  // JavaScript thread only
};

// Never destroyed, because the communicator's thread may use it until the process ends.
Promises* promises = nullptr;
napi_env owner = nullptr;

Promises& promises_of(Call& call) {
  if (owner != call.env)
    fail(Code::distributed, "%s: expected the thread that opened the collectives, got another one", call.name);
  return *promises;
}

template <class T>
T choice(Call& call, size_t i, int count, const char* what) {
  const int64_t value = call.integer(i);
  if (value < 0 || value >= count)
    fail(Code::argument, "%s: expected %s from 0 to %d, got %lld", call.name, what, count - 1,
         static_cast<long long>(value));
  return static_cast<T>(value);
}

Kind kind_of(Call& call, size_t i) { return choice<Kind>(call, i, comm::kKinds, "an operation"); }

int root_of(Call& call, size_t i) { return choice<int>(call, i, communicator(call).facts().size, "a rank"); }

int64_t counted(Call& call, int64_t count) {
  if (count > INT32_MAX)
    fail(Code::shape, "%s: expected fewer than 2^31 elements, got %lld", call.name, static_cast<long long>(count));
  return count;
}

napi_value text_of(napi_env env, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text.c_str(), text.size(), &value);
  return value;
}

napi_value integer_of(napi_env env, int64_t number) {
  napi_value value = nullptr;
  napi_create_int64(env, number, &value);
  return value;
}

napi_value object_of(napi_env env, std::initializer_list<std::pair<const char*, napi_value>> members) {
  napi_value object = nullptr;
  napi_create_object(env, &object);
  for (const auto& [name, value] : members) napi_set_named_property(env, object, name, value);
  return object;
}

// launchEnvironment() -> {rank, size, localRank, launcher}: what the launcher says; size 0 without one
napi_value launch_environment(Call& call) {
  const comm::Launch launch = comm::launch_of_environment();
  return object_of(call.env, {{"rank", integer_of(call.env, launch.rank)},
                              {"size", integer_of(call.env, launch.size)},
                              {"localRank", integer_of(call.env, launch.local_rank)},
                              {"launcher", text_of(call.env, launch.launcher)}});
}

// collectivesOpen(timeout, grace) -> Promise<{rank, size, localRank, library, version}>
napi_value collectives_open(Call& call) {
  const comm::Settings settings{call.number(0), call.number(1)};
  if (!promises) {
    promises = new Promises(call.env);
    owner = call.env;
  }
  Promises& settling = promises_of(call);
  if (Communicator::current())
    fail(Code::distributed, "%s: expected to be opened once in a process, because MPI cannot start again", call.name);
  comm::prepare_environment();
  Promises::Promise* promise = nullptr;
  const napi_value result = settling.make(call.env, &promise);
  Communicator::open(settings, [&settling, promise](const comm::Facts* facts, const Error* error) {
    if (error) promise->error = *error;
    if (facts)
      promise->result = [known = *facts](napi_env env) {
        return object_of(env, {{"rank", integer_of(env, known.rank)},
                               {"size", integer_of(env, known.size)},
                               {"localRank", integer_of(env, known.local_rank)},
                               {"library", text_of(env, known.library)},
                               {"version", text_of(env, known.version)}});
      };
    settling.settle_later(promise);
  });
  napi_add_env_cleanup_hook(call.env, [](void*) { Communicator::current()->abandon(); }, nullptr);
  return result;
}

// collectiveHost(kind, reduction, wire, root, data: ArrayBuffer, resultBytes) -> Promise<ArrayBuffer>: numbers of the
// host, which are copied before the call returns
napi_value collective_host(Call& call) {
  Promises& settling = promises_of(call);
  Communicator& all = communicator(call);
  all.expect_alive();
  auto operation = std::make_unique<Operation>();
  Operation& o = *operation;
  o.kind = kind_of(call, 0);
  o.reduction = choice<comm::Reduction>(call, 1, 2, "a reduction");
  o.wire = choice<Wire>(call, 2, 4, "a type");
  o.root = root_of(call, 3);
  void* data = nullptr;
  size_t bytes = 0;
  if (napi_get_arraybuffer_info(call.env, call[4], &data, &bytes) != napi_ok)
    fail(Code::argument, "%s: expected an ArrayBuffer", call.name);
  if (bytes % comm::size_of(o.wire)) fail(Code::shape, "%s: expected whole elements", call.name);
  const auto size = static_cast<size_t>(all.facts().size);
  const bool gathers = o.kind == Kind::all_gather, scatters = o.kind == Kind::reduce_scatter;
  if (scatters && bytes % (comm::size_of(o.wire) * size))
    fail(Code::shape, "%s: expected a multiple of %zu elements", call.name, size);
  const size_t resulting = gathers ? bytes * size : scatters ? bytes / size : bytes;
  o.count = counted(call, static_cast<int64_t>((scatters ? resulting : bytes) / comm::size_of(o.wire)));
  // An operation on one buffer is in place; the others have the input before the output.
  const bool in_place = !gathers && !scatters;
  o.data.resize(in_place ? bytes : bytes + resulting);
  if (bytes) std::memcpy(o.data.data(), data, bytes);
  o.in = o.data.data();
  o.out = in_place ? o.data.data() : o.data.data() + bytes;
  Promises::Promise* promise = nullptr;
  const napi_value result = settling.make(call.env, &promise);
  o.ended = [&settling, promise, resulting, &o](const Error* error) {
    if (error) {
      promise->error = *error;
    } else {
      const auto* first = static_cast<const char*>(o.out);
      promise->result = [values = std::vector<char>(first, first + resulting)](napi_env env) {
        void* to = nullptr;
        napi_value buffer = nullptr;
        napi_create_arraybuffer(env, values.size(), &to, &buffer);
        if (!values.empty()) std::memcpy(to, values.data(), values.size());
        return buffer;
      };
    }
    settling.settle_later(promise);
  };
  all.add(std::move(operation), Communicator::host);
  return result;
}

// A collective on tensors that has begun and whose result the queue has not waited for. It shares the tensors' memory,
// so that nothing else gets it meanwhile. It has two places in the device's queue: where its input is computed, and
// where its result is used.
class Work {
 public:
  Work(Call& call, Device& device, Storage& out, Storage& in, Kind kind)
      : device_(device),
        out_(out),
        in_(in),
        op_(comm::name_of(kind)),
        ready_(Environment::of(call.env).host_buffer(0)),
        done_(Environment::of(call.env).host_buffer(0)) {
    if (device.backend == Backend::cuda)
      detour_ = std::make_shared<cuda::StreamDetour>(static_cast<cuda::Stream&>(device), op_,
                                                     [] { Communicator::current()->wake(); });
    device_.retain(&out_);
    device_.retain(&in_);
  }
  // A result that nobody has waited for is waited for now: its memory may serve for something else afterwards.
  ~Work() {
    try {
      wait();
    } catch (const Error&) {
      // The device is lost, and every read says so.
    }
    device_.release(&in_);
    device_.release(&out_);
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  // The first place. Fills in what the communicator needs to know about the queue.
  void begin(Operation& operation) {
    operation.ready = ready_;
    operation.done = done_;
    operation.detour = detour_;
    device_.begin_operation();
    // What has failed before damages the output. Other processes learn of it from their callers (lib/distributed).
    device_.log().note(in_, OperationLog::Use::reads);
    device_.log().note(out_, OperationLog::Use::writes);
    enqueue([&] {
      if (detour_) return detour_->leave(ready_);
      static_cast<cpu::Stream&>(device_).launch(op_, [ready = Signal(ready_)] {
        (*ready).signal();
        Communicator::current()->wake();
      });
    });
    begun_ = true;
  }

  // The second place.
  void wait() {
    if (!begun_) return;
    device_.expect_not_capturing(op_);
    begun_ = false;
    device_.begin_operation();
    device_.log().note(out_, OperationLog::Use::writes);
    enqueue([&] {
      if (detour_) return detour_->join(done_);
      static_cast<cpu::Stream&>(device_).launch(op_, [done = done_] { wait_for(*done); });
    });
  }

 private:
  // Enqueues the operation whose uses have been noted, and ends its entry in the log.
  template <class Body>
  void enqueue(const Body& body) {
    try {
      body();
    } catch (...) {
      device_.log().end(false);
      throw;
    }
    device_.log().end();
  }
  static void wait_for(HostBuffer& done) {
    if (done.ready()) return done.wait();
    struct Urge {
      Urge() { Communicator::current()->urge(1); }
      ~Urge() { Communicator::current()->urge(-1); }
    } const urge;
    done.wait();
  }

  Device& device_;
  Storage &out_, &in_;
  const char* const op_;
  const std::shared_ptr<HostBuffer> ready_, done_;
  std::shared_ptr<cuda::StreamDetour> detour_;  // null on the CPU
  bool begun_ = false;
};

Wire wire_of(Call& call, DType dtype) {
  if (dtype == DType::f32) return Wire::f32;
  if (dtype == DType::bf16) return Wire::bf16;
  if (dtype == DType::u8) return Wire::byte;
  fail(Code::dtype, "%s: expected f32 or bf16, got %s", call.name, heed::name_of(dtype));
}

// collectiveStart(kind, reduction, root, out, in) -> work: `out` and `in` may be the same tensor
napi_value collective_start(Call& call) {
  Communicator& all = communicator(call);
  if (owner != call.env)
    fail(Code::distributed, "%s: expected the thread that opened the collectives, got another one", call.name);
  all.expect_alive();
  auto operation = std::make_unique<Operation>();
  Operation& o = *operation;
  o.kind = kind_of(call, 0);
  o.reduction = choice<comm::Reduction>(call, 1, 2, "a reduction");
  o.root = root_of(call, 2);
  Handle &out = call.handle(3), &in = call.handle(4);
  Device& device = *out.storage->device;
  if (in.storage->device != &device) fail(Code::device, "%s: expected all tensors on one device", call.name);
  if (out.view.dtype != in.view.dtype) fail(Code::dtype, "%s: expected tensors of one dtype", call.name);
  if (!out.view.contiguous() || !in.view.contiguous()) fail(Code::shape, "%s: expected contiguous tensors", call.name);
  o.wire = wire_of(call, out.view.dtype);
  const int64_t given = in.view.numel(), got = out.view.numel(), size = all.facts().size;
  const bool gathers = o.kind == Kind::all_gather, scatters = o.kind == Kind::reduce_scatter;
  const int64_t wanted = gathers ? given * size : scatters ? given / size : given;
  if (got != wanted || (scatters && given % size))
    fail(Code::shape, "%s: expected an output of %lld elements, got %lld", call.name, static_cast<long long>(wanted),
         static_cast<long long>(got));
  if ((gathers || scatters) && in.storage == out.storage)
    fail(Code::argument, "%s: expected an output with memory of its own", call.name);
  expect_writable(call.name, *out.storage);
  o.count = counted(call, scatters ? got : given);
  o.in = in.view.data;
  o.out = out.view.data;
  device.expect_not_capturing(call.name);

  auto work = std::make_unique<Work>(call, device, *out.storage, *in.storage, o.kind);
  work->begin(o);
  all.add(std::move(operation), o.detour ? Communicator::cards : Communicator::tensors);
  return Environment::of(call.env).wrap(call.env, std::move(work));
}

// collectiveWait(work): what is enqueued from now on sees the result
napi_value collective_wait(Call& call) {
  void* data = nullptr;
  if (napi_get_value_external(call.env, call[0], &data) != napi_ok || !data)
    fail(Code::argument, "%s: expected a handle", call.name);
  auto& work = *static_cast<std::unique_ptr<Work>*>(data);
  if (!work) return nullptr;
  work->wait();
  work.reset();
  return nullptr;
}

// collectivesTick(), collectivesWatch(watched): whether the JavaScript thread lives
napi_value collectives_tick(Call& call) {
  communicator(call).tick();
  return nullptr;
}
napi_value collectives_watch(Call& call) {
  communicator(call).watch(call.boolean(0));
  return nullptr;
}

// collectivesFail(message): all operations fail, and the run is ended if this process does not end by itself
napi_value collectives_fail(Call& call) {
  char message[480] = "";
  size_t length = 0;
  napi_get_value_string_utf8(call.env, call[0], message, sizeof message, &length);
  communicator(call).fail_later(Error(Code::distributed, message));
  return nullptr;
}

// collectivesClose() -> boolean: blocks until all processes have called it
napi_value collectives_close(Call& call) {
  napi_value result = nullptr;
  napi_get_boolean(call.env, communicator(call).close(), &result);
  return result;
}

// collectivesAbort(code): ends all processes and does not return
napi_value collectives_abort(Call& call) { communicator(call).abort(static_cast<int>(call.integer(0))); }

}  // namespace

void define_collectives(napi_env env, napi_value exports) {
  define(env, exports, "launchEnvironment", &guarded<&launch_environment>);
  define(env, exports, "collectivesOpen", &guarded<&collectives_open>);
  define(env, exports, "collectiveHost", &guarded<&collective_host, 6>);
  define(env, exports, "collectiveStart", &guarded<&collective_start>);
  define(env, exports, "collectiveWait", &guarded<&collective_wait>);
  define(env, exports, "collectivesTick", &guarded<&collectives_tick>);
  define(env, exports, "collectivesWatch", &guarded<&collectives_watch>);
  define(env, exports, "collectivesFail", &guarded<&collectives_fail>);
  define(env, exports, "collectivesClose", &guarded<&collectives_close>);
  define(env, exports, "collectivesAbort", &guarded<&collectives_abort>);
}

}  // namespace heed::addon
