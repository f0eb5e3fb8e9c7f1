// The addon's entry point. It is context-aware: each thread that loads it gets an Environment of its own.
#include <exception>
#include <string>

#include "addon/call.h"
#include "core/platform.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace heed::addon;
  heed::keep_loaded();  // a worker may end, or be terminated, with work pending
  try {
    Environment::create(env);
  } catch (const std::exception& error) {
    // A thread or memory is not available. require() throws this error; lib/core/native.ts turns it into ERR_NATIVE.
    throw Napi::Error::New(env, std::string("the addon could not start: ") + error.what());
  }
  define_memory(env, exports);
  define_system(env, exports);
  define_images(env, exports);
  define_collectives(env, exports);
  define_interface(env, exports);
  exports.Set("ops", Napi::Value(env, create_ops(env)));
  return exports;
}

// Node's macro defines a function that is declared nowhere.
#pragma GCC diagnostic ignored "-Wmissing-declarations"
NODE_API_MODULE(heed, init)
