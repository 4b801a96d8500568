// Held ports for JavaScript: holdPort(address) -> { fd, port }, listenOn(fd), closeFd(fd). Who gets the
// number owns it.
#pragma once

#include "napi/node_api.h"

namespace nc::napi {

void registerHeldPort(Napi::Env env, Napi::Object exports);

}  // namespace nc::napi
