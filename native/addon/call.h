// Reads the arguments of a call from JavaScript and turns C++ exceptions into a HeedError.
#pragma once
#include <napi.h>

#include <cmath>
#include <new>

#include "addon/environment.h"
#include "core/error.h"
#include "core/params.h"

namespace heed::addon {

// One call in progress. `name` is the name of the function, for messages.
class Call {
 public:
  static constexpr size_t kMaxArguments = 24;

  // Reads `count` arguments.
  Call(napi_env env, napi_callback_info info, size_t count) : env(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, arguments_, nullptr, &data);
    name = static_cast<const char*>(data);
  }

  napi_value operator[](size_t i) const { return arguments_[i]; }  // undefined if it is missing

  Handle& handle(size_t i) const { return handle_of(arguments_[i], i); }

  Handle& handle_of(napi_value value, size_t i) const {
    void* data = nullptr;
    if (napi_get_value_external(env, value, &data) != napi_ok || !data)
      fail(Code::argument, "%s: expected argument %zu to be a tensor handle", name, i);
    auto& handle = *static_cast<Handle*>(data);
    if (!handle.storage)
      fail(Code::disposed, "%s: expected a live tensor as argument %zu, got a disposed one", name, i);
    return handle;
  }

  bool is_null(size_t i) const {
    napi_valuetype type;
    napi_typeof(env, arguments_[i], &type);
    return type == napi_null || type == napi_undefined;
  }

  double number_of(napi_value value, size_t i) const {
    double number;
    if (napi_get_value_double(env, value, &number) != napi_ok)
      fail(Code::argument, "%s: expected argument %zu to be a number", name, i);
    return number;
  }
  double number(size_t i) const { return number_of(arguments_[i], i); }

  int64_t integer_of(napi_value value, size_t i) const {
    const double number = number_of(value, i);
    if (!(std::fabs(number) <= 9007199254740992.0) || number != std::trunc(number))
      fail(Code::argument, "%s: expected argument %zu to be an integer, got %g", name, i, number);
    return static_cast<int64_t>(number);
  }
  int64_t integer(size_t i) const { return integer_of(arguments_[i], i); }

  bool boolean(size_t i) const {
    bool value;
    if (napi_get_value_bool(env, arguments_[i], &value) != napi_ok)
      fail(Code::argument, "%s: expected argument %zu to be a boolean", name, i);
    return value;
  }

  uint32_t length(size_t i) const {
    uint32_t length;
    if (napi_get_array_length(env, arguments_[i], &length) != napi_ok)
      fail(Code::argument, "%s: expected argument %zu to be an array", name, i);
    return length;
  }
  napi_value element(size_t i, uint32_t index) const {
    napi_value value = nullptr;
    napi_get_element(env, arguments_[i], index, &value);
    return value;
  }

  // Reads element j of argument i, an array of tensor handles.
  Handle& list_handle(size_t i, uint32_t j) const {
    napi_handle_scope scope;
    napi_open_handle_scope(env, &scope);
    Handle& handle = handle_of(element(i, j), i);
    napi_close_handle_scope(env, scope);
    return handle;
  }

  Environment& environment() const { return Environment::of(env); }

  const napi_env env;
  const char* name;

 private:
  napi_value arguments_[kMaxArguments];
};

// The N-API callback around `body(Call&) -> napi_value` (null stands for undefined), which reads at most `arguments`
// arguments. No C++ exception leaves it.
template <napi_value (*body)(Call&), size_t arguments = 5>
napi_value guarded(napi_env env, napi_callback_info info) {
  static_assert(arguments <= Call::kMaxArguments);
  Call call(env, info, arguments);
  const auto raise = [&](const char* code, const char* message) {
    napi_throw(env, Environment::of(env).make_error(env, code, message));
  };
  try {
    return body(call);
  } catch (const Error& error) {
    raise(error.name(), error.what());
  } catch (const std::bad_alloc&) {
    raise("ERR_OOM", "out of memory");
  } catch (const std::exception& error) {
    raise("ERR_INTERNAL", error.what());
  }
  return nullptr;
}

inline void define(napi_env env, napi_value object, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, const_cast<char*>(name), &function);
  napi_set_named_property(env, object, name, function);
}

void define_memory(napi_env env, napi_value exports);
void define_system(napi_env env, napi_value exports);
void define_images(napi_env env, napi_value exports);
void define_collectives(napi_env env, napi_value exports);
void define_interface(napi_env env, napi_value exports);
napi_value create_ops(napi_env env);

}  // namespace heed::addon
