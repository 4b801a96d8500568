// The communicator of a group, made while the group forms.
#pragma once

#include <memory>
#include <string>

#include "nccl/communicator.h"
#include "nccl/device_runtime.h"
#include "nccl/nccl_api.h"
#include "rendezvous/join.h"

namespace nc::group {

struct DeviceOptions {
  int index = 0;
  nccl::RuntimeOptions runtime;
  nccl::NcclOptions nccl;
};

// What a group's device and library are, for info().
struct DeviceFacts {
  std::string libraryName;  // "NCCL", "RCCL"
  std::string libraryVersion;
  std::string libraryPath;
  std::string platform;  // "cuda", "rocm"
  nccl::DeviceInfo device;
};

class DeviceCompanion final : public rendezvous::Companion {
 public:
  DeviceCompanion(DeviceOptions options, int rank, int size);

  rendezvous::Settings describe(const std::function<void()>& look) override;
  void check(const std::vector<rendezvous::Member>& members) override;
  void connect(const std::function<void()>& look) override;

  // Once connected.
  std::unique_ptr<nccl::Communicator> take() { return std::move(communicator_); }
  const DeviceFacts& facts() const { return facts_; }

 private:
  DeviceOptions options_;
  int rank_;
  int size_;
  std::shared_ptr<nccl::DeviceRuntime> runtime_;
  std::shared_ptr<nccl::NcclApi> api_;
  DeviceFacts facts_;
  nccl::UniqueId id_{};
  std::unique_ptr<nccl::Communicator> communicator_;
};

}  // namespace nc::group
