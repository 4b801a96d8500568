// DeviceRuntime over a driver: what CUDA and HIP have in common, which is nearly all. The parameter
// (CudaDriver in cuda_runtime.cpp, HipDriver in hip_runtime.cpp) has the functions' symbols under common
// names and what really differs: making a device current, naming a device, memory kinds.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "core/error.h"
#include "nccl/device_runtime.h"
#include "nccl/driver_text.h"
#include "nccl/symbol.h"

namespace nc::nccl {

template <typename Driver>
class DriverRuntime final : public DeviceRuntime {
 public:
  explicit DriverRuntime(std::shared_ptr<SharedLibrary> library)
      : library_(std::move(library)), driver_(*library_) {
    int version = 0;
    // Neither needs the driver to work; what fails comes out below.
    if (driver_.driverGetVersion) driver_.driverGetVersion.address(&version);
    version_ = Driver::versionText(version);
    if (version != 0) driver_.setVersion(version);
    const typename Driver::Result result = need(driver_.init)(0);
    if (result != Driver::kSuccess) throw unavailable(result);
    call("counting devices", driver_.deviceGetCount, &count_);
    driver_.setDevices(count_);
  }

  Platform platform() const override { return Driver::kPlatform; }
  const SharedLibrary& library() const override { return *library_; }
  std::string version() const override { return version_; }
  int deviceCount() override { return count_; }

  DeviceInfo describe(int device) override {
    DeviceInfo info;
    info.index = device;
    const typename Driver::Device handle = handleOf(device);
    char text[256] = {};
    call("naming device", device, driver_.deviceGetName, text, static_cast<int>(sizeof(text) - 1), handle);
    info.name = text;
    std::memset(text, 0, sizeof(text));
    call("asking for the bus id of device", device, driver_.deviceGetBusId, text,
         static_cast<int>(sizeof(text) - 1), handle);
    info.busId = busIdText(text);
    size_t bytes = 0;
    call("asking for the memory of device", device, driver_.deviceTotalMem, &bytes, handle);
    info.memoryBytes = bytes;
    info.uuid = driver_.uuid(handle);
    return info;
  }

  bool canAccessPeer(int device, int peer) override {
    int can = 0;
    call("asking for peer access of device", device, driver_.deviceCanAccessPeer, &can, handleOf(device),
         handleOf(peer));
    return can != 0;
  }

  void use(int device) override {
    checkIndex(device);
    driver_.makeCurrent(device, [this, device](const auto& symbol, auto... arguments) {
      this->call("making current device", device, symbol, arguments...);
    });
  }

  DevicePtr allocate(int device, size_t bytes) override {
    use(device);
    typename Driver::Pointer memory{};
    call("allocating " + std::to_string(bytes) + " bytes on device", device, driver_.memAlloc, &memory,
         bytes);
    return Driver::address(memory);
  }

  void free(int device, DevicePtr memory) override {
    use(device);
    call("freeing memory of device", device, driver_.memFree, Driver::pointer(memory));
  }

  void locate(DevicePtr memory, int& device, size_t& bytes) override {
    need(driver_.pointerGetAttribute);
    if (!driver_.locate(memory, device, bytes)) {
      throw Error(ErrorCode::kInvalidArgument, "address " + addressText(memory) + " is no memory of a " +
                                                   Driver::kVendor + " device that this process may use");
    }
  }

  void* allocatePinned(int device, size_t bytes) override {
    use(device);
    void* memory = nullptr;
    call("allocating " + std::to_string(bytes) + " bytes of pinned host memory with device", device,
         driver_.hostAlloc, &memory, bytes, Driver::kHostPortable);
    return memory;
  }

  void freePinned(int device, void* memory) override {
    use(device);
    call("freeing pinned host memory with device", device, driver_.hostFree, memory);
  }

  StreamHandle makeStream(int device) override {
    use(device);
    typename Driver::Stream stream{};
    call("making a stream on device", device, driver_.streamCreate, &stream, Driver::kStreamNonBlocking);
    return stream;
  }

  void destroyStream(int device, StreamHandle stream) override {
    use(device);
    call("destroying a stream of device", device, driver_.streamDestroy, asStream(stream));
  }

  EventHandle makeEvent(int device) override {
    use(device);
    typename Driver::Event event{};
    call("making an event on device", device, driver_.eventCreate, &event, Driver::kEventDisableTiming);
    return event;
  }

  void destroyEvent(int device, EventHandle event) override {
    use(device);
    call("destroying an event of device", device, driver_.eventDestroy, asEvent(event));
  }

  void record(int device, EventHandle event, StreamHandle stream) override {
    use(device);
    call("recording an event on device", device, driver_.eventRecord, asEvent(event), asStream(stream));
  }

  void wait(int device, StreamHandle stream, EventHandle event) override {
    use(device);
    call("making a stream wait on device", device, driver_.streamWaitEvent, asStream(stream), asEvent(event),
         0U);
  }

  bool done(int device, EventHandle event) override {
    use(device);
    return ready("waiting for an event of device", device, driver_.eventQuery, asEvent(event));
  }

  bool idle(int device, StreamHandle stream) override {
    use(device);
    return ready("waiting for a stream of device", device, driver_.streamQuery, asStream(stream));
  }

  void copyToDevice(int device, DevicePtr to, const void* host, size_t bytes, StreamHandle stream) override {
    use(device);
    call("copying to device", device, driver_.copyToDevice, Driver::pointer(to), host, bytes,
         asStream(stream));
  }

  void copyToHost(int device, void* host, DevicePtr from, size_t bytes, StreamHandle stream) override {
    use(device);
    call("copying from device", device, driver_.copyToHost, host, Driver::pointer(from), bytes,
         asStream(stream));
  }

  void copyOnDevice(int device, DevicePtr to, DevicePtr from, size_t bytes, StreamHandle stream) override {
    use(device);
    call("copying on device", device, driver_.copyOnDevice, Driver::pointer(to), Driver::pointer(from), bytes,
         asStream(stream));
  }

 private:
  static typename Driver::Stream asStream(StreamHandle stream) {
    return static_cast<typename Driver::Stream>(stream);
  }
  static typename Driver::Event asEvent(EventHandle event) {
    return static_cast<typename Driver::Event>(event);
  }
  static std::string driverName() { return "the " + std::string(Driver::kVendor) + " driver"; }
  std::string titled() const { return version_.empty() ? driverName() : driverName() + " " + version_; }

  // Indexes come from callers' options; the driver's own check would be a crash in some versions.
  void checkIndex(int device) const {
    if (device >= 0 && device < count_) return;
    throw Error(ErrorCode::kInvalidArgument, "there is no device " + std::to_string(device) + ": " +
                                                 driverName() + " shows " + std::to_string(count_) +
                                                 " to this process" + Driver::visibility());
  }

  typename Driver::Device handleOf(int device) {
    checkIndex(device);
    typename Driver::Device handle{};
    call("finding device", device, driver_.deviceGet, &handle, device);
    return handle;
  }

  template <typename Signature>
  Signature* need(const Symbol<Signature>& symbol) const {
    if (symbol) return symbol.address;
    throw Error(ErrorCode::kUnsupported, std::string(symbol.name) + ": unsupported by " + driverName() + " " +
                                             version_ + " (" + library_->path() + ")");
  }

  template <typename Signature, typename... Arguments>
  void call(const std::string& what, const Symbol<Signature>& symbol, Arguments... arguments) {
    const typename Driver::Result result = need(symbol)(arguments...);
    if (result != Driver::kSuccess) throw failure(what, symbol.name, result);
  }

  template <typename Signature, typename... Arguments>
  void call(const std::string& what, int device, const Symbol<Signature>& symbol, Arguments... arguments) {
    const typename Driver::Result result = need(symbol)(arguments...);
    if (result != Driver::kSuccess) throw failure(what + " " + std::to_string(device), symbol.name, result);
  }

  template <typename Signature, typename Argument>
  bool ready(const char* what, int device, const Symbol<Signature>& symbol, Argument argument) {
    const typename Driver::Result result = need(symbol)(argument);
    if (result == Driver::kSuccess) return true;
    if (result != Driver::kNotReady)
      throw failure(std::string(what) + " " + std::to_string(device), symbol.name, result);
    driver_.forget();
    return false;
  }

  Error failure(const std::string& what, const char* function, typename Driver::Result result) {
    driver_.forget();
    const bool memory = result == Driver::kOutOfMemory;
    return {memory ? ErrorCode::kResource : ErrorCode::kDevice,
            what + ": " + function + " failed with " + driver_.resultText(result) + Driver::advice(result)};
  }

  Error unavailable(typename Driver::Result result) {
    driver_.forget();
    return {ErrorCode::kBackendUnavailable, titled() + " (" + library_->path() +
                                                ") cannot be used: " + driver_.init.name + " failed with " +
                                                driver_.resultText(result) + Driver::advice(result)};
  }

  std::shared_ptr<SharedLibrary> library_;
  Driver driver_;
  std::string version_;
  int count_ = 0;
};

}  // namespace nc::nccl
