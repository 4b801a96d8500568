// What DeviceLane's methods do: a step on the device thread, a result on the JavaScript thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "napi/device_handles.h"
#include "napi/device_lane.h"
#include "nccl/copy.h"
#include "nccl/device_thread.h"

namespace nc::napi {

struct DeviceLane::Outlet {
  const std::shared_ptr<LiveMemory> live = std::make_shared<LiveMemory>();
  std::mutex mutex;
  Environment* environment = nullptr;  // null once it has ended
};

class DeviceCall : public nccl::DeviceWork, public Job {
 public:
  DeviceCall(std::shared_ptr<DeviceLane::Outlet> outlet, Napi::Env env)
      : outlet_(std::move(outlet)), deferred_(Napi::Promise::Deferred::New(env)) {}
  ~DeviceCall() override;

  Napi::Promise promise() const { return deferred_.Promise(); }
  void ended(std::unique_ptr<nccl::DeviceWork> self, const Error* error) noexcept override;
  void run(Napi::Env env) override;

 protected:
  virtual Napi::Value result(Napi::Env env) { return env.Undefined(); }

 protected:
  const std::shared_ptr<DeviceLane::Outlet> outlet_;

 private:
  Napi::Promise::Deferred deferred_;
  std::optional<Error> error_;
  bool settled_ = false;
};

class DevicesCall final : public DeviceCall {
 public:
  using DeviceCall::DeviceCall;
  bool step(nccl::DeviceThread& on) override;

 private:
  Napi::Value result(Napi::Env env) override;
  std::vector<nccl::DeviceInfo> found_;
  const char* platform_ = "";
};

// Memory of its own, or foreign memory where `address` is given.
class MemoryCall final : public DeviceCall {
 public:
  MemoryCall(std::shared_ptr<DeviceLane::Outlet> outlet, Napi::Env env, int device, size_t bytes,
             std::optional<nccl::DevicePtr> address)
      : DeviceCall(std::move(outlet), env), device_(device), bytes_(bytes), address_(address) {}
  bool step(nccl::DeviceThread& on) override;

 private:
  Napi::Value result(Napi::Env env) override;
  int device_;
  size_t bytes_;
  std::optional<nccl::DevicePtr> address_;
  std::shared_ptr<nccl::DeviceMemory> memory_;
};

class StreamCall final : public DeviceCall {
 public:
  StreamCall(std::shared_ptr<DeviceLane::Outlet> outlet, Napi::Env env, int device,
             std::optional<nccl::StreamHandle> handle)
      : DeviceCall(std::move(outlet), env), device_(device), handle_(handle) {}
  bool step(nccl::DeviceThread& on) override;

 private:
  Napi::Value result(Napi::Env env) override;
  int device_;
  std::optional<nccl::StreamHandle> handle_;
  std::shared_ptr<nccl::DeviceStream> stream_;
};

class CopyCall final : public DeviceCall {
 public:
  CopyCall(std::shared_ptr<DeviceLane::Outlet> outlet, Napi::Env env, nccl::Copy copy, Napi::TypedArray array)
      : DeviceCall(std::move(outlet), env),
        copy_(std::move(copy)),
        reference_(Napi::Persistent(array.As<Napi::Object>())) {}
  bool step(nccl::DeviceThread& on) override { return copy_.step(on); }
  void stopped(nccl::DeviceThread& on) noexcept override { copy_.end(on); }
  const void* key() const override { return copy_.key(); }

 private:
  nccl::Copy copy_;
  Napi::ObjectReference reference_;
};

// Waits for what is on a stream now, or for an event.
class WaitCall final : public DeviceCall {
 public:
  WaitCall(std::shared_ptr<DeviceLane::Outlet> outlet, Napi::Env env,
           std::shared_ptr<nccl::DeviceEvent> event)
      : DeviceCall(std::move(outlet), env), event_(std::move(event)) {}
  bool step(nccl::DeviceThread&) override { return event_->done(); }

 private:
  std::shared_ptr<nccl::DeviceEvent> event_;
};

}  // namespace nc::napi
