// Tensors as DLPack describes them (https://dmlc.github.io/dlpack/latest), in both directions and without copies.
#pragma once
#include "addon/environment.h"
#include "addon/interface.h"

namespace heed::addon {

// Makes a tensor over the memory of a DLPack tensor, which it takes over: the deleter is called when nothing uses the
// memory. If it throws, the DLPack tensor is still the caller's. `kind` is HEED_DL_MANAGED or
// HEED_DL_MANAGED_VERSIONED.
Handle from_dlpack(Environment& environment, int32_t kind, void* managed, const char* op);

// Makes a DLPack tensor with a share of the handle's storage and of the environment.
void* to_dlpack(Environment& environment, const Handle& handle, int32_t kind, const char* op);

// Calls a DLPack tensor's deleter.
void delete_dlpack(int32_t kind, void* managed);

}  // namespace heed::addon
