// Operations on device memory on behalf of JavaScript.
#pragma once

#include "napi/tasks.h"

namespace nc::napi {

// Settles a promise; what the device uses is kept by DevicePart::keep, and holds nothing of JavaScript.
class DeviceTask final : public PromiseTask {
 public:
  using PromiseTask::PromiseTask;
};

// Reads what GroupObject::runDevice() is called with, from its sixth argument on, and checks that memory and
// stream are of `device` and large enough for the task's stamp: the last door before the driver.
void readDevicePart(const Napi::CallbackInfo& info, group::Task& task, int rank, int size, int device);

// Makes an operation on host memory one that goes through the device.
void stage(group::Task& task);

}  // namespace nc::napi
