// The addon's entry: context-aware, one Environment for each thread that loads it.
#include "addon/call.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace heed::addon;
  Environment::create(env);
  define_memory(env, exports);
  define_system(env, exports);
  exports.Set("ops", Napi::Value(env, create_ops(env)));
  return exports;
}

NODE_API_MODULE(heed, init)
