// Device memory, streams and events that several may use: given back when the last of them lets go, on
// whichever thread that is.
#pragma once

#include <cstddef>
#include <memory>

#include "nccl/device_runtime.h"

namespace nc::nccl {

class DeviceMemory {
 public:
  // `owned`: frees it in the end; foreign memory is only looked at.
  DeviceMemory(std::shared_ptr<DeviceRuntime> runtime, int device, DevicePtr address, size_t bytes,
               bool owned);
  ~DeviceMemory();  // waits for work of the device that uses it
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  const std::shared_ptr<DeviceRuntime>& runtime() const { return runtime_; }
  int device() const { return device_; }
  DevicePtr address() const { return address_; }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<DeviceRuntime> runtime_;
  int device_;
  DevicePtr address_;
  size_t bytes_;
  bool owned_;
};

class DeviceStream {
 public:
  DeviceStream(std::shared_ptr<DeviceRuntime> runtime, int device, StreamHandle handle, bool owned);
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  const std::shared_ptr<DeviceRuntime>& runtime() const { return runtime_; }
  int device() const { return device_; }
  StreamHandle handle() const { return handle_; }

 private:
  std::shared_ptr<DeviceRuntime> runtime_;
  int device_;
  StreamHandle handle_;
  bool owned_;
};

class DeviceEvent {
 public:
  // An event behind what is on the stream now.
  explicit DeviceEvent(const DeviceStream& stream);
  ~DeviceEvent();
  DeviceEvent(const DeviceEvent&) = delete;
  DeviceEvent& operator=(const DeviceEvent&) = delete;

  int device() const { return device_; }
  EventHandle handle() const { return handle_; }
  bool done() { return runtime_->done(device_, handle_); }

 private:
  std::shared_ptr<DeviceRuntime> runtime_;
  int device_;
  EventHandle handle_ = nullptr;
};

}  // namespace nc::nccl
