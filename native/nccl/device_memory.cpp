#include "nccl/device_memory.h"

#include <utility>

#include "core/error.h"

namespace nc::nccl {

namespace {

template <typename Step>
void quietly(Step step) noexcept {
  try {
    step();
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a device that has failed keeps what it has
  }
}

}  // namespace

DeviceMemory::DeviceMemory(std::shared_ptr<DeviceRuntime> runtime, int device, DevicePtr address,
                           size_t bytes, bool owned)
    : runtime_(std::move(runtime)), device_(device), address_(address), bytes_(bytes), owned_(owned) {}

DeviceMemory::~DeviceMemory() {
  if (owned_) quietly([&] { runtime_->free(device_, address_); });
}

DeviceStream::DeviceStream(std::shared_ptr<DeviceRuntime> runtime, int device, StreamHandle handle,
                           bool owned)
    : runtime_(std::move(runtime)), device_(device), handle_(handle), owned_(owned) {}

DeviceStream::~DeviceStream() {
  if (owned_) quietly([&] { runtime_->destroyStream(device_, handle_); });
}

DeviceEvent::DeviceEvent(const DeviceStream& stream)
    : runtime_(stream.runtime()), device_(stream.device()), handle_(runtime_->makeEvent(device_)) {
  try {
    runtime_->record(device_, handle_, stream.handle());
  } catch (...) {
    quietly([&] { runtime_->destroyEvent(device_, handle_); });
    throw;
  }
}

DeviceEvent::~DeviceEvent() {
  quietly([&] { runtime_->destroyEvent(device_, handle_); });
}

}  // namespace nc::nccl
