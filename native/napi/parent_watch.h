// watchParent({ parent, signal, graceMs, byNumber }) -> pid, watchedParent() -> pid or 0, for JavaScript.
#pragma once

#include "napi/node_api.h"

namespace nc::napi {

void registerParentWatch(Napi::Env env, Napi::Object exports);

}  // namespace nc::napi
