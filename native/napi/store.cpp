#include "napi/store.h"

#include "napi/store_lane.h"
#include "napi/store_server.h"

namespace nc::napi {

void registerStore(Napi::Env env, Napi::Object exports) {
  exports.Set("StoreServer", StoreServer::define(env));
  exports.Set("StoreLane", StoreLane::define(env));
}

}  // namespace nc::napi
