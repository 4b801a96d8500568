// Device memory, streams and events as JavaScript holds them: tagged externals, so that a wrong object is an
// error and never an address.
#pragma once

#include <memory>
#include <set>
#include <utility>

#include "napi/environment.h"
#include "napi/node_api.h"
#include "nccl/device_memory.h"

namespace nc::napi {

struct MemoryHandle;

// All memory that JavaScript holds, to be let go at the environment's end before the objects themselves go.
struct LiveMemory {
  std::set<MemoryHandle*> handles;  // JavaScript thread only
};

// What an external of each sort holds; empty once disposed of. Operations take copies of the pointer, so that
// a buffer that is disposed of in the middle of one is freed at its end.
struct MemoryHandle {
  explicit MemoryHandle(std::shared_ptr<LiveMemory> all) : live(std::move(all)) {
    live->handles.insert(this);
  }
  ~MemoryHandle() { live->handles.erase(this); }
  MemoryHandle(const MemoryHandle&) = delete;
  MemoryHandle& operator=(const MemoryHandle&) = delete;
  std::shared_ptr<nccl::DeviceMemory> memory;
  std::shared_ptr<LiveMemory> live;
};
struct StreamHandle {
  std::shared_ptr<nccl::DeviceStream> stream;
};
struct EventHandle {
  std::shared_ptr<nccl::DeviceEvent> event;
};

Napi::Value wrapMemory(Napi::Env env, std::shared_ptr<nccl::DeviceMemory> memory,
                       std::shared_ptr<LiveMemory> live);
Napi::Value wrapStream(Napi::Env env, std::shared_ptr<nccl::DeviceStream> stream);

// Throw kInvalidArgument for any other value, kClosed where it has been disposed of.
std::shared_ptr<nccl::DeviceMemory> memoryOf(Napi::Value value, const char* op);
std::shared_ptr<nccl::DeviceStream> streamOf(Napi::Value value, const char* op);
std::shared_ptr<nccl::DeviceEvent> eventOf(Napi::Value value, const char* op);

// A part of device memory: `bytes` from `offset`. Throws kInvalidArgument where it is not within.
nccl::DevicePtr partOf(const nccl::DeviceMemory& memory, double offset, double bytes, const char* op);

// disposeHandle(handle), recordEvent(stream), waitEvent(stream, event), eventDone(event)
void registerDeviceHandles(Napi::Env env, Napi::Object exports);

}  // namespace nc::napi
