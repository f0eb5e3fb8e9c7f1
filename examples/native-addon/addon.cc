// An addon that multiplies and attends over its own memory: heed reads and writes the addon's vectors in place.
//
// The functions return promises, since heed's queue runs on other threads. Nothing here blocks JavaScript.
#include <napi.h>

#include <cmath>
#include <memory>
#include <vector>

#include "heed.hpp"

namespace {

// Numbers of the addon, as another library would hold them. heed keeps a share until it no longer uses them.
using Numbers = std::shared_ptr<std::vector<float>>;

// What the addon keeps for each thread of Node.js that loads it.
struct State {
  std::unique_ptr<heed::Library> heed;
};

heed::Library& library_of(Napi::Env env) {
  State* state = env.GetInstanceData<State>();
  if (!state->heed) throw Napi::Error::New(env, "expected open() to be called first");
  return *state->heed;
}

// Returns a tensor over the memory of `numbers`, without a copy.
heed::Tensor over(const heed::Library& library, const Numbers& numbers, const heed::Shape& shape) {
  return library.adopt(numbers->data(), shape, numbers);
}

Numbers waves(size_t count, float step) {
  auto numbers = std::make_shared<std::vector<float>>(count);
  for (size_t i = 0; i < count; i++) (*numbers)[i] = std::sin(step * static_cast<float>(i));
  return numbers;
}

// Turns an exception of heed's into one of JavaScript with the same code.
Napi::Error error_of(Napi::Env env, const heed::Error& error) {
  Napi::Error thrown = Napi::Error::New(env, error.what());
  thrown.Set("code", error.name());
  return thrown;
}

// Settles a promise with some numbers when heed has computed `tensor`.
void settle_with(Napi::Promise::Deferred deferred, const heed::Tensor& tensor, Numbers numbers) {
  tensor.after([deferred, numbers](heed_status status, const char* message) {
    Napi::Env env = deferred.Env();
    const Napi::HandleScope scope(env);
    if (status != HEED_OK) return deferred.Reject(Napi::Error::New(env, message).Value());
    auto array = Napi::Float32Array::New(env, numbers->size());
    for (size_t i = 0; i < numbers->size(); i++) array[i] = (*numbers)[i];
    deferred.Resolve(array);
  });
}

// open(nativeInterface())
void open(const Napi::CallbackInfo& info) {
  State* state = info.Env().GetInstanceData<State>();
  state->heed = std::make_unique<heed::Library>(info[0].As<Napi::External<void>>().Data());
}

// multiply(rows, inner, columns): the product of two matrices that the addon makes
Napi::Value multiply(const Napi::CallbackInfo& info) {
  const heed::Library& heed = library_of(info.Env());
  const int64_t rows = info[0].As<Napi::Number>(), inner = info[1].As<Napi::Number>();
  const int64_t columns = info[2].As<Napi::Number>();
  const Numbers a = waves(static_cast<size_t>(rows * inner), 0.1f);
  const Numbers b = waves(static_cast<size_t>(inner * columns), 0.2f);
  const auto product = std::make_shared<std::vector<float>>(rows * columns);

  heed::Tensor out = over(heed, product, {rows, columns});
  heed.run(heed_gemm, {.out = out, .a = over(heed, a, {rows, inner}), .b = over(heed, b, {inner, columns})});

  auto deferred = Napi::Promise::Deferred::New(info.Env());
  settle_with(deferred, out, product);
  return deferred.Promise();
}

// attend(tokens, heads, size): causal attention of a sequence [1, tokens, heads, size] to itself
Napi::Value attend(const Napi::CallbackInfo& info) {
  const heed::Library& heed = library_of(info.Env());
  const int64_t tokens = info[0].As<Napi::Number>(), heads = info[1].As<Napi::Number>();
  const int64_t size = info[2].As<Napi::Number>();
  // One vector holds queries, keys and values of each token, as a packed projection makes them.
  const Numbers packed = waves(static_cast<size_t>(tokens * 3 * heads * size), 0.3f);
  const auto attended = std::make_shared<std::vector<float>>(tokens * heads * size);

  heed::Tensor qkv = over(heed, packed, {1, tokens, 3, heads, size});
  const auto part = [&](int64_t which) {
    const int64_t token = 3 * heads * size;
    return qkv.view({1, tokens, heads, size}, {tokens * token, token, size, 1}, which * heads * size);
  };
  heed::Tensor out = over(heed, attended, {1, tokens, heads, size});
  heed.run(heed_attention_forward, {.out = out,
                                    .q = part(0),
                                    .k = part(1),
                                    .v = part(2),
                                    .causal = true,
                                    .scale = 1 / std::sqrt(static_cast<float>(size))});

  auto deferred = Napi::Promise::Deferred::New(info.Env());
  settle_with(deferred, out, attended);
  return deferred.Promise();
}

// double(toNative(x)) -> External for fromNative(): 2 · x, on the device of x and in the order of its queue
Napi::Value twice(const Napi::CallbackInfo& info) {
  const heed::Library& heed = library_of(info.Env());
  heed::Tensor x = heed.from_value(static_cast<napi_value>(info[0]));
  const heed_tensor_info described = x.info();
  heed::Tensor y = heed.empty(described.device, described.dtype, x.shape());
  heed.run(heed_binary, {.out = y, .a = x, .b = x, .kind = HEED_BINARY_ADD});
  return Napi::Value(info.Env(), static_cast<napi_value>(y.to_value()));
}

// Calls a function above, with heed's errors as JavaScript's.
template <auto function>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    if constexpr (std::is_void_v<decltype(function(info))>) {
      function(info);
      return info.Env().Undefined();
    } else {
      return function(info);
    }
  } catch (const heed::Error& error) {
    throw error_of(info.Env(), error);
  }
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new State);
  exports.Set("open", Napi::Function::New(env, guarded<open>));
  exports.Set("multiply", Napi::Function::New(env, guarded<multiply>));
  exports.Set("attend", Napi::Function::New(env, guarded<attend>));
  exports.Set("twice", Napi::Function::New(env, guarded<twice>));
  return exports;
}

}  // namespace

NODE_API_MODULE(addon, init)
