// What this process could use of GPUs, found without using any: no context is made, nothing is allocated. For
// `doctor`, and for choosing a backend.
#pragma once

#include <string>
#include <vector>

#include "nccl/device_runtime.h"
#include "nccl/nccl_api.h"
#include "nccl/shared_library.h"

namespace nc::nccl {

struct LibraryProbe {
  bool loaded = false;                // a file was found and loaded; what `error` says came after
  std::string error;                  // why it cannot be used; empty if it can
  std::string path;                   // of the file that was loaded
  std::string source;                 // which part of the search found it, as in LoadAttempt
  std::string version;                // "12.4", "2.22.3"; empty where it could not be asked
  std::vector<LoadAttempt> attempts;  // in order; the last one is the file that was loaded, if one was
};

struct DriverProbe {
  LibraryProbe library;
  std::vector<DeviceInfo> devices;
  std::vector<std::vector<bool>> peers;  // peers[a][b]: a can reach b's memory; a device reaches its own
};

struct DeviceProbe {
  DriverProbe cuda;
  DriverProbe hip;
  LibraryProbe nccl;
  LibraryProbe rccl;
};

struct ProbeOptions {
  RuntimeOptions runtime;
  std::string ncclPath;
  std::string rcclPath;
};

// Never throws for what it finds or does not find. Blocks for as long as the drivers take to start, which can
// be seconds.
DeviceProbe probeDevices(const ProbeOptions& options);

}  // namespace nc::nccl
