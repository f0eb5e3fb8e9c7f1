#include "simulator/lanes/lanes_isa.h"

namespace heed::simulator::HEED_ISA {

Handler find_lanes(const Operation& operation) {
  if (operation.op == Op::setp || operation.op == Op::set) return find_compare(operation);
  if (operation.op == Op::cvt) return find_convert(operation);
  if (is_float(operation.type)) {
    if (Handler handler = find_float(operation)) return handler;
  }
  return find_integer(operation);
}

}  // namespace heed::simulator::HEED_ISA
