// The stand-ins for HIP, RCCL and NVML: the same core, and what is different about them.
#include <atomic>

#include "../fixtures/gpu/faces/hip_types.h"
#include "../fixtures/gpu/faces/nvml_types.h"
#include "standin_ranks.h"

using namespace standin_test;

namespace {

struct Hip {
#define NC_FUNCTION(name, result, ...) result (*name)(__VA_ARGS__) = nullptr;
#include "../fixtures/gpu/faces/hip_functions.h"
#undef NC_FUNCTION
  explicit Hip(const char* file = "libamdhip64.so.6") {
    void* const library = load(file);
#define NC_FUNCTION(name, result, ...) name = find<result(__VA_ARGS__)>(library, #name);
#include "../fixtures/gpu/faces/hip_functions.h"
#undef NC_FUNCTION
  }
};

struct Nvml {
#define NC_FUNCTION(name, result, ...) result (*name)(__VA_ARGS__) = nullptr;
#include "../fixtures/gpu/faces/nvml_functions.h"
#undef NC_FUNCTION
  Nvml() {
    void* const library = load("libnvidia-ml.so.1");
#define NC_FUNCTION(name, result, ...) name = find<result(__VA_ARGS__)>(library, #name);
#include "../fixtures/gpu/faces/nvml_functions.h"
#undef NC_FUNCTION
  }
};

constexpr int kNotReady = 600;

}  // namespace

TEST_CASE("ranks of RCCL over HIP add up") {
  for (const char* file : {"librccl.so.1", "librccl-2.13.so.1"}) {
    const Shared shared;
    checkRanks(
        2,
        [&](int number) {
          const Hip hip;
          const Nccl rccl(file);
          REQUIRE_CHILD(hip.hipInit(0) == 0);
          REQUIRE_CHILD(hip.hipSetDevice(number) == 0);
          if (number == 0) {
            REQUIRE_CHILD(rccl.ncclGetUniqueId(&shared.board->id) == 0);
            shared.board->ready.store(1);
          }
          while (shared.board->ready.load() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          void* comm = nullptr;
          REQUIRE_CHILD(rccl.ncclCommInitRank(&comm, 2, shared.board->id, number) == 0);
          void* stream = nullptr;
          REQUIRE_CHILD(hip.hipStreamCreateWithFlags(&stream, standin::hip::kStreamNonBlocking) == 0);
          void* data = nullptr;
          REQUIRE_CHILD(hip.hipMalloc(&data, 8) == 0);
          int64_t value = number + 20;
          REQUIRE_CHILD(hip.hipMemcpyHtoDAsync(data, &value, 8, stream) == 0);
          REQUIRE_CHILD(rccl.ncclAllReduce(data, data, 1, codes::kInt64, codes::kSum, comm, stream) == 0);
          REQUIRE_CHILD(hip.hipMemcpyDtoHAsync(&value, data, 8, stream) == 0);
          REQUIRE_CHILD(value == 41);
          REQUIRE_CHILD(rccl.ncclCommDestroy(comm) == 0);
          REQUIRE_CHILD(hip.hipStreamDestroy(stream) == 0);
          REQUIRE_CHILD(hip.hipFree(data) == 0);
        },
        {{"NC_STANDIN_STRICT_EXIT", "1"}});
  }
}

TEST_CASE("HIP remembers a thread's last failure, and RCCL takes it for its own") {
  checkChild([] {
    const Hip hip;
    const Nccl rccl("librccl.so.1");
    void* stream = nullptr;
    REQUIRE_CHILD(hip.hipStreamCreateWithFlags(&stream, 1) == 0);
    std::atomic<bool> asked{false};
    const auto wait = [](void* until) {
      while (!static_cast<std::atomic<bool>*>(until)->load())
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    };
    REQUIRE_CHILD(hip.hipLaunchHostFunc(stream, wait, &asked) == 0);
    REQUIRE_CHILD(hip.hipStreamQuery(stream) == kNotReady);
    asked = true;
    NcUniqueId id;
    REQUIRE_CHILD(rccl.ncclGetUniqueId(&id) == 0);
    void* comm = nullptr;
    REQUIRE_CHILD(rccl.ncclCommInitRank(&comm, 1, id, 0) == codes::kUnhandledCudaError);
    REQUIRE_CHILD(hip.hipPeekAtLastError() == kNotReady);
    REQUIRE_CHILD(hip.hipGetLastError() == kNotReady);
    REQUIRE_CHILD(hip.hipGetLastError() == 0);
    REQUIRE_CHILD(rccl.ncclCommInitRank(&comm, 1, id, 0) == 0);
    REQUIRE_CHILD(rccl.ncclCommDestroy(comm) == 0);
  });
}

TEST_CASE(
    "HIP: kinds of memory by version, UUIDs of letters, device 0 is current at first, names of errors") {
  for (const char* file : {"libamdhip64.so.5", "libamdhip64.so.6"}) {
    checkChild([&] {
      const Hip hip(file);
      const bool five = std::string(file).back() == '5';
      int version = 0;
      REQUIRE_CHILD(hip.hipRuntimeGetVersion(&version) == 0);
      REQUIRE_CHILD(version / 10'000'000 == (five ? 5 : 6));
      int device = -1;
      REQUIRE_CHILD(hip.hipGetDevice(&device) == 0);
      REQUIRE_CHILD(device == 0);
      void* memory = nullptr;
      void* pinned = nullptr;
      REQUIRE_CHILD(hip.hipMalloc(&memory, 16) == 0);
      REQUIRE_CHILD(hip.hipHostMalloc(&pinned, 16, 0) == 0);
      int kind = -1;
      REQUIRE_CHILD(hip.hipPointerGetAttribute(&kind, standin::hip::kAttributeMemoryType, memory) == 0);
      REQUIRE_CHILD(kind == (five ? 1 : 2));
      NcHipPointerAttributes attributes{};
      REQUIRE_CHILD(hip.hipPointerGetAttributes(&attributes, pinned) == 0);
      REQUIRE_CHILD(attributes.type == (five ? 0 : 1));
      REQUIRE_CHILD(hip.hipPointerGetAttributes(&attributes, &kind) == 1);
      NcHipUuid uuid{};
      REQUIRE_CHILD(hip.hipDeviceGetUuid(&uuid, 3) == 0);
      REQUIRE_CHILD(std::string(uuid.bytes, 16) == "0057000000000003");
      REQUIRE_CHILD(std::string(hip.hipGetErrorName(2)) == "hipErrorOutOfMemory");
      REQUIRE_CHILD(std::string(hip.hipGetErrorName(600)) == "hipErrorNotReady");
    });
  }
  checkChild(
      [] {
        const Hip hip;
        int count = -1;
        REQUIRE_CHILD(hip.hipGetDeviceCount(&count) == 100);
        REQUIRE_CHILD(hip.hipInit(0) == 100);
      },
      {{"HIP_VISIBLE_DEVICES", ""}});
  checkChild(
      [] {
        char text[32];
        REQUIRE_CHILD(Hip().hipDeviceGetPCIBusId(text, sizeof text, 0) == 0);
        REQUIRE_CHILD(std::string(text) == "0000:13:00.0");  // number 1 of those that ROCR leaves: 3
      },
      {{"ROCR_VISIBLE_DEVICES", "2,3"}, {"HIP_VISIBLE_DEVICES", "1"}});
}

TEST_CASE("HIP's and CUDA's ids, memory and streams are not each other's") {
  checkViolation("an id of NCCL given to RCCL", [] {
    NcUniqueId id;
    REQUIRE_CHILD(Nccl().ncclGetUniqueId(&id) == 0);
    const Hip hip;
    REQUIRE_CHILD(hip.hipInit(0) == 0);
    void* comm = nullptr;
    Nccl("librccl.so.1").ncclCommInitRank(&comm, 1, id, 0);
  });
  checkViolation("no memory of HIP", [] {
    const OnDevice gpu;
    const auto memory = gpu.memory(16);
    Hip().hipFree(pointer(memory));
  });
}

TEST_CASE("NVML tells of the whole machine, whatever is visible") {
  checkChild(
      [] {
        const Nvml nvml;
        unsigned count = 0;
        REQUIRE_CHILD(nvml.nvmlDeviceGetCount_v2(&count) == standin::nvml::kUninitialized);
        REQUIRE_CHILD(nvml.nvmlInit_v2() == 0);
        REQUIRE_CHILD(nvml.nvmlDeviceGetCount_v2(&count) == 0);
        REQUIRE_CHILD(count == 8);
        void* device = nullptr;
        REQUIRE_CHILD(nvml.nvmlDeviceGetHandleByIndex_v2(8, &device) == standin::nvml::kInvalidArgument);
        REQUIRE_CHILD(nvml.nvmlDeviceGetHandleByIndex_v2(2, &device) == 0);
        char text[96];
        REQUIRE_CHILD(nvml.nvmlDeviceGetUUID(device, text, sizeof text) == 0);
        REQUIRE_CHILD(std::string(text) == "GPU-57a4d140-0000-0000-0057-000000000002");
        REQUIRE_CHILD(nvml.nvmlDeviceGetUUID(device, text, 10) == standin::nvml::kInsufficientSize);
        void* same = nullptr;
        REQUIRE_CHILD(nvml.nvmlDeviceGetHandleByPciBusId_v2("0000:12:00.0", &same) == 0);
        REQUIRE_CHILD(same == device);
        REQUIRE_CHILD(nvml.nvmlDeviceGetHandleByUUID("GPU-none", &same) == standin::nvml::kNotFound);
        NcNvmlPciInfo info{};
        REQUIRE_CHILD(nvml.nvmlDeviceGetPciInfo_v3(device, &info) == 0);
        REQUIRE_CHILD(std::string(info.busId) == "00000000:12:00.0");
        REQUIRE_CHILD(nvml.nvmlShutdown() == 0);
        REQUIRE_CHILD(nvml.nvmlShutdown() == standin::nvml::kUninitialized);
      },
      {{"CUDA_VISIBLE_DEVICES", "1"}});
  checkChild([] { REQUIRE_CHILD(Nvml().nvmlInit_v2() == standin::nvml::kDriverNotLoaded); },
             {{"NC_STANDIN_FAULTS", "nvml-init"}});
}
