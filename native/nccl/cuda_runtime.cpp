// The CUDA driver API (libcuda.so.1), which every NVIDIA driver brings; the CUDA toolkit is not needed.
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nccl/cuda_abi.h"
#include "nccl/driver_runtime.h"
#include "nccl/library_places.h"

namespace nc::nccl {

namespace {

namespace fn = cuda::fn;

class CudaDriver {
 public:
  using Result = cuda::Result;
  using Device = cuda::Device;
  using Pointer = cuda::Pointer;
  using Stream = cuda::Stream;
  using Event = cuda::Event;
  static constexpr Platform kPlatform = Platform::kCuda;
  static constexpr const char* kVendor = "CUDA";
  static constexpr Result kSuccess = cuda::kSuccess;
  static constexpr Result kNotReady = cuda::kNotReady;
  static constexpr Result kOutOfMemory = cuda::kOutOfMemory;
  static constexpr unsigned kStreamNonBlocking = cuda::kStreamNonBlocking;
  static constexpr unsigned kEventDisableTiming = cuda::kEventDisableTiming;
  static constexpr unsigned kHostPortable = cuda::kHostPortable;

  explicit CudaDriver(const SharedLibrary& library) : library_(library) {}

 private:
  const SharedLibrary& library_;
  Symbol<fn::cuGetErrorName> getErrorName{library_, "cuGetErrorName"};
  Symbol<fn::cuGetErrorString> getErrorString{library_, "cuGetErrorString"};
  Symbol<fn::cuDeviceGetUuid> deviceGetUuid{library_, "cuDeviceGetUuid"};
  Symbol<fn::cuDeviceGetUuid_v2> deviceGetUuid2{library_, "cuDeviceGetUuid_v2"};
  Symbol<fn::cuDevicePrimaryCtxRetain> primaryCtxRetain{library_, "cuDevicePrimaryCtxRetain"};
  Symbol<fn::cuCtxSetCurrent> ctxSetCurrent{library_, "cuCtxSetCurrent"};

 public:
  Symbol<fn::cuInit> init{library_, "cuInit"};
  Symbol<fn::cuDriverGetVersion> driverGetVersion{library_, "cuDriverGetVersion"};
  Symbol<fn::cuDeviceGetCount> deviceGetCount{library_, "cuDeviceGetCount"};
  Symbol<fn::cuDeviceGet> deviceGet{library_, "cuDeviceGet"};
  Symbol<fn::cuDeviceGetName> deviceGetName{library_, "cuDeviceGetName"};
  Symbol<fn::cuDeviceGetPCIBusId> deviceGetBusId{library_, "cuDeviceGetPCIBusId"};
  Symbol<fn::cuDeviceTotalMem_v2> deviceTotalMem{library_, "cuDeviceTotalMem_v2"};
  Symbol<fn::cuDeviceCanAccessPeer> deviceCanAccessPeer{library_, "cuDeviceCanAccessPeer"};
  Symbol<fn::cuMemAlloc_v2> memAlloc{library_, "cuMemAlloc_v2"};
  Symbol<fn::cuMemFree_v2> memFree{library_, "cuMemFree_v2"};
  Symbol<fn::cuMemHostAlloc> hostAlloc{library_, "cuMemHostAlloc"};
  Symbol<fn::cuMemFreeHost> hostFree{library_, "cuMemFreeHost"};
  Symbol<fn::cuPointerGetAttribute> pointerGetAttribute{library_, "cuPointerGetAttribute"};
  Symbol<fn::cuStreamCreate> streamCreate{library_, "cuStreamCreate"};
  Symbol<fn::cuStreamDestroy_v2> streamDestroy{library_, "cuStreamDestroy_v2"};
  Symbol<fn::cuStreamQuery> streamQuery{library_, "cuStreamQuery"};
  Symbol<fn::cuStreamWaitEvent> streamWaitEvent{library_, "cuStreamWaitEvent"};
  Symbol<fn::cuEventCreate> eventCreate{library_, "cuEventCreate"};
  Symbol<fn::cuEventDestroy_v2> eventDestroy{library_, "cuEventDestroy_v2"};
  Symbol<fn::cuEventRecord> eventRecord{library_, "cuEventRecord"};
  Symbol<fn::cuEventQuery> eventQuery{library_, "cuEventQuery"};
  Symbol<fn::cuMemcpyHtoDAsync_v2> copyToDevice{library_, "cuMemcpyHtoDAsync_v2"};
  Symbol<fn::cuMemcpyDtoHAsync_v2> copyToHost{library_, "cuMemcpyDtoHAsync_v2"};
  Symbol<fn::cuMemcpyDtoDAsync_v2> copyOnDevice{library_, "cuMemcpyDtoDAsync_v2"};

  static Pointer pointer(DevicePtr address) { return address; }
  static DevicePtr address(Pointer pointer) { return static_cast<DevicePtr>(pointer); }

  // 12040 is 12.4.
  static std::string versionText(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  }
  void setVersion(int) {}
  void setDevices(int count) { contexts_ = std::vector<std::atomic<cuda::Context>>(count); }

  // The primary context is the one that CUDA's runtime, PyTorch and NCCL use. It is retained once and never
  // released: other users in this process could not tell it from their own.
  template <typename Call>
  void makeCurrent(int device, const Call& call) {
    cuda::Context context = contexts_[device].load(std::memory_order_acquire);
    if (context == nullptr) {
      const std::lock_guard lock(mutex_);
      context = contexts_[device].load(std::memory_order_relaxed);
      if (context == nullptr) {
        Device handle = 0;
        call(deviceGet, &handle, device);
        call(primaryCtxRetain, &context, handle);
        contexts_[device].store(context, std::memory_order_release);
      }
    }
    call(ctxSetCurrent, context);
  }

  // The second version tells a part of a device (MIG) from the whole.
  std::string uuid(Device device) const {
    cuda::Uuid whole{};
    if (!deviceGetUuid || deviceGetUuid.address(&whole, device) != kSuccess) return {};
    cuda::Uuid part = whole;
    if (deviceGetUuid2) deviceGetUuid2.address(&part, device);
    const bool same = std::memcmp(whole.bytes, part.bytes, sizeof(part.bytes)) == 0;
    const std::string text = uuidText(part.bytes);
    return text.empty() ? text : (same ? "GPU-" : "MIG-") + text;
  }

  // False if it is no device memory.
  bool locate(DevicePtr memory, int& device, size_t& bytes) const {
    unsigned kind = 0;
    int ordinal = -1;
    Pointer start = 0;
    size_t size = 0;
    if (!ask(cuda::kAttributeMemoryType, &kind, memory) || kind != cuda::kMemoryDevice) return false;
    if (!ask(cuda::kAttributeDeviceOrdinal, &ordinal, memory)) return false;
    if (!ask(cuda::kAttributeRangeStart, &start, memory)) return false;
    if (!ask(cuda::kAttributeRangeSize, &size, memory)) return false;
    device = ordinal;
    bytes = address(start) + size - memory;
    return true;
  }

  void forget() const {}

  std::string resultText(Result result) const {
    const char* name = nullptr;
    const char* text = nullptr;
    if (getErrorName) getErrorName.address(result, &name);
    if (getErrorString) getErrorString.address(result, &text);
    if (name == nullptr) return "CUDA error " + std::to_string(result);
    return text == nullptr ? name : std::string(name) + " (" + text + ")";
  }

  static std::string visibility() { return settingsText({"CUDA_VISIBLE_DEVICES"}); }

  static std::string advice(Result result) {
    switch (result) {
      case cuda::kOutOfMemory:
        return "; other processes or buffers fill the device's memory (nvidia-smi shows whose)";
      case cuda::kNoDevice:
        return "; this process has no CUDA-capable device" + visibility();
      case cuda::kInvalidDevice:
        return "; CUDA_VISIBLE_DEVICES may name a device that is not there" + visibility();
      case cuda::kStubLibrary:
        return "; this is the toolkit's stub for linking: remove its folder from LD_LIBRARY_PATH";
      case cuda::kSystemDriverMismatch:
        return "; the driver's library and its kernel module differ in version: load the new module (reboot)";
      case cuda::kCompatNotSupported:
        return "; a forward-compatibility driver does not work with this device: remove it from "
               "LD_LIBRARY_PATH";
      case cuda::kSystemNotReady:
        return "; the machine's fabric is not up: see that nvidia-fabricmanager runs";
      case cuda::kDeviceUnavailable:
        return "; another process has the device for itself (compute mode)";
      case cuda::kOperatingSystem:
        return "; /dev/nvidia* may be missing or unreadable here (a container without the device?)";
      case cuda::kEccUncorrectable:
      case cuda::kIllegalAddress:
        return "; the device cannot be used by this process any more: end it";
      default:
        return {};
    }
  }

 private:
  template <typename Value>
  bool ask(cuda::Attribute attribute, Value* value, DevicePtr memory) const {
    return pointerGetAttribute.address(value, attribute, memory) == kSuccess;
  }

  std::mutex mutex_;
  std::vector<std::atomic<cuda::Context>> contexts_;
};

}  // namespace

std::shared_ptr<DeviceRuntime> loadCuda(const RuntimeOptions& options, std::vector<LoadAttempt>* attempts) {
  LibraryQuery query;
  query.what = "the CUDA driver";
  query.explicitPath = options.cudaPath;
  query.variables = {"NODE_COLLECTIVES_CUDA_PATH"};
  query.names = {"libcuda.so.1"};
  query.files = cudaPlaces();
  query.symbol = "cuInit";
  return std::make_shared<DriverRuntime<CudaDriver>>(SharedLibrary::load(query, attempts));
}

}  // namespace nc::nccl
