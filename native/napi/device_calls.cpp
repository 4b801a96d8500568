#include "napi/device_calls.h"

#include <algorithm>
#include <string>
#include <utility>

#include "napi/device_handles.h"
#include "nccl/libraries.h"

namespace nc::napi {

DeviceCall::~DeviceCall() {
  // The environment is ending and nobody waits; resolved, so that it is no unhandled rejection.
  if (settled_) return;
  try {
    const Napi::HandleScope scope(deferred_.Env());
    deferred_.Resolve(deferred_.Env().Undefined());
  } catch (const Napi::Error&) {
    // The environment takes nothing any more, and frees what it has.
  }
}

void DeviceCall::ended(std::unique_ptr<nccl::DeviceWork> self, const Error* error) noexcept {
  if (error != nullptr) error_ = *error;
  static_cast<void>(self.release());  // `this`, from here on as a Job
  const std::lock_guard lock(outlet_->mutex);
  // A thread that was left to itself comes too late: what refers to JavaScript can only be leaked.
  if (outlet_->environment != nullptr) outlet_->environment->post(std::unique_ptr<Job>(this));
}

void DeviceCall::run(Napi::Env env) {
  Environment& environment = Environment::of(env);
  settled_ = true;
  if (error_) {
    deferred_.Reject(environment.makeError(*error_));
  } else {
    deferred_.Resolve(result(env));
  }
}

bool DevicesCall::step(nccl::DeviceThread& on) {
  const auto& runtime = on.runtime();
  platform_ = name(runtime->platform());
  for (int device = 0; device < runtime->deviceCount(); ++device) found_.push_back(runtime->describe(device));
  return true;
}

Napi::Value DevicesCall::result(Napi::Env env) {
  Napi::Array out = Napi::Array::New(env, found_.size());
  for (uint32_t i = 0; i < found_.size(); ++i) {
    Napi::Object device = Napi::Object::New(env);
    device["index"] = Napi::Number::New(env, found_[i].index);
    device["platform"] = Napi::String::New(env, platform_);
    device["name"] = Napi::String::New(env, found_[i].name);
    device["uuid"] = Napi::String::New(env, found_[i].uuid);
    device["busId"] = Napi::String::New(env, found_[i].busId);
    device["memoryBytes"] = Napi::Number::New(env, static_cast<double>(found_[i].memoryBytes));
    out[i] = device;
  }
  return out;
}

bool MemoryCall::step(nccl::DeviceThread& on) {
  const auto& runtime = on.runtime();
  nccl::checkDevice(*runtime, device_);
  if (!address_) {
    // Drivers refuse to allocate nothing.
    const size_t bytes = std::max<size_t>(bytes_, 1);
    auto memory = std::make_unique<nccl::DeviceMemory>(runtime, device_, runtime->allocate(device_, bytes),
                                                       bytes_, true);
    memory_ = on.keep(std::move(memory));
    return true;
  }
  int device = -1;
  size_t left = 0;
  runtime->locate(*address_, device, left);
  if (device != device_) {
    throw Error(ErrorCode::kInvalidArgument, "wrap: the address belongs to device " + std::to_string(device) +
                                                 ", not " + std::to_string(device_));
  }
  if (bytes_ > left) {
    throw Error(ErrorCode::kInvalidArgument, "wrap: from the address to its allocation's end are " +
                                                 std::to_string(left) + " bytes, not " +
                                                 std::to_string(bytes_));
  }
  memory_ = std::make_shared<nccl::DeviceMemory>(runtime, device_, *address_, bytes_, false);
  return true;
}

Napi::Value MemoryCall::result(Napi::Env env) {
  Napi::Array out = Napi::Array::New(env, 2);
  out[0u] = Napi::BigInt::New(env, static_cast<uint64_t>(memory_->address()));
  out[1u] = wrapMemory(env, std::move(memory_), outlet_->live);
  return out;
}

bool StreamCall::step(nccl::DeviceThread& on) {
  const auto& runtime = on.runtime();
  nccl::checkDevice(*runtime, device_);
  stream_ = std::make_shared<nccl::DeviceStream>(runtime, device_,
                                                 handle_ ? *handle_ : runtime->makeStream(device_), !handle_);
  return true;
}

Napi::Value StreamCall::result(Napi::Env env) {
  Napi::Array out = Napi::Array::New(env, 2);
  out[0u] = Napi::BigInt::New(env, static_cast<uint64_t>(reinterpret_cast<uintptr_t>(stream_->handle())));
  out[1u] = wrapStream(env, std::move(stream_));
  return out;
}

}  // namespace nc::napi
