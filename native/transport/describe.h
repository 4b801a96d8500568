// Members and calls in words, for messages.
#pragma once

#include <string>

#include "core/operation.h"
#include "transport/mesh.h"

namespace nc::transport {

// "rank 3 (pid 4711 on host)"
std::string describe(const Member& member);
// "allReduce(int32 x 4, max)"
std::string describe(const Stamp& stamp);

}  // namespace nc::transport
