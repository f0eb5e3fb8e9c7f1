// The C interface (include/heed.h) inside of the addon.
#pragma once
#define HEED_NO_OPERATIONS
#include "addon/environment.h"
#include "include/heed.h"

// A tensor of another library. heed.h declares it.
struct heed_tensor {
  heed::Handle* handle;
  heed::addon::Environment* environment;
};

namespace heed::addon {

// Marks of the externals that JavaScript carries between libraries, so that no other external is taken for one.
constexpr napi_type_tag kTensorTag{0x8c1f6ad0b2f94be7, 0xa3d5c27f1e90486b};
constexpr napi_type_tag kDlpackTag{0x5b7e03c41d8a4f62, 0x9ef4a6d8327bc015};

// Returns an external with this data and tag. `finalize` is called with the data in any case.
napi_value tagged_external(Environment& environment, void* data, napi_finalize finalize, const napi_type_tag& tag);
// Returns the data of an external with this tag, or null if the value is none.
void* tagged_data(Environment& environment, napi_value value, const napi_type_tag& tag);

const heed_interface& interface_functions();

// Returns an external that owns a DLPack tensor. If it throws, the DLPack tensor still is the caller's.
napi_value dlpack_external(Environment& environment, int32_t kind, void* managed);
// Takes the DLPack tensor out of such an external, which is empty afterwards.
void* take_dlpack(Environment& environment, napi_value value, int32_t* kind, const char* op);
// Returns an external with a handle of its own.
napi_value tensor_external(Environment& environment, const Handle& handle);
Handle& tensor_of(Environment& environment, napi_value value, const char* op);

// The function heed_interface::call, with the operation's number of arguments and their types checked.
void call_operation(Environment& environment, const char* name, const heed_argument* arguments, int32_t count);

}  // namespace heed::addon
