// The store as JavaScript sees it: StoreServer (a listening server) and StoreLane (one client connection with
// a thread of its own, so that neither the event loop nor libuv's pool ever waits). src/store/ makes a
// TcpStore of them; it checks all arguments, these classes take them as they come.
#pragma once

#include "napi/node_api.h"

namespace nc::napi {

// Adds the classes StoreServer and StoreLane to the addon's exports.
void registerStore(Napi::Env env, Napi::Object exports);

}  // namespace nc::napi
