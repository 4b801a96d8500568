// DeviceLane for JavaScript: the one device thread of an environment. new DeviceLane(cudaPath, hipPath)
// starts the thread; the driver is loaded with the first call. Calls return promises and keep the event loop
// alive.
//
// JavaScript thread, but for what its calls do on the device thread.
#pragma once

#include <memory>

#include "napi/environment.h"
#include "napi/node_api.h"
#include "nccl/device_thread.h"

namespace nc::napi {

class DeviceLane final : public Napi::ObjectWrap<DeviceLane>, private Closable {
 public:
  static void install(Napi::Env env, Napi::Object exports);
  explicit DeviceLane(const Napi::CallbackInfo& info);
  ~DeviceLane() override;

  struct Outlet;  // the way back to JavaScript, which the thread may outlive

 private:
  void shutdown() noexcept override;
  Napi::Value devices(const Napi::CallbackInfo& info);   // () => facts of each device
  Napi::Value allocate(const Napi::CallbackInfo& info);  // (device, bytes)
  Napi::Value wrap(const Napi::CallbackInfo& info);      // (device, bytes, address)
  Napi::Value copy(const Napi::CallbackInfo& info);      // (memory, offset, array, toDevice, stream or null)
  Napi::Value makeStream(const Napi::CallbackInfo& info);   // (device)
  Napi::Value wrapStream(const Napi::CallbackInfo& info);   // (device, handle)
  Napi::Value synchronize(const Napi::CallbackInfo& info);  // (stream or event, whether it is an event)

  template <typename Call, typename... Args>
  Napi::Value post(const Napi::CallbackInfo& info, Args&&... args);

  Environment* environment_;  // null after the environment's end
  std::shared_ptr<Outlet> outlet_;
  std::shared_ptr<nccl::DeviceThread> thread_;
};

}  // namespace nc::napi
