// The driver found at run time and asked about its devices, over a driver that is none.
#include "nccl/device_runtime.h"

#include <doctest/doctest.h>

#include "library_support.h"

using namespace nc;
using namespace nc::nccl;
using namespace nc::nccl::test;

namespace {

std::shared_ptr<DeviceRuntime> load() {
  return loadCuda({libraryPath("fake_cuda"), {}});
}

template <typename Function>
Function* function(DeviceRuntime& runtime, const char* name) {
  void* const found = runtime.library().find(name);
  REQUIRE(found != nullptr);
  return reinterpret_cast<Function*>(found);
}

}  // namespace

TEST_CASE("devices are described without a context") {
  const auto runtime = load();
  CHECK(runtime->platform() == Platform::kCuda);
  CHECK(runtime->version() == "12.4");
  CHECK(runtime->deviceCount() == 2);
  const DeviceInfo whole = runtime->describe(0);
  CHECK(whole.index == 0);
  CHECK(whole.name == "Fake 40");
  CHECK(whole.uuid == "GPU-abababab-abab-abab-abab-ababababab28");
  CHECK(whole.busId == "0000:28:00.0");
  CHECK(whole.memoryBytes == uint64_t{80} << 30);
  CHECK(runtime->describe(1).uuid == "MIG-01ababab-abab-abab-abab-ababababab29");
  CHECK(runtime->canAccessPeer(0, 1));
  CHECK_FALSE(runtime->canAccessPeer(1, 0));
  CHECK(function<int()>(*runtime, "fakeCudaContexts")() == 0);
}

TEST_CASE("the primary context is made once and is current before every call") {
  const auto runtime = load();
  const auto current = function<int()>(*runtime, "fakeCudaCurrent");
  runtime->use(1);
  CHECK(current() == 41);
  runtime->use(0);
  CHECK(current() == 40);
  CHECK(runtime->allocate(1, 100) == 0x1000);
  CHECK(current() == 41);
  CHECK(function<int()>(*runtime, "fakeCudaContexts")() == 2);
}

TEST_CASE("a device that is not there is told with what limits the view") {
  const Variable visible("CUDA_VISIBLE_DEVICES", "0,1");
  const auto runtime = load();
  for (const int device : {-1, 2}) {
    const auto error = errorOf([&] { runtime->use(device); });
    CHECK(error->code == ErrorCode::kInvalidArgument);
    CHECK(says(error, "there is no device " + std::to_string(device) + ": the CUDA driver shows 2"));
    CHECK(says(error, "(CUDA_VISIBLE_DEVICES=0,1)"));
  }
}

TEST_CASE("failures have the driver's name for them") {
  const auto runtime = load();
  const auto answer = function<void(int)>(*runtime, "fakeCudaAnswer");
  answer(2);
  const auto memory = errorOf([&] { runtime->allocate(0, 4096); });
  CHECK(memory->code == ErrorCode::kResource);
  CHECK(says(memory,
             "allocating 4096 bytes on device 0: cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY (out of "
             "memory); other processes"));
  answer(700);
  const auto failed = errorOf([&] { runtime->done(0, nullptr); });
  CHECK(failed->code == ErrorCode::kDevice);
  CHECK(says(failed, "cuEventQuery failed with CUDA error 700; the device cannot be used"));
  answer(600);
  CHECK_FALSE(runtime->done(0, nullptr));
  answer(0);
  CHECK(runtime->done(0, nullptr));
}

TEST_CASE("a function the driver lacks is an error where it is used") {
  const auto runtime = load();
  const auto error = errorOf([&] { runtime->makeStream(0); });
  CHECK(error->code == ErrorCode::kUnsupported);
  CHECK(
      says(error, "cuStreamCreate: unsupported by the CUDA driver 12.4 (" + libraryPath("fake_cuda") + ")"));
}

TEST_CASE("addresses are looked up") {
  const auto runtime = load();
  int device = -1;
  size_t bytes = 0;
  runtime->locate(0x1100, device, bytes);
  CHECK(device == 1);
  CHECK(bytes == 0xf00);
  const auto error = errorOf([&] { runtime->locate(0x5000, device, bytes); });
  CHECK(error->code == ErrorCode::kInvalidArgument);
  CHECK(says(error, "address 0x5000 is no memory of a CUDA device"));
}

TEST_CASE("a driver that does not start says why") {
  const Variable init("FAKE_CUDA_INIT", "100");
  const Variable visible("CUDA_VISIBLE_DEVICES", "");
  std::vector<LoadAttempt> attempts;
  const auto error = errorOf([&] { loadCuda({libraryPath("fake_cuda"), {}}, &attempts); });
  CHECK(error->code == ErrorCode::kBackendUnavailable);
  CHECK(says(error, "the CUDA driver 12.4 (" + libraryPath("fake_cuda") +
                        ") cannot be used: cuInit failed with " +
                        "CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected); this process has no"));
  CHECK(says(error, "(CUDA_VISIBLE_DEVICES=\"\")"));
  REQUIRE(attempts.size() == 1);
  CHECK(attempts[0].reason.empty());
}

TEST_CASE("drivers that are not there are told with every attempt") {
  const Variable path("NODE_COLLECTIVES_CUDA_PATH", "/nowhere/libcuda.so.1");
  const Variable hip("NODE_COLLECTIVES_HIP_PATH", libraryPath("other"));
  CHECK(says(
      errorOf([] { loadCuda({}); }),
      "the CUDA driver could not be loaded; tried\n  /nowhere/libcuda.so.1 (NODE_COLLECTIVES_CUDA_PATH)"));
  CHECK(says(errorOf([] { loadHip({}); }), "another library: it has no hipInit()"));
}
