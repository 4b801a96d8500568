// The secret as JavaScript gives it.
#pragma once

#include <memory>

#include "core/secret.h"
#include "napi/node_api.h"

namespace nc::napi {

// Null for an empty text. Throws nc::Error(kInvalidArgument) for one that is too short.
std::shared_ptr<const SecretKey> readSecret(Napi::Value text);

}  // namespace nc::napi
