// Reads the options object of a native group.
#pragma once

#include "group/group.h"
#include "napi/node_api.h"

namespace nc::napi {

group::GroupOptions readGroupOptions(Napi::Object options);

}  // namespace nc::napi
