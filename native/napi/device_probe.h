// probeDevices({ cudaPath?, hipPath?, ncclPath?, rcclPath? }) for JavaScript: native/nccl/probe.h.
#pragma once

#include "napi/node_api.h"

namespace nc::napi {

void registerDeviceProbe(Napi::Env env, Napi::Object exports);

}  // namespace nc::napi
