// Tensors as DLPack describes them (https://dmlc.github.io/dlpack/latest), in both directions and without copies.
#pragma once
#include "addon/environment.h"
#include "addon/interface.h"

namespace heed::addon {

// A tensor over the memory of a DLPack tensor, which stays the caller's until `owned` refers to it. From then on, the
// deleter is called when nothing uses the memory.
struct FromDlpack {
  Handle handle;
  void*& owned;
};

// `kind` is HEED_DL_MANAGED or HEED_DL_MANAGED_VERSIONED.
FromDlpack from_dlpack(Environment& environment, int32_t kind, void* managed, const char* op);

// Makes a DLPack tensor with a share of the handle's storage and of the environment.
void* to_dlpack(Environment& environment, const Handle& handle, int32_t kind, const char* op);

// Calls a DLPack tensor's deleter.
void delete_dlpack(int32_t kind, void* managed);

}  // namespace heed::addon
