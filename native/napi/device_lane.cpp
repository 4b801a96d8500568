#include "napi/device_lane.h"

#include <system_error>
#include <utility>

#include "napi/device_calls.h"
#include "napi/device_handles.h"

namespace nc::napi {

namespace {

constexpr Millis kFarewell{1000};  // for the driver to give back what is held, at the environment's end

int deviceOf(Napi::Value value) {
  return value.As<Napi::Number>().Int32Value();
}

size_t bytesOf(Napi::Value value) {
  return static_cast<size_t>(value.As<Napi::Number>().Int64Value());
}

uintptr_t addressOf(Napi::Value value) {
  bool lossless = false;
  return static_cast<uintptr_t>(value.As<Napi::BigInt>().Uint64Value(&lossless));
}

}  // namespace

void DeviceLane::install(Napi::Env env, Napi::Object exports) {
  exports["DeviceLane"] = DefineClass(
      env, "DeviceLane",
      {InstanceMethod<&DeviceLane::devices>("devices"), InstanceMethod<&DeviceLane::allocate>("allocate"),
       InstanceMethod<&DeviceLane::wrap>("wrap"), InstanceMethod<&DeviceLane::copy>("copy"),
       InstanceMethod<&DeviceLane::makeStream>("makeStream"),
       InstanceMethod<&DeviceLane::wrapStream>("wrapStream"),
       InstanceMethod<&DeviceLane::synchronize>("synchronize")});
}

DeviceLane::DeviceLane(const Napi::CallbackInfo& info)
    : ObjectWrap(info), environment_(&Environment::of(info.Env())), outlet_(std::make_shared<Outlet>()) {
  outlet_->environment = environment_;
  nccl::RuntimeOptions options;
  options.cudaPath = info[0].As<Napi::String>().Utf8Value();
  options.hipPath = info[1].As<Napi::String>().Utf8Value();
  thread_ = std::make_shared<nccl::DeviceThread>(std::move(options));
  try {
    thread_->start();
  } catch (const std::system_error& error) {
    throw environment_->thrown(systemError("the device's thread could not be started", error.code().value()));
  }
  environment_->add(this);
}

DeviceLane::~DeviceLane() {
  if (environment_ == nullptr) return;
  environment_->remove(this);
  shutdown();
}

void DeviceLane::shutdown() noexcept {
  environment_ = nullptr;
  // By the thread, which may be left to itself: this one must not wait for a device.
  for (MemoryHandle* const handle : outlet_->live->handles) handle->memory.reset();
  thread_->close(kFarewell);
  const std::lock_guard lock(outlet_->mutex);
  outlet_->environment = nullptr;
}

template <typename Call, typename... Args>
Napi::Value DeviceLane::post(const Napi::CallbackInfo& info, Args&&... args) {
  auto call = std::make_unique<Call>(outlet_, info.Env(), std::forward<Args>(args)...);
  const Napi::Promise promise = call->promise();
  // Without a hold on the event loop: who waits has a timer there, and a driver that hangs must not keep a
  // process from ending once nobody waits any more.
  thread_->post(std::move(call));
  return promise;
}

Napi::Value DeviceLane::devices(const Napi::CallbackInfo& info) {
  return post<DevicesCall>(info);
}

Napi::Value DeviceLane::allocate(const Napi::CallbackInfo& info) {
  return post<MemoryCall>(info, deviceOf(info[0]), bytesOf(info[1]), std::nullopt);
}

Napi::Value DeviceLane::wrap(const Napi::CallbackInfo& info) {
  return post<MemoryCall>(info, deviceOf(info[0]), bytesOf(info[1]), std::optional(addressOf(info[2])));
}

Napi::Value DeviceLane::copy(const Napi::CallbackInfo& info) {
  const bool toDevice = info[3].As<Napi::Boolean>().Value();
  const char* const op = toDevice ? "copyFrom" : "copyTo";
  try {
    auto memory = memoryOf(info[0], op);
    const double offset = info[1].As<Napi::Number>().DoubleValue();
    const auto array = info[2].As<Napi::TypedArray>();
    partOf(*memory, offset, static_cast<double>(array.ByteLength()), op);
    auto stream = info[4].IsNull() ? nullptr : streamOf(info[4], op);
    void* const host = static_cast<std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    return post<CopyCall>(info,
                          nccl::Copy(std::move(memory), static_cast<size_t>(offset), host, array.ByteLength(),
                                     toDevice, std::move(stream)),
                          array);
  } catch (const Error& error) {
    throw Environment::of(info.Env()).thrown(error);
  }
}

Napi::Value DeviceLane::makeStream(const Napi::CallbackInfo& info) {
  return post<StreamCall>(info, deviceOf(info[0]), std::nullopt);
}

Napi::Value DeviceLane::wrapStream(const Napi::CallbackInfo& info) {
  const auto handle = reinterpret_cast<nccl::StreamHandle>(addressOf(info[1]));  // NOLINT: a foreign handle
  return post<StreamCall>(info, deviceOf(info[0]), std::optional(handle));
}

Napi::Value DeviceLane::synchronize(const Napi::CallbackInfo& info) {
  try {
    const bool event = info[1].As<Napi::Boolean>().Value();
    auto until = event ? eventOf(info[0], "synchronize")
                       : std::make_shared<nccl::DeviceEvent>(*streamOf(info[0], "synchronize"));
    return post<WaitCall>(info, std::move(until));
  } catch (const Error& error) {
    throw Environment::of(info.Env()).thrown(error);
  }
}

}  // namespace nc::napi
