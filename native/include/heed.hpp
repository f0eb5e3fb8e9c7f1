// The C++ form of heed.h (C++17): handles that release themselves, and errors as exceptions. It only has inline
// functions, so nothing is linked.
//
//     heed::Library library(external_data);                  // from napi_get_value_external
//     heed::Tensor a = library.adopt(values, {2, 3}, owner);  // your memory, without a copy
//     heed::Tensor y = library.empty(HEED_CPU_INDEX, HEED_F32, {2, 4});
//     library.run(heed_gemm, {.out = y, .a = a, .b = b});     // designated initialisers need C++20
//     y.wait();
#ifndef HEED_HPP
#define HEED_HPP
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "heed.h"

// Index of the CPU among the devices.
#define HEED_CPU_INDEX 0

namespace heed {

// A failed call. `status` is a HEED_ERROR_… and `name()` the code that JavaScript's HeedError has, such as "ERR_SHAPE".
class Error : public std::runtime_error {
 public:
  Error(heed_status status, const char* name, const std::string& message)
      : std::runtime_error(message), status(status), name_(name) {}
  const char* name() const noexcept { return name_; }
  const heed_status status;

 private:
  const char* name_;  // a literal of heed
};

using Shape = std::vector<int64_t>;

namespace detail {

// A share of the context, which all handles of a library have.
class Shared {
 public:
  explicit Shared(const heed_library& library) : library(library) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { heed_close(&library); }
  void check(heed_status status) const {
    if (status != HEED_OK) throw Error(status, library.functions->status_name(status), library.functions->last_error());
  }
  heed_library library;
};

// A function that is called once and then deleted.
using Callback = std::function<void(heed_status status, const char* message)>;
inline void call_back(void* data, heed_status status, const char* message) {
  const std::unique_ptr<Callback> callback(static_cast<Callback*>(data));
  (*callback)(status, message);
}
inline void let_go(void* data) { delete static_cast<std::shared_ptr<const void>*>(data); }

// Element types of C++ and their dtypes. The 16-bit types have no type of their own: name the dtype.
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr int32_t value = HEED_F32;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr int32_t value = HEED_I32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr int32_t value = HEED_U8;
};

}  // namespace detail

// A tensor and its share of memory. It moves and is not copied; `share()` makes another one of the same memory.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<const detail::Shared> library, heed_tensor* tensor)
      : library_(std::move(library)), tensor_(tensor) {}
  Tensor(Tensor&& other) noexcept
      : library_(std::move(other.library_)), tensor_(std::exchange(other.tensor_, nullptr)) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(library_, other.library_);
    std::swap(tensor_, other.tensor_);
    return *this;
  }
  ~Tensor() { reset(); }

  // An argument of an operation.
  operator heed_tensor*() const { return tensor_; }
  void reset() {
    if (tensor_) library_->library.functions->tensor_release(std::exchange(tensor_, nullptr));
    library_.reset();
  }

  heed_tensor_info info() const {
    heed_tensor_info info{};
    info.size = sizeof info;
    library_->check(functions().tensor_info(tensor_, &info));
    return info;
  }
  Shape shape() const {
    const heed_tensor_info described = info();
    return Shape(described.shape, described.shape + described.rank);
  }
  // Returns the first element. Read or write the elements only on the CPU, and after wait() or in a callback.
  template <class T>
  T* data() const {
    return static_cast<T*>(info().data);
  }

  // Returns a view; strides and offset are in elements. Without strides it is in row-major order.
  Tensor view(const Shape& shape, const Shape& strides = {}, int64_t offset = 0) const {
    if (!strides.empty() && strides.size() != shape.size())
      throw Error(HEED_ERROR_SHAPE, "ERR_SHAPE", "view: expected as many strides as sizes");
    heed_tensor* made = nullptr;
    library_->check(functions().tensor_view(tensor_, static_cast<int32_t>(shape.size()), shape.data(),
                                            strides.empty() ? nullptr : strides.data(), offset, &made));
    return Tensor(library_, made);
  }
  Tensor share() const {
    const heed_tensor_info described = info();
    return view(Shape(described.shape, described.shape + described.rank),
                Shape(described.strides, described.strides + described.rank));
  }

  void write(const void* source, uint64_t bytes) const {
    library_->check(functions().tensor_write(tensor_, source, bytes));
  }
  // Copies the elements to `destination` and waits for them.
  void read(void* destination, uint64_t bytes) const {
    // wait() reports the failure of the elements, too.
    read(destination, bytes, [](heed_status, const char*) {});
    wait();
  }
  // Copies the elements to `destination`, which must live until `callback` is called.
  void read(void* destination, uint64_t bytes, detail::Callback callback) const {
    auto given = std::make_unique<detail::Callback>(std::move(callback));
    library_->check(functions().tensor_read(tensor_, destination, bytes, &detail::call_back, given.get()));
    static_cast<void>(given.release());
  }
  void wait() const { library_->check(functions().tensor_wait(tensor_)); }
  void after(detail::Callback callback) const {
    auto given = std::make_unique<detail::Callback>(std::move(callback));
    library_->check(functions().tensor_after(tensor_, &detail::call_back, given.get()));
    static_cast<void>(given.release());
  }

  // Returns an External (napi_value) for heed's fromNative().
  void* to_value() const {
    void* value = nullptr;
    library_->check(functions().tensor_to_value(tensor_, &value));
    return value;
  }
  heed_dl_managed_versioned* to_dlpack() const {
    void* managed = nullptr;
    library_->check(functions().tensor_to_dlpack(tensor_, HEED_DL_MANAGED_VERSIONED, &managed));
    return static_cast<heed_dl_managed_versioned*>(managed);
  }

 private:
  const heed_interface& functions() const { return *library_->library.functions; }
  std::shared_ptr<const detail::Shared> library_;
  heed_tensor* tensor_ = nullptr;
};

// The interface of one Node.js environment. Copies share it.
class Library {
 public:
  // `external` is the data of the External that JavaScript's nativeInterface() returns.
  explicit Library(const void* external) {
    heed_library opened;
    if (heed_open(external, &opened) != HEED_OK)
      throw Error(HEED_ERROR_ARGUMENT, "ERR_ARGUMENT",
                  "heed: expected the interface that nativeInterface() returns, of major version " +
                      std::to_string(HEED_MAJOR));
    shared_ = std::make_shared<const detail::Shared>(opened);
  }
  const heed_library* get() const { return &shared_->library; }
  const heed_interface& functions() const { return *shared_->library.functions; }
  void check(heed_status status) const { shared_->check(status); }

  // Runs an operation of heed_operations.h: run(heed_gemm, {.out = y, .a = a, .b = b}).
  template <class Arguments>
  void run(heed_status (*operation)(const heed_library*, const Arguments*), const Arguments& arguments) const {
    check(operation(get(), &arguments));
  }

  Tensor empty(int32_t device, int32_t dtype, const Shape& shape) const {
    heed_tensor* made = nullptr;
    check(functions().tensor_empty(context(), device, dtype, static_cast<int32_t>(shape.size()), shape.data(), &made));
    return Tensor(shared_, made);
  }
  // Makes a tensor over memory that is yours; heed.h describes the struct.
  Tensor adopt(const heed_memory& memory) const {
    heed_tensor* made = nullptr;
    check(functions().tensor_from_memory(context(), &memory, &made));
    return Tensor(shared_, made);
  }
  // Makes a tensor over memory of the CPU, in row-major order, and keeps `owner` until nobody uses the memory.
  template <class T>
  Tensor adopt(T* data, const Shape& shape, std::shared_ptr<const void> owner) const {
    auto kept = std::make_unique<std::shared_ptr<const void>>(std::move(owner));
    heed_memory memory{};
    memory.size = sizeof memory;
    memory.device = HEED_CPU_INDEX;
    memory.dtype = detail::DTypeOf<std::remove_const_t<T>>::value;
    memory.read_only = std::is_const<T>::value;
    memory.rank = static_cast<int32_t>(shape.size());
    memory.shape = shape.data();
    memory.data = const_cast<std::remove_const_t<T>*>(data);
    memory.deleter = &detail::let_go;
    memory.deleter_data = kept.get();
    Tensor made = adopt(memory);
    static_cast<void>(kept.release());
    return made;
  }
  // Makes a tensor of an External that JavaScript's toNative() returns.
  Tensor from_value(void* value) const {
    heed_tensor* made = nullptr;
    check(functions().tensor_from_value(context(), value, &made));
    return Tensor(shared_, made);
  }
  // Takes over a DLPack tensor.
  Tensor from_dlpack(heed_dl_managed_versioned* managed) const { return imported(HEED_DL_MANAGED_VERSIONED, managed); }
  Tensor from_dlpack(heed_dl_managed* managed) const { return imported(HEED_DL_MANAGED, managed); }

  void wait(int32_t device) const { check(functions().device_wait(context(), device)); }

 private:
  heed_context* context() const { return shared_->library.context; }
  Tensor imported(int32_t kind, void* managed) const {
    heed_tensor* made = nullptr;
    check(functions().tensor_from_dlpack(context(), kind, managed, &made));
    return Tensor(shared_, made);
  }
  std::shared_ptr<const detail::Shared> shared_;
};

}  // namespace heed
#endif  // HEED_HPP
