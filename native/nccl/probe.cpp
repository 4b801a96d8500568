#include "nccl/probe.h"

#include <memory>

#include "core/error.h"

namespace nc::nccl {

namespace {

// Runs a loader and writes down how it went; nullptr where it failed.
template <typename Load>
auto attempt(LibraryProbe& out, const Load& load) -> decltype(load(&out.attempts)) {
  try {
    auto loaded = load(&out.attempts);
    out.loaded = true;
    out.path = loaded->library().path();
    out.source = loaded->library().source();
    return loaded;
  } catch (const Error& error) {
    out.error = error.what();
  }
  // The search ends with the file it took: one that was loaded and then did not start.
  if (!out.attempts.empty() && out.attempts.back().reason.empty()) {
    out.loaded = true;
    out.path = out.attempts.back().path;
    out.source = out.attempts.back().source;
  }
  return nullptr;
}

template <typename Load>
DriverProbe probeDriver(const Load& load) {
  DriverProbe out;
  const std::shared_ptr<DeviceRuntime> runtime = attempt(out.library, load);
  if (!runtime) return out;
  out.library.version = runtime->version();
  try {
    const int count = runtime->deviceCount();
    for (int device = 0; device < count; ++device) out.devices.push_back(runtime->describe(device));
    for (int device = 0; device < count; ++device) {
      std::vector<bool>& row = out.peers.emplace_back();
      for (int peer = 0; peer < count; ++peer)
        row.push_back(peer == device || runtime->canAccessPeer(device, peer));
    }
  } catch (const Error& error) {
    out.library.error = error.what();
  }
  return out;
}

LibraryProbe probeNccl(Flavour flavour, const std::string& path) {
  LibraryProbe out;
  const auto api =
      attempt(out, [&](std::vector<LoadAttempt>* attempts) { return loadNccl(flavour, {path}, attempts); });
  if (api) out.version = api->versionText();
  return out;
}

}  // namespace

DeviceProbe probeDevices(const ProbeOptions& options) {
  DeviceProbe out;
  out.cuda =
      probeDriver([&](std::vector<LoadAttempt>* attempts) { return loadCuda(options.runtime, attempts); });
  out.hip =
      probeDriver([&](std::vector<LoadAttempt>* attempts) { return loadHip(options.runtime, attempts); });
  out.nccl = probeNccl(Flavour::kNccl, options.ncclPath);
  out.rccl = probeNccl(Flavour::kRccl, options.rcclPath);
  return out;
}

}  // namespace nc::nccl
