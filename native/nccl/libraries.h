// The libraries of this process's accelerator: CUDA with NCCL, or HIP with RCCL.
#pragma once

#include <memory>

#include "nccl/device_runtime.h"
#include "nccl/nccl_api.h"

namespace nc::nccl {

// CUDA where it has a device for this process, else HIP. The one for which an explicit file is given (option
// or variable) comes first. Throws kBackendUnavailable that says of each why not. May take seconds, or hang
// in a broken driver.
std::shared_ptr<DeviceRuntime> loadRuntime(const RuntimeOptions& options);

// The collectives that go with it.
std::shared_ptr<NcclApi> loadNcclFor(const DeviceRuntime& runtime, const NcclOptions& options);

// Throws kInvalidArgument unless the runtime has a device of that number.
void checkDevice(DeviceRuntime& runtime, int device);

}  // namespace nc::nccl
