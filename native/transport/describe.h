// Members and calls in words, for messages, and calls as facts.
#pragma once

#include <string>
#include <vector>

#include "core/error.h"
#include "core/operation.h"
#include "transport/mesh.h"

namespace nc::transport {

// "rank 3 (pid 4711 on host)"
std::string describe(const Member& member);
// "allReduce(int32 x 4, max)"
std::string describe(const Stamp& stamp);
// The two calls of a mismatch, the lower rank's first.
std::vector<RankCall> byRank(const RankCall& ours, const RankCall& theirs);

}  // namespace nc::transport
