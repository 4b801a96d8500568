#include "nccl/libraries.h"

#include <array>
#include <cstdlib>
#include <string>
#include <utility>

#include "core/error.h"

namespace nc::nccl {

namespace {

bool given(const std::string& option, const char* variable) {
  if (!option.empty()) return true;
  const char* const value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

std::shared_ptr<DeviceRuntime> usable(std::shared_ptr<DeviceRuntime> runtime) {
  if (runtime->deviceCount() > 0) return runtime;
  const bool cuda = runtime->platform() == Platform::kCuda;
  throw Error(ErrorCode::kBackendUnavailable,
              std::string(cuda ? "CUDA" : "HIP") + " (" + runtime->library().path() +
                  ") sees no device in this process; is " +
                  (cuda ? "CUDA_VISIBLE_DEVICES" : "HIP_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES") +
                  " set to nothing?");
}

}  // namespace

std::shared_ptr<DeviceRuntime> loadRuntime(const RuntimeOptions& options) {
  using Load = std::shared_ptr<DeviceRuntime> (*)(const RuntimeOptions&, std::vector<LoadAttempt>*);
  std::array<Load, 2> loaders{&loadCuda, &loadHip};
  const bool hip = given(options.hipPath, "NODE_COLLECTIVES_HIP_PATH");
  if (hip && !given(options.cudaPath, "NODE_COLLECTIVES_CUDA_PATH")) std::swap(loaders[0], loaders[1]);
  std::string reasons;
  for (const Load load : loaders) {
    try {
      return usable(load(options, nullptr));
    } catch (const Error& error) {
      if (error.code != ErrorCode::kBackendUnavailable) throw;
      reasons += std::string(reasons.empty() ? "" : "; ") + error.what();
    }
  }
  throw Error(ErrorCode::kBackendUnavailable, "no GPU can be used here: " + reasons);
}

std::shared_ptr<NcclApi> loadNcclFor(const DeviceRuntime& runtime, const NcclOptions& options) {
  return loadNccl(runtime.platform() == Platform::kCuda ? Flavour::kNccl : Flavour::kRccl, options);
}

void checkDevice(DeviceRuntime& runtime, int device) {
  const int count = runtime.deviceCount();
  if (device >= 0 && device < count) return;
  throw Error(ErrorCode::kInvalidArgument, "there is no device " + std::to_string(device) +
                                               "; this process may use " + std::to_string(count) +
                                               (count == 1 ? " device" : " devices") + ", numbered from 0");
}

}  // namespace nc::nccl
