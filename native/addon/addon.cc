// The addon's entry: context-aware, one Environment for each thread that loads it.
#include <exception>
#include <string>

#include "addon/call.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace heed::addon;
  try {
    Environment::create(env);
  } catch (const std::exception& error) {
    // A thread or memory that is not to be had. require() throws it, and lib/native.ts makes it ERR_NATIVE.
    throw Napi::Error::New(env, std::string("the addon could not start: ") + error.what());
  }
  define_memory(env, exports);
  define_system(env, exports);
  define_images(env, exports);
  exports.Set("ops", Napi::Value(env, create_ops(env)));
  return exports;
}

// Node's macro defines a function that nothing declares.
#pragma GCC diagnostic ignored "-Wmissing-declarations"
NODE_API_MODULE(heed, init)
