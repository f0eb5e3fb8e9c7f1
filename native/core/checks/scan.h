// Checks of scan and scan_product_backward.
#pragma once
#include "core/params.h"

namespace heed {

void check_scan(const char* op, const char* out_name, Out out, const char* inp_name, In inp);

}  // namespace heed
