// What is found of GPUs, without using any, and how what is not found is told.
#include "nccl/probe.h"

#include <doctest/doctest.h>

#include "library_support.h"

using namespace nc;
using namespace nc::nccl;
using namespace nc::nccl::test;

TEST_CASE("a machine with two devices and NCCL") {
  const std::string file = libraryPath("fake_nccl_22203");
  const DeviceProbe found =
      probeDevices({{libraryPath("fake_cuda"), "/nowhere/hip.so"}, file, libraryPath("other")});
  CHECK(found.cuda.library.loaded);
  CHECK(found.cuda.library.error.empty());
  CHECK(found.cuda.library.path == libraryPath("fake_cuda"));
  CHECK(found.cuda.library.source == "option");
  CHECK(found.cuda.library.version == "12.4");
  REQUIRE(found.cuda.devices.size() == 2);
  CHECK(found.cuda.devices[1].name == "Fake 41");
  CHECK(found.cuda.peers == std::vector<std::vector<bool>>{{true, true}, {false, true}});
  CHECK(found.nccl.loaded);
  CHECK(found.nccl.version == "2.22.3");
  CHECK(found.nccl.path == file);

  CHECK_FALSE(found.hip.library.loaded);
  CHECK(found.hip.devices.empty());
  REQUIRE(found.hip.library.attempts.size() == 1);
  CHECK(found.hip.library.attempts[0].reason == "No such file or directory (ENOENT)");
  CHECK(found.hip.library.error.starts_with("the HIP driver could not be loaded; tried"));
  CHECK_FALSE(found.rccl.loaded);
  CHECK(found.rccl.error.find("another library") != std::string::npos);
}

TEST_CASE("a driver that is there and does not start") {
  const Variable init("FAKE_CUDA_INIT", "100");
  const DeviceProbe found = probeDevices({{libraryPath("fake_cuda"), {}}, {}, {}});
  CHECK(found.cuda.library.loaded);
  CHECK(found.cuda.library.path == libraryPath("fake_cuda"));
  CHECK(found.cuda.library.error.find("CUDA_ERROR_NO_DEVICE") != std::string::npos);
  CHECK(found.cuda.devices.empty());
  CHECK(found.cuda.peers.empty());
}

TEST_CASE("variables name the drivers' files") {
  const Variable cuda("NODE_COLLECTIVES_CUDA_PATH", libraryPath("fake_cuda"));
  const Variable hip("NODE_COLLECTIVES_HIP_PATH", libraryPath("other"));
  const DeviceProbe found = probeDevices({});
  CHECK(found.cuda.library.source == "NODE_COLLECTIVES_CUDA_PATH");
  CHECK(found.cuda.devices.size() == 2);
  REQUIRE(found.hip.library.attempts.size() == 1);
  CHECK(found.hip.library.attempts[0].source == "NODE_COLLECTIVES_HIP_PATH");
}
