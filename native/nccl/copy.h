// Copies between host and device through pinned memory, a piece at a time, without waiting.
#pragma once

#include <memory>

#include "nccl/device_memory.h"
#include "nccl/device_thread.h"

namespace nc::nccl {

class Copy {
 public:
  // `host` is the caller's until step() has returned true or thrown. Without a stream: on the thread's own.
  Copy(std::shared_ptr<DeviceMemory> memory, size_t offset, void* host, size_t bytes, bool toDevice,
       std::shared_ptr<DeviceStream> stream);

  bool step(DeviceThread& on);
  // Copies on one stream go one after the other, those without one on the same device as well.
  const void* key() const;
  // After an end by an error or otherwise: what it has taken goes back.
  void end(DeviceThread& on) noexcept;

 private:
  std::shared_ptr<DeviceMemory> memory_;
  size_t offset_;
  std::byte* host_;
  size_t bytes_;
  bool toDevice_;
  std::shared_ptr<DeviceStream> stream_;
  size_t done_ = 0;
  size_t underWay_ = 0;
  PinnedChunk chunk_;
  EventHandle event_ = nullptr;
};

}  // namespace nc::nccl
