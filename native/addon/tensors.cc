#include "addon/tensors.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace heed::addon {
namespace {

// Returns the number of elements from the first to the last one that the view reaches, or -1 if that is too many.
int64_t reach_of(const TensorView& view) {
  int64_t last = 0;
  for (int d = 0; d < view.rank; d++) {
    int64_t reach;
    if (view.shape[d] == 0) return 0;
    if (__builtin_mul_overflow(view.shape[d] - 1, view.strides[d], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      return -1;
  }
  return __builtin_add_overflow(last, 1, &last) ? -1 : last;
}

void expect_sizes(const TensorView& view, const int64_t* sizes, const char* op) {
  if (view.rank < 0 || view.rank > kMaxRank)
    fail(Code::shape, "%s: expected at most %d dimensions, got %d", op, kMaxRank, static_cast<int>(view.rank));
  for (int d = 0; d < view.rank; d++)
    if (sizes[d] < 0)
      fail(Code::shape, "%s: expected sizes of at least 0, got %lld", op, static_cast<long long>(sizes[d]));
}

OperationLog::Use use_of(const Storage& storage, size_t bytes) {
  return static_cast<int64_t>(bytes) == storage.bytes() ? OperationLog::Use::renews : OperationLog::Use::writes;
}

// A copy in transit to another device.
class Sent final : public Delivery {
 public:
  Sent(OperationLog& receiver, int64_t operation) : receiver_(receiver), operation_(operation) {}
  void damaged(const Cause& cause) override { receiver_.fail(operation_, cause); }

 private:
  OperationLog& receiver_;
  const int64_t operation_;
};

}  // namespace

DType dtype_of(int64_t number, const char* op) {
  if (number < 0 || number >= kDTypeCount)
    fail(Code::dtype, "%s: expected a dtype from 0 to %d, got %lld", op, kDTypeCount - 1,
         static_cast<long long>(number));
  return static_cast<DType>(number);
}

size_t make_contiguous(TensorView& view, const char* op) {
  expect_sizes(view, view.shape, op);
  int64_t bytes = static_cast<int64_t>(size_of(view.dtype)), stride = 1;
  // Sizes of 0 count as 1 here, so that strides stay those of row-major order.
  bool empty = false;
  for (int d = view.rank - 1; d >= 0; d--) {
    view.strides[d] = stride;
    empty = empty || view.shape[d] == 0;
    if (view.shape[d] && __builtin_mul_overflow(stride, view.shape[d], &stride))
      fail(Code::shape, "%s: expected fewer than 2^63 elements", op);
  }
  if (empty) bytes = 0;
  if (__builtin_mul_overflow(bytes, stride, &bytes)) fail(Code::shape, "%s: expected fewer than 2^63 bytes", op);
  return static_cast<size_t>(bytes);
}

Handle make_tensor(Device& device, TensorView view, const char* op) {
  const size_t bytes = make_contiguous(view, op);
  Storage* storage = device.create_storage(bytes, op);
  view.data = storage->data();
  return {view, storage};
}

Handle adopt_tensor(Device& device, TensorView view, bool contiguous, std::unique_ptr<Owner> owner, const char* op) {
  const auto item = static_cast<int64_t>(size_of(view.dtype));
  int64_t bytes = 0;
  if (contiguous) {
    bytes = static_cast<int64_t>(make_contiguous(view, op));
  } else {
    expect_sizes(view, view.shape, op);
    for (int d = 0; d < view.rank; d++)
      if (view.strides[d] < 0)
        fail(Code::shape, "%s: expected strides of at least 0, got %lld", op, static_cast<long long>(view.strides[d]));
    const int64_t reach = reach_of(view);
    if (reach < 0 || __builtin_mul_overflow(reach, item, &bytes))
      fail(Code::shape, "%s: expected fewer than 2^63 bytes", op);
  }
  if (bytes && !view.data) fail(Code::argument, "%s: expected memory, got a null pointer", op);
  if (const auto beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(item));
      bytes && beyond)
    fail(Code::argument, "%s: expected memory that is aligned to the %lld bytes of %s, got an address %lld beyond", op,
         static_cast<long long>(item), name_of(view.dtype), static_cast<long long>(beyond));
  return {view, device.adopt_storage(view.data, static_cast<size_t>(bytes), std::move(owner))};
}

Handle view_tensor(const Handle& base, TensorView view, int64_t offset, const char* op) {
  expect_sizes(view, view.shape, op);
  expect_sizes(view, view.strides, op);
  view.dtype = base.view.dtype;
  view.data = base.view.data;
  const auto item = static_cast<int64_t>(size_of(view.dtype));
  const int64_t first = static_cast<char*>(base.view.data) - static_cast<char*>(base.storage->data());
  // The last element that the view reaches must lie within the storage. Nothing is read or written through a view
  // without elements: wherever it would begin, it begins at the base's beginning.
  const int64_t reach = reach_of(view);
  int64_t end = 0;
  const bool overflow = offset < 0 || reach < 0 || __builtin_add_overflow(reach, offset, &end) ||
                        __builtin_mul_overflow(end, item, &end) || __builtin_add_overflow(end, first, &end);
  const bool empty = view.empty();
  if (overflow || (!empty && end > base.storage->bytes()))
    fail(Code::shape, "%s: expected a view within the tensor's %lld bytes", op,
         static_cast<long long>(base.storage->bytes()));
  if (!empty) view.data = static_cast<char*>(base.view.data) + offset * item;
  base.storage->device->retain(base.storage);
  return {view, base.storage};
}

size_t contiguous_bytes(const TensorView& view, const char* op) {
  if (!view.contiguous()) fail(Code::shape, "%s: expected a contiguous tensor", op);
  return static_cast<size_t>(view.numel()) * size_of(view.dtype);
}

void expect_writable(const char* op, const Storage& storage) {
  if (storage.owner && storage.owner->read_only)
    fail(Code::argument, "%s: expected a tensor that may be written, got one of memory that is read-only", op);
}

void upload(Handle& handle, const void* source, size_t given, const char* op) {
  const size_t bytes = contiguous_bytes(handle.view, op);
  if (given != bytes) fail(Code::shape, "%s: expected %zu bytes, got %zu", op, bytes, given);
  if (!bytes) return;
  Storage& storage = *handle.storage;
  expect_writable(op, storage);
  Device& device = *storage.device;
  device.expect_not_capturing(op);
  device.begin_operation();
  device.log().note(storage, use_of(storage, bytes));
  try {
    device.upload(handle.view.data, source, bytes);
  } catch (...) {
    device.log().end(false);
    throw;
  }
  device.log().end();
}

Cause download(Handle& handle, void* destination, const char* op) {
  const size_t bytes = contiguous_bytes(handle.view, op);
  Device& device = *handle.storage->device;
  device.expect_not_capturing(op);
  try {
    if (bytes) device.download(destination, handle.view.data, bytes);
  } catch (const Error& error) {
    return std::make_shared<Mishap>(error);
  }
  return nullptr;
}

void transfer(Environment& environment, Handle& to, Handle& from, const char* op) {
  if (!to.view.contiguous() || !from.view.contiguous()) fail(Code::shape, "%s: expected contiguous tensors", op);
  const size_t bytes = contiguous_bytes(from.view, op), room = contiguous_bytes(to.view, op);
  if (bytes != room) fail(Code::shape, "%s: expected %zu bytes, got %zu", op, room, bytes);
  if (!bytes) return;
  expect_writable(op, *to.storage);
  Device &sender = *from.storage->device, &receiver = *to.storage->device;
  for (const Device* device : {&sender, &receiver}) device->expect_not_capturing(op);
  const int64_t received = receiver.begin_operation();
  receiver.log().note(*to.storage, use_of(*to.storage, bytes));
  receiver.log().end();
  sender.log().deliver(*from.storage, std::make_unique<Sent>(receiver.log(), received));
  // The failures so far are known by the time that the receiver's next fence is reached.
  environment.follow(environment.env(), sender);
  const Device::Signals signals{environment.host_buffer(0), environment.host_buffer(0), environment.host_buffer(0)};
  if (receiver.copy_from(sender, to.view.data, from.view.data, bytes, signals)) return;
  for (size_t offset = 0; offset < bytes; offset += Uploads::kPiece) {
    const size_t size = std::min(bytes - offset, Uploads::kPiece);
    Uploads::Share share(receiver.uploads(), size, Uploads::Share::Kind::announced);
    const auto buffer = environment.host_buffer(size);
    sender.send(buffer, static_cast<const char*>(from.view.data) + offset);
    receiver.receive(buffer, static_cast<char*>(to.view.data) + offset, std::move(share));
  }
}

}  // namespace heed::addon
