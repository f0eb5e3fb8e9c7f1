#include "addon/dlpack.h"

#include <cstdio>

#include "addon/tensors.h"

namespace heed::addon {
namespace {

constexpr int32_t kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13;
constexpr uint8_t kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kBool = 6;
constexpr uint32_t kMajor = 1, kMinor = 0;

const heed_dl_tensor& tensor_in(int32_t kind, void* managed) {
  return kind == HEED_DL_MANAGED ? static_cast<heed_dl_managed*>(managed)->tensor
                                 : static_cast<heed_dl_managed_versioned*>(managed)->tensor;
}

void expect_kind(int32_t kind, const void* managed, const char* op) {
  if (kind != HEED_DL_MANAGED && kind != HEED_DL_MANAGED_VERSIONED)
    fail(Code::argument, "%s: expected HEED_DL_MANAGED or HEED_DL_MANAGED_VERSIONED, got %d", op, kind);
  if (!managed) fail(Code::argument, "%s: expected a DLPack tensor, got a null pointer", op);
}

DType dtype_of(const heed_dl_dtype& dtype, const char* op) {
  const struct {
    uint8_t code, bits;
    DType dtype;
  } known[] = {{kFloat, 32, DType::f32}, {kBfloat, 16, DType::bf16}, {kFloat, 16, DType::f16},
               {kInt, 32, DType::i32},   {kUint, 8, DType::u8},      {kBool, 8, DType::u8}};
  for (const auto& [code, bits, found] : known)
    if (dtype.code == code && dtype.bits == bits && dtype.lanes == 1) return found;
  const char* const names[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  char name[24] = "code ";
  if (dtype.code < sizeof names / sizeof *names)
    std::snprintf(name, sizeof name, "%s", names[dtype.code]);
  else
    std::snprintf(name, sizeof name, "code %u, ", static_cast<unsigned>(dtype.code));
  fail(Code::dtype,
       "%s: expected elements of float32, bfloat16, float16, int32, uint8 or bool8, got %s%u with %u lanes", op, name,
       static_cast<unsigned>(dtype.bits), static_cast<unsigned>(dtype.lanes));
}

heed_dl_dtype dtype_for(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return {kBfloat, 16, 1};
    case DType::f16:
      return {kFloat, 16, 1};
    case DType::i32:
      return {kInt, 32, 1};
    case DType::u8:
      return {kUint, 8, 1};
    case DType::f32:
      break;
  }
  return {kFloat, 32, 1};
}

int64_t index_of(const heed_dl_device& device, const char* op) {
  if (device.device_type == kCpu || device.device_type == kCudaHost) return 0;
  if ((device.device_type == kCuda || device.device_type == kCudaManaged) && device.device_id >= 0)
    return int64_t{1} + device.device_id;
  fail(Code::device, "%s: expected memory of the CPU or of a CUDA device, got DLPack's device type %d with id %d", op,
       device.device_type, device.device_id);
}

class DlpackOwner final : public Owner {
 public:
  DlpackOwner(int32_t kind, bool read_only) : Owner(read_only), kind_(kind) {}
  ~DlpackOwner() override {
    if (managed) delete_dlpack(kind_, managed);
  }
  void* managed = nullptr;  // null as long as it is the caller's

 private:
  const int32_t kind_;
};

// What a DLPack tensor of heed's refers to.
struct Exported {
  Environment& environment;
  Handle* handle;
  int64_t shape[kMaxRank], strides[kMaxRank];
  heed_dl_managed plain;
  heed_dl_managed_versioned versioned;
};

// May be called on any thread.
template <class Managed>
void delete_exported(Managed* self) {
  auto* exported = static_cast<Exported*>(self->manager_ctx);
  exported->environment.release(exported->handle);
  delete exported;
}

}  // namespace

void delete_dlpack(int32_t kind, void* managed) {
  if (kind == HEED_DL_MANAGED) {
    auto* plain = static_cast<heed_dl_managed*>(managed);
    if (plain->deleter) plain->deleter(plain);
  } else {
    auto* versioned = static_cast<heed_dl_managed_versioned*>(managed);
    if (versioned->deleter) versioned->deleter(versioned);
  }
}

FromDlpack from_dlpack(Environment& environment, int32_t kind, void* managed, const char* op) {
  expect_kind(kind, managed, op);
  bool read_only = false;
  if (kind == HEED_DL_MANAGED_VERSIONED) {
    const auto& versioned = *static_cast<heed_dl_managed_versioned*>(managed);
    // The layout of what follows is known for this major version only.
    if (versioned.version.major != kMajor)
      fail(Code::argument, "%s: expected a DLPack tensor of version %u, got version %u.%u", op, kMajor,
           versioned.version.major, versioned.version.minor);
    read_only = (versioned.flags & HEED_DL_READ_ONLY) != 0;
  }
  const heed_dl_tensor& tensor = tensor_in(kind, managed);
  TensorView view;
  view.dtype = dtype_of(tensor.dtype, op);
  if (tensor.ndim < 0 || tensor.ndim > kMaxRank)
    fail(Code::shape, "%s: expected at most %d dimensions, got %d", op, kMaxRank, tensor.ndim);
  if (tensor.ndim > 0 && !tensor.shape) fail(Code::argument, "%s: expected a shape, got a null pointer", op);
  view.rank = tensor.ndim;
  for (int d = 0; d < view.rank; d++) {
    view.shape[d] = tensor.shape[d];
    if (tensor.strides) view.strides[d] = tensor.strides[d];
  }
  // The stride of a single element is never used, and some libraries put anything there.
  for (int d = 0; tensor.strides && d < view.rank; d++)
    if (view.shape[d] == 1 && view.strides[d] < 0) view.strides[d] = 1;
  Device& device = environment.device(index_of(tensor.device, op));
  view.data = tensor.data ? static_cast<char*>(tensor.data) + tensor.byte_offset : nullptr;
  auto owner = std::make_unique<DlpackOwner>(kind, read_only);
  DlpackOwner& made = *owner;
  return {adopt_tensor(device, view, !tensor.strides, std::move(owner), op), made.managed};
}

void* to_dlpack(Environment& environment, const Handle& handle, int32_t kind, const char* op) {
  expect_kind(kind, &environment, op);
  const TensorView& view = handle.view;
  Storage& storage = *handle.storage;
  const bool read_only = storage.owner && storage.owner->read_only;
  if (read_only && kind == HEED_DL_MANAGED)
    fail(Code::argument,
         "%s: expected a tensor that may be written, because a DLPack tensor without a version cannot say that it is "
         "read-only",
         op);
  const int64_t index = environment.index_of(*storage.device);
  auto exported = std::make_unique<Exported>(Exported{environment, nullptr, {}, {}, {}, {}});
  heed_dl_tensor tensor{};
  tensor.data = view.data;
  tensor.device = {index == 0 ? kCpu : kCuda, index == 0 ? 0 : static_cast<int32_t>(index - 1)};
  tensor.ndim = view.rank;
  tensor.dtype = dtype_for(view.dtype);
  tensor.shape = exported->shape;
  tensor.strides = exported->strides;
  for (int d = 0; d < view.rank; d++) {
    exported->shape[d] = view.shape[d];
    exported->strides[d] = view.strides[d];
  }
  exported->handle = new Handle(handle);
  storage.device->retain(&storage);
  environment.reference();
  Exported* const made = exported.release();
  if (kind == HEED_DL_MANAGED) {
    made->plain = {tensor, made, &delete_exported<heed_dl_managed>};
    return &made->plain;
  }
  made->versioned = {
      {kMajor, kMinor}, made, &delete_exported<heed_dl_managed_versioned>, read_only ? HEED_DL_READ_ONLY : 0, tensor};
  return &made->versioned;
}

}  // namespace heed::addon
