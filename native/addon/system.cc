// Tells which instruction sets, threads and CUDA devices the machine has, and sets which of them are used.
#include <string>

#include "addon/call.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"
#include "cuda/card.h"
#include "cuda/tf32.h"

namespace heed::addon {
namespace {

napi_value isa(Call& call) {
  napi_value name = nullptr;
  napi_create_string_utf8(call.env, cpu::isa_name(), NAPI_AUTO_LENGTH, &name);
  return name;
}

napi_value select_isa(Call& call) {
  char name[32] = "";
  size_t length = 0;
  if (napi_get_value_string_utf8(call.env, call[0], name, sizeof name, &length) != napi_ok)
    fail(Code::argument, "%s: expected the name of an instruction set", call.name);
  if (!cpu::select_isa(name))
    fail(Code::argument, "%s: expected an instruction set of this machine, got \"%s\"", call.name, name);
  return nullptr;
}

napi_value supports_isa(Call& call) {
  char name[32] = "";
  size_t length = 0;
  napi_get_value_string_utf8(call.env, call[0], name, sizeof name, &length);
  napi_value result = nullptr;
  napi_get_boolean(call.env, cpu::isa_supported(name), &result);
  return result;
}

napi_value integer(napi_env env, int64_t value) {
  napi_value number = nullptr;
  napi_create_int64(env, value, &number);
  return number;
}

napi_value threads(Call& call) { return integer(call.env, cpu::thread_count()); }
napi_value cores(Call& call) { return integer(call.env, cpu::core_count()); }

napi_value set_threads(Call& call) {
  const int64_t count = call.integer(0);
  if (count < 1 || count > 256)
    fail(Code::range, "%s: expected 1 to 256 threads, got %lld", call.name, static_cast<long long>(count));
  cpu::set_thread_count(static_cast<int>(count));
  return nullptr;
}

napi_value set_background(Call& call) {
  Environment::of(call.env).set_background(call.boolean(0));
  return nullptr;
}

napi_value tf32(Call& call) {
  napi_value result = nullptr;
  napi_get_boolean(call.env, cuda::tf32(), &result);
  return result;
}

napi_value set_tf32(Call& call) {
  cuda::set_tf32(call.boolean(0));
  return nullptr;
}

// cuda() -> {problem, driverVersion, lacks: {graphs, timing, peers}, devices: [{name, capability, memory,
// multiprocessors, problem}]}
napi_value cuda_devices(Call& call) {
  const auto text = [&](const std::string& value) {
    napi_value result = nullptr;
    napi_create_string_utf8(call.env, value.c_str(), value.size(), &result);
    return result;
  };
  const auto object = [&](std::initializer_list<std::pair<const char*, napi_value>> members) {
    napi_value result = nullptr;
    napi_create_object(call.env, &result);
    for (const auto& [name, value] : members) napi_set_named_property(call.env, result, name, value);
    return result;
  };
  const auto& cards = cuda::Card::all();
  napi_value list = nullptr;
  napi_create_array_with_length(call.env, cards.size(), &list);
  for (size_t i = 0; i < cards.size(); i++) {
    const cuda::Card& card = *cards[i];
    napi_set_element(call.env, list, static_cast<uint32_t>(i),
                     object({{"name", text(card.name)},
                             {"capability", text(std::to_string(card.major) + "." + std::to_string(card.minor))},
                             {"memory", integer(call.env, static_cast<int64_t>(card.memory))},
                             {"multiprocessors", integer(call.env, card.multiprocessors)},
                             {"problem", text(card.unusable)}}));
  }
  const char* problem = cuda::Card::problem();
  const auto lacks = [&](cuda::Feature feature) {
    const char* symbol = problem ? nullptr : cuda::missing(feature);
    return text(symbol ? symbol : "");
  };
  return object({{"problem", text(problem ? problem : "")},
                 {"driverVersion", text(cuda::Card::driver_version())},
                 {"lacks", object({{"graphs", lacks(cuda::Feature::graphs)},
                                   {"timing", lacks(cuda::Feature::timing)},
                                   {"peers", lacks(cuda::Feature::peers)}})},
                 {"devices", list}});
}

napi_value set_error_class(Call& call) {
  Environment::of(call.env).set_error_class(call.env, call[0]);
  return nullptr;
}

}  // namespace

void define_system(napi_env env, napi_value exports) {
  define(env, exports, "isa", &guarded<&isa>);
  define(env, exports, "selectIsa", &guarded<&select_isa>);
  define(env, exports, "supportsIsa", &guarded<&supports_isa>);
  define(env, exports, "threads", &guarded<&threads>);
  define(env, exports, "cores", &guarded<&cores>);
  define(env, exports, "setThreads", &guarded<&set_threads>);
  define(env, exports, "tf32", &guarded<&tf32>);
  define(env, exports, "setTf32", &guarded<&set_tf32>);
  define(env, exports, "setBackground", &guarded<&set_background>);
  define(env, exports, "cuda", &guarded<&cuda_devices>);
  define(env, exports, "setErrorClass", &guarded<&set_error_class>);
}

}  // namespace heed::addon
