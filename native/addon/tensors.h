// What JavaScript (memory.cc) and other libraries (interface.cc) do with tensors: make them, view them, and copy
// between them and the host. Everything is checked here. `op` is the name of the caller's function, for messages.
#pragma once
#include "addon/environment.h"

namespace heed::addon {

// Returns the dtype with a number. Throws ERR_DTYPE.
DType dtype_of(int64_t number, const char* op);
// Checks the rank and the sizes of `view`, makes its strides row-major, and returns its bytes.
size_t make_contiguous(TensorView& view, const char* op);
// Returns a new tensor on the device, uninitialised and contiguous, with the dtype, rank and shape of `view`.
Handle make_tensor(Device& device, TensorView view, const char* op);
// Returns a tensor over memory that belongs to `owner`. The view has its data, and strides unless it is to be
// contiguous.
Handle adopt_tensor(Device& device, TensorView view, bool contiguous, std::unique_ptr<Owner> owner, const char* op);
// Returns a view with the rank, shape and strides of `view` and a share of the same storage. `offset` is in elements.
Handle view_tensor(const Handle& base, TensorView view, int64_t offset, const char* op);
void upload(Handle& handle, const void* source, size_t bytes, const char* op);
// Returns null, or why not all of the copy is in the queue. The destination must live until the next fence in any case.
Cause download(Handle& handle, void* destination, const char* op);
void transfer(Environment& environment, Handle& to, Handle& from, const char* op);
// Returns the bytes of a contiguous tensor. Throws ERR_SHAPE if it is not contiguous.
size_t contiguous_bytes(const TensorView& view, const char* op);
// Throws if the storage's memory belongs to someone else who does not allow writing to it.
void expect_writable(const char* op, const Storage& storage);

}  // namespace heed::addon
