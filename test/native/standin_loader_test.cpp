// The addon's own loaders (native/nccl) over the stand-ins: what they call, the way they call it.
#include "core/error.h"
#include "nccl/device_runtime.h"
#include "nccl/nccl_api.h"
#include "standin_support.h"

using namespace standin_test;

namespace {

std::string path(const char* file) {
  return std::string(NC_STANDIN_DIR) + "/" + file;
}

// One rank alone goes through everything a group does with device memory.
void oneRank(nc::nccl::DeviceRuntime& devices, nc::nccl::NcclApi& nccl) {
  const auto device = devices.deviceCount() - 1;
  const nc::nccl::DeviceInfo info = devices.describe(device);
  REQUIRE_CHILD(contains(info.name, "stand-in"));
  REQUIRE_CHILD(info.uuid.rfind("GPU-", 0) == 0);
  REQUIRE_CHILD(contains(info.busId, ":17:00.0"));
  REQUIRE_CHILD(info.memoryBytes == uint64_t{80} << 30);
  REQUIRE_CHILD(devices.canAccessPeer(0, device));
  devices.use(device);
  const auto memory = devices.allocate(device, 4096);
  int where = -1;
  size_t left = 0;
  devices.locate(memory + 96, where, left);
  REQUIRE_CHILD(where == device);
  REQUIRE_CHILD(left == 4000);
  bool refused = false;
  try {
    devices.locate(reinterpret_cast<uintptr_t>(&where), where, left);
  } catch (const nc::Error&) {
    refused = true;
  }
  REQUIRE_CHILD(refused);
  auto* const pinned = static_cast<float*>(devices.allocatePinned(device, 4096));
  for (int i = 0; i < 1024; ++i) pinned[i] = static_cast<float>(i);
  void* const stream = devices.makeStream(device);
  void* const event = devices.makeEvent(device);
  void* const comm = nccl.init(1, nccl.uniqueId(), 0);
  const auto settle = [&] {
    while (!nccl.ready(comm)) std::this_thread::sleep_for(std::chrono::microseconds(100));
  };
  settle();
  devices.copyToDevice(device, memory, pinned, 4096, stream);
  nccl.allReduce(memory, memory, 1024, nc::DType::kFloat32, nc::ReduceOp::kSum, comm, stream);
  settle();
  devices.copyToHost(device, pinned, memory, 4096, stream);
  devices.record(device, event, stream);
  while (!devices.done(device, event)) std::this_thread::sleep_for(std::chrono::microseconds(100));
  REQUIRE_CHILD(pinned[1023] == 1023.0f);
  REQUIRE_CHILD(devices.idle(device, stream));
  nccl.finalize(comm);
  settle();
  nccl.destroy(comm);
  devices.destroyEvent(device, event);
  devices.destroyStream(device, stream);
  devices.freePinned(device, pinned);
  devices.free(device, memory);
}

const Env kStrict{{"NC_STANDIN_STRICT_EXIT", "1"}};

}  // namespace

TEST_CASE("CUDA and every version of NCCL") {
  for (const char* driver : {"libcuda.so.1", "libcuda-11.0.so.1"}) {
    for (const char* file : {"libnccl-2.9.so.2", "libnccl-2.10.so.2", "libnccl.so.2", "libnccl-2.29.so.2"}) {
      CAPTURE(driver);
      CAPTURE(file);
      checkChild(
          [&] {
            const auto devices = nc::nccl::loadCuda({path(driver), ""});
            const auto nccl = nc::nccl::loadNccl(nc::nccl::Flavour::kNccl, {path(file)});
            oneRank(*devices, *nccl);
          },
          kStrict);
    }
  }
}

TEST_CASE("HIP and every version of RCCL") {
  for (const char* driver : {"libamdhip64.so.6", "libamdhip64.so.5"}) {
    for (const char* file : {"librccl.so.1", "librccl-2.13.so.1"}) {
      CAPTURE(driver);
      CAPTURE(file);
      checkChild(
          [&] {
            const auto devices = nc::nccl::loadHip({"", path(driver)});
            const auto rccl = nc::nccl::loadNccl(nc::nccl::Flavour::kRccl, {path(file)});
            oneRank(*devices, *rccl);
          },
          kStrict);
    }
  }
}
