#include "nccl/device_runtime.h"

namespace nc::nccl {

const char* name(Platform platform) noexcept {
  return platform == Platform::kCuda ? "cuda" : "rocm";
}

}  // namespace nc::nccl
