// HIP's runtime for AMD devices (libamdhip64.so).
#include <cstring>
#include <memory>
#include <string>

#include "nccl/driver_runtime.h"
#include "nccl/hip_abi.h"
#include "nccl/library_places.h"

namespace nc::nccl {

namespace {

namespace fn = hip::fn;

class HipDriver {
 public:
  using Result = hip::Result;
  using Device = hip::Device;
  using Pointer = hip::Pointer;
  using Stream = hip::Stream;
  using Event = hip::Event;
  static constexpr Platform kPlatform = Platform::kRocm;
  static constexpr const char* kVendor = "HIP";
  static constexpr Result kSuccess = hip::kSuccess;
  static constexpr Result kNotReady = hip::kNotReady;
  static constexpr Result kOutOfMemory = hip::kOutOfMemory;
  static constexpr unsigned kStreamNonBlocking = hip::kStreamNonBlocking;
  static constexpr unsigned kEventDisableTiming = hip::kEventDisableTiming;
  static constexpr unsigned kHostPortable = hip::kHostPortable;

  explicit HipDriver(const SharedLibrary& library) : library_(library) {}

 private:
  const SharedLibrary& library_;
  Symbol<fn::hipGetErrorName> getErrorName{library_, "hipGetErrorName"};
  Symbol<fn::hipGetErrorString> getErrorString{library_, "hipGetErrorString"};
  Symbol<fn::hipGetLastError> getLastError{library_, "hipGetLastError"};
  Symbol<fn::hipDeviceGetUuid> deviceGetUuid{library_, "hipDeviceGetUuid"};
  Symbol<fn::hipSetDevice> setDevice{library_, "hipSetDevice"};
  Symbol<fn::hipMemGetAddressRange> memGetAddressRange{library_, "hipMemGetAddressRange"};

 public:
  Symbol<fn::hipInit> init{library_, "hipInit"};
  Symbol<fn::hipRuntimeGetVersion> driverGetVersion{library_, "hipRuntimeGetVersion"};
  Symbol<fn::hipGetDeviceCount> deviceGetCount{library_, "hipGetDeviceCount"};
  Symbol<fn::hipDeviceGet> deviceGet{library_, "hipDeviceGet"};
  Symbol<fn::hipDeviceGetName> deviceGetName{library_, "hipDeviceGetName"};
  Symbol<fn::hipDeviceGetPCIBusId> deviceGetBusId{library_, "hipDeviceGetPCIBusId"};
  Symbol<fn::hipDeviceTotalMem> deviceTotalMem{library_, "hipDeviceTotalMem"};
  Symbol<fn::hipDeviceCanAccessPeer> deviceCanAccessPeer{library_, "hipDeviceCanAccessPeer"};
  Symbol<fn::hipMalloc> memAlloc{library_, "hipMalloc"};
  Symbol<fn::hipFree> memFree{library_, "hipFree"};
  Symbol<fn::hipHostMalloc> hostAlloc{library_, "hipHostMalloc"};
  Symbol<fn::hipHostFree> hostFree{library_, "hipHostFree"};
  Symbol<fn::hipPointerGetAttribute> pointerGetAttribute{library_, "hipPointerGetAttribute"};
  Symbol<fn::hipStreamCreateWithFlags> streamCreate{library_, "hipStreamCreateWithFlags"};
  Symbol<fn::hipStreamDestroy> streamDestroy{library_, "hipStreamDestroy"};
  Symbol<fn::hipStreamQuery> streamQuery{library_, "hipStreamQuery"};
  Symbol<fn::hipStreamWaitEvent> streamWaitEvent{library_, "hipStreamWaitEvent"};
  Symbol<fn::hipEventCreateWithFlags> eventCreate{library_, "hipEventCreateWithFlags"};
  Symbol<fn::hipEventDestroy> eventDestroy{library_, "hipEventDestroy"};
  Symbol<fn::hipEventRecord> eventRecord{library_, "hipEventRecord"};
  Symbol<fn::hipEventQuery> eventQuery{library_, "hipEventQuery"};
  Symbol<fn::hipMemcpyHtoDAsync> copyToDevice{library_, "hipMemcpyHtoDAsync"};
  Symbol<fn::hipMemcpyDtoHAsync> copyToHost{library_, "hipMemcpyDtoHAsync"};
  Symbol<fn::hipMemcpyDtoDAsync> copyOnDevice{library_, "hipMemcpyDtoDAsync"};

  static Pointer pointer(DevicePtr address) {
    return reinterpret_cast<Pointer>(address);  // NOLINT(performance-no-int-to-ptr): never followed here
  }
  static DevicePtr address(Pointer pointer) { return reinterpret_cast<DevicePtr>(pointer); }

  // 60241133 is 6.2; the rest numbers the build.
  static std::string versionText(int version) {
    return std::to_string(version / 10000000) + "." + std::to_string(version % 10000000 / 100000);
  }
  void setVersion(int version) {
    memoryDevice_ = version / 10000000 < 6 ? hip::kMemoryDevice5 : hip::kMemoryDevice6;
  }
  void setDevices(int) {}

  template <typename Call>
  void makeCurrent(int device, const Call& call) const {
    call(setDevice, device);
  }

  // ROCm's own identity of a device is text of 16 letters ("GPU-5f3a…" without the prefix), not bytes.
  std::string uuid(Device device) const {
    hip::Uuid answer{};
    if (!deviceGetUuid || deviceGetUuid.address(&answer, device) != kSuccess) {
      forget();
      return {};
    }
    std::string text(answer.bytes, ::strnlen(answer.bytes, sizeof(answer.bytes)));
    const bool printable = text.find_first_not_of("0123456789abcdefABCDEFXx") == std::string::npos;
    if (text.empty() || !printable) {
      text = uuidText(answer.bytes);
    } else if (text.find_first_not_of("Xx") == std::string::npos) {
      return {};  // "XX" is what ROCr says of every device that has none
    }
    return text.empty() ? text : "GPU-" + text;
  }

  bool locate(DevicePtr memory, int& device, size_t& bytes) const {
    unsigned kind = 0;
    int ordinal = -1;
    Pointer start = nullptr;
    size_t size = 0;
    const bool found = ask(hip::kAttributeMemoryType, &kind, memory) && kind == memoryDevice_ &&
                       ask(hip::kAttributeDeviceOrdinal, &ordinal, memory) && memGetAddressRange &&
                       memGetAddressRange.address(&start, &size, pointer(memory)) == kSuccess;
    if (!found) {
      forget();
      return false;
    }
    device = ordinal;
    bytes = address(start) + size - memory;
    return true;
  }

  // HIP keeps a thread's last failure, "not ready" included, until somebody asks; RCCL would take it for one
  // of its own.
  void forget() const {
    if (getLastError) getLastError.address();
  }

  std::string resultText(Result result) const {
    const char* const name = getErrorName ? getErrorName.address(result) : nullptr;
    const char* const text = getErrorString ? getErrorString.address(result) : nullptr;
    if (name == nullptr) return "HIP error " + std::to_string(result);
    return text == nullptr ? name : std::string(name) + " (" + text + ")";
  }

  static std::string visibility() {
    return settingsText({"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"});
  }

  static std::string advice(Result result) {
    switch (result) {
      case hip::kOutOfMemory:
        return "; other processes or buffers fill the device's memory (rocm-smi shows whose)";
      case hip::kNoDevice:
        return "; this process has no AMD device, or may not open /dev/kfd and /dev/dri (groups render, "
               "video)" +
               visibility();
      case hip::kInvalidDevice:
        return "; HIP_VISIBLE_DEVICES may name a device that is not there" + visibility();
      case hip::kInsufficientDriver:
        return "; the kernel's amdgpu driver is too old for this library";
      case hip::kIllegalAddress:
        return "; the device cannot be used by this process any more: end it";
      default:
        return {};
    }
  }

 private:
  template <typename Value>
  bool ask(hip::Attribute attribute, Value* value, DevicePtr memory) const {
    return pointerGetAttribute.address(value, attribute, pointer(memory)) == kSuccess;
  }

  unsigned memoryDevice_ = hip::kMemoryDevice6;
};

}  // namespace

std::shared_ptr<DeviceRuntime> loadHip(const RuntimeOptions& options, std::vector<LoadAttempt>* attempts) {
  LibraryQuery query;
  query.what = "the HIP driver";
  query.explicitPath = options.hipPath;
  query.variables = {"NODE_COLLECTIVES_HIP_PATH"};
  query.names = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"};
  query.files = hipPlaces();
  query.symbol = "hipInit";
  return std::make_shared<DriverRuntime<HipDriver>>(SharedLibrary::load(query, attempts));
}

}  // namespace nc::nccl
