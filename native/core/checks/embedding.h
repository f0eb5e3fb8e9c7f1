// Checks of an embedding's operands, for every backend.
#pragma once
#include "core/params.h"

namespace heed {

void check_embedding_forward(const char* op, Out out, In ids, In weight);
void check_embedding_backward(const char* op, Out dweight, In dout, In ids);

}  // namespace heed
