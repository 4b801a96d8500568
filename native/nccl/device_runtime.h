// What process groups need of a GPU's driver: devices, memory, streams, events. Two implementations, the CUDA
// driver API and HIP, both loaded at run time.
//
// Any thread may call any method. Every method that works on a device makes it current on the calling thread
// first, and none blocks for the GPU, except where its comment says so. Failures are Error(kDevice) with the
// library's own name for them and what to do, out of memory is Error(kResource), a missing function
// Error(kUnsupported). A number that is none of a device is Error(kInvalidArgument).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nccl/shared_library.h"

namespace nc::nccl {

using DevicePtr = uintptr_t;  // an address that only the device may follow
using StreamHandle = void*;   // CUstream, hipStream_t; null is the device's default stream
using EventHandle = void*;    // CUevent, hipEvent_t

enum class Platform { kCuda, kRocm };
const char* name(Platform platform) noexcept;  // "cuda", "rocm"

struct DeviceInfo {
  int index = -1;     // among those the process may use (CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES)
  std::string name;   // "NVIDIA H100 80GB HBM3"
  std::string uuid;   // "GPU-…"; empty where the driver does not tell
  std::string busId;  // "0000:1b:00.0"
  uint64_t memoryBytes = 0;
};

class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  virtual Platform platform() const = 0;
  virtual const SharedLibrary& library() const = 0;
  virtual std::string version() const = 0;  // the driver's: "12.4"

  virtual int deviceCount() = 0;
  virtual DeviceInfo describe(int device) = 0;
  virtual bool canAccessPeer(int device, int peer) = 0;
  // Makes `device` current on this thread; the first time this creates its primary context, which can take a
  // second. Kept until the process ends.
  virtual void use(int device) = 0;

  virtual DevicePtr allocate(int device, size_t bytes) = 0;
  virtual void free(int device, DevicePtr memory) = 0;  // waits for work that uses it
  // Which device an address belongs to and how many bytes are left from it to its allocation's end; throws
  // kInvalidArgument if it is no device memory.
  virtual void locate(DevicePtr memory, int& device, size_t& bytes) = 0;
  // Host memory that the device copies from and to without blocking anybody.
  virtual void* allocatePinned(int device, size_t bytes) = 0;
  virtual void freePinned(int device, void* memory) = 0;

  virtual StreamHandle makeStream(int device) = 0;  // does not wait for the default stream
  virtual void destroyStream(int device, StreamHandle stream) = 0;
  virtual EventHandle makeEvent(int device) = 0;  // without timing
  virtual void destroyEvent(int device, EventHandle event) = 0;
  virtual void record(int device, EventHandle event, StreamHandle stream) = 0;
  virtual void wait(int device, StreamHandle stream, EventHandle event) = 0;  // orders, does not block
  virtual bool done(int device, EventHandle event) = 0;  // throws what the device failed with
  virtual bool idle(int device, StreamHandle stream) = 0;

  // In stream order. `host` must be pinned, or the call may block.
  virtual void copyToDevice(int device, DevicePtr to, const void* host, size_t bytes,
                            StreamHandle stream) = 0;
  virtual void copyToHost(int device, void* host, DevicePtr from, size_t bytes, StreamHandle stream) = 0;
  virtual void copyOnDevice(int device, DevicePtr to, DevicePtr from, size_t bytes, StreamHandle stream) = 0;
};

struct RuntimeOptions {
  // Explicit files instead of the usual search; from options or NODE_COLLECTIVES_CUDA_PATH,
  // NODE_COLLECTIVES_HIP_PATH.
  std::string cudaPath;
  std::string hipPath;
};

// Loads and initializes the driver. Throws kBackendUnavailable that says what was tried, or what the driver
// said, with advice ("no CUDA-capable device", "driver older than ...").
std::shared_ptr<DeviceRuntime> loadCuda(const RuntimeOptions& options,
                                        std::vector<LoadAttempt>* attempts = nullptr);
std::shared_ptr<DeviceRuntime> loadHip(const RuntimeOptions& options,
                                       std::vector<LoadAttempt>* attempts = nullptr);

}  // namespace nc::nccl
