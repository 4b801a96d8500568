// What was called, as fields of a JavaScript object.
#pragma once

#include "core/operation.h"
#include "napi/node_api.h"

namespace nc::napi {

// Sets seq, op, dtype, count, and reduceOp, root and device where they apply.
void setStamp(Napi::Object out, const Stamp& stamp);

}  // namespace nc::napi
