// Entry of the addon, nothing else.
#include "napi/device_handles.h"
#include "napi/device_lane.h"
#include "napi/device_probe.h"
#include "napi/environment.h"
#include "napi/group_object.h"
#include "napi/held_port.h"
#include "napi/parent_watch.h"
#include "napi/store.h"

namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  nc::napi::Environment::install(env);
  exports["setErrorFactory"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    nc::napi::Environment::of(info.Env()).setErrorFactory(info[0].As<Napi::Function>());
  });
  nc::napi::registerGroup(env, exports);
  nc::napi::registerStore(env, exports);
  nc::napi::registerHeldPort(env, exports);
  nc::napi::registerParentWatch(env, exports);
  nc::napi::registerDeviceProbe(env, exports);
  nc::napi::registerDeviceHandles(env, exports);
  nc::napi::DeviceLane::install(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(node_collectives, initialize)
