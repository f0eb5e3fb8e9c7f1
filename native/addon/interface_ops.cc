// The operations of ops.def for other libraries: heed_interface::call.
#include <string_view>
#include <unordered_map>

#include "addon/interface.h"
#include "addon/operation_reader.h"

namespace heed::addon {
namespace {

// The arguments of a call from C, as operation_reader.h wants them.
class Arguments {
 public:
  Arguments(Environment& environment, const char* name, const heed_argument* arguments)
      : name(name), environment_(environment), arguments_(arguments) {}

  Environment& environment() const { return environment_; }
  bool is_null(size_t i) const {
    expect(i, HEED_ARGUMENT_TENSOR, "a tensor");
    return !arguments_[i].value.tensor;
  }
  Handle& handle(size_t i) const {
    if (is_null(i)) fail(Code::argument, "%s: expected argument %zu to be a tensor, got a null pointer", name, i);
    return live(arguments_[i].value.tensor, i);
  }
  uint32_t length(size_t i) const {
    expect(i, HEED_ARGUMENT_LIST, "a list of tensors");
    const heed_argument& list = arguments_[i];
    if (list.count < 0 || (list.count > 0 && !list.value.list))
      fail(Code::argument, "%s: expected argument %zu to be a list of tensors, got %d at a null pointer", name, i,
           list.count);
    return static_cast<uint32_t>(list.count);
  }
  Handle& list_handle(size_t i, uint32_t j) const {
    heed_tensor* tensor = arguments_[i].value.list[j];
    if (!tensor)
      fail(Code::argument, "%s: expected argument %zu to be a list of tensors, got a null pointer in it", name, i);
    return live(tensor, i);
  }
  double number(size_t i) const {
    expect(i, HEED_ARGUMENT_NUMBER, "a number");
    return arguments_[i].value.number;
  }
  int64_t integer(size_t i) const {
    expect(i, HEED_ARGUMENT_INTEGER, "an integer");
    return arguments_[i].value.integer;
  }
  bool boolean(size_t i) const {
    expect(i, HEED_ARGUMENT_BOOLEAN, "a boolean");
    return arguments_[i].value.integer != 0;
  }

  const char* const name;

 private:
  void expect(size_t i, int32_t type, const char* what) const {
    if (arguments_[i].type != type)
      fail(Code::argument, "%s: expected argument %zu to be %s, got type %d", name, i, what, arguments_[i].type);
  }
  Handle& live(heed_tensor* tensor, size_t i) const {
    if (tensor->environment != &environment_)
      fail(Code::argument, "%s: expected argument %zu to be a tensor of this thread's environment", name, i);
    return *tensor->handle;
  }

  Environment& environment_;
  const heed_argument* const arguments_;
};

struct Operation {
  void (*run)(Arguments& arguments);
  size_t parameters;
};

template <class Words, auto on_cpu, auto on_cuda>
void run(Arguments& arguments) {
  invoke<Words>(arguments, cpu::ops().*on_cpu, cuda::ops().*on_cuda);
}

const Operation* operation_of(std::string_view name) {
  static const std::unordered_map<std::string_view, Operation> operations = {
#define OP(name, params)                                                                          \
  {#name, Operation{&run<words::name, &OpTable<cpu::Stream>::name, &OpTable<cuda::Stream>::name>, \
                    Roles<words::name>::list.size()}},
#include "core/ops.def"
#undef OP
  };
  const auto found = operations.find(name);
  return found == operations.end() ? nullptr : &found->second;
}

}  // namespace

void call_operation(Environment& environment, const char* name, const heed_argument* arguments, int32_t count) {
  if (!name) fail(Code::argument, "call: expected the name of an operation, got a null pointer");
  const Operation* operation = operation_of(name);
  if (!operation) fail(Code::argument, "call: expected the name of an operation of ops.def, got \"%s\"", name);
  if (count < 0 || static_cast<size_t>(count) != operation->parameters || !arguments)
    fail(Code::argument, "%s: expected %zu arguments, got %d", name, operation->parameters, arguments ? count : 0);
  Arguments read(environment, name, arguments);
  operation->run(read);
}

}  // namespace heed::addon
