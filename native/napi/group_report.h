// What a native group says of itself, as JavaScript objects; typed in src/native/binding.ts.
#pragma once

#include <vector>

#include "group/group.h"
#include "napi/node_api.h"

namespace nc::napi {

Napi::Object groupInfo(Napi::Env env, const group::GroupInfo& info);
// Times are milliseconds since 1970 by this host's clock as it is now, and by the steady clock in between.
Napi::Array groupOperations(Napi::Env env, const std::vector<group::OperationRecord>& operations);
Napi::Object groupStats(Napi::Env env, const group::GroupStats& stats);

}  // namespace nc::napi
