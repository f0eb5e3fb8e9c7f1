// The N-API export of every operation, generated from ops.def.
#include "addon/operation_reader.h"

namespace heed::addon {
namespace {

template <class Words, auto on_cpu, auto on_cuda>
napi_value run(Call& call) {
  invoke<Words>(call, cpu::ops().*on_cpu, cuda::ops().*on_cuda);
  return nullptr;
}

}  // namespace

napi_value create_ops(napi_env env) {
  napi_value ops = nullptr;
  napi_create_object(env, &ops);
#define OP(name, params)                                                                        \
  define(env, ops, #name,                                                                       \
         &guarded<&run<words::name, &OpTable<cpu::Stream>::name, &OpTable<cuda::Stream>::name>, \
                  Roles<words::name>::list.size()>);
#include "core/ops.def"
#undef OP
  return ops;
}

}  // namespace heed::addon
