// The stand-ins' faults on demand, variants, and what they say about what was not given back.
#include <fstream>

#include "attempt.h"
#include "standin_ranks.h"

using namespace standin_test;

namespace {

Env faults(const std::string& list) {
  return {{"NC_STANDIN_FAULTS", list}};
}

void alone(const std::function<void(Rank&)>& body, const char* file = "libnccl.so.2") {
  const Shared shared;
  Rank rank(shared.board, 0, 1, false, file);
  body(rank);
}

int sum(const Rank& rank, unsigned long long data) {
  return rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum, rank.comm,
                            rank.queue);
}

int devicesSeen(const Cuda& cuda) {
  int count = -1;
  if (const int result = cuda.cuInit(0)) return -result;
  REQUIRE_CHILD(cuda.cuDeviceGetCount(&count) == 0);
  return count;
}

int busOf(const Cuda& cuda, int device) {
  int bus = 0;
  REQUIRE_CHILD(cuda.cuDeviceGetAttribute(&bus, standin::cuda::kDevicePciBus, device) == 0);
  return bus - 0x10;
}

}  // namespace

TEST_CASE("the driver: cuInit fails, no devices, an old version, out of memory, a device that fails") {
  checkChild([] { REQUIRE_CHILD(Cuda().cuInit(0) == 803); }, faults("cuda-init=803"));
  checkChild([] { REQUIRE_CHILD(devicesSeen(Cuda()) == -100); }, {{"NC_STANDIN_DEVICES", "0"}});
  checkChild([] { REQUIRE_CHILD(devicesSeen(Cuda()) == 3); }, {{"NC_STANDIN_DEVICES", "3"}});
  checkChild(
      [] {
        int version = 0;
        REQUIRE_CHILD(Cuda().cuDriverGetVersion(&version) == 0);
        REQUIRE_CHILD(version == 10020);
      },
      faults("driver-version=10020"));
  checkChild(
      [] {
        const OnDevice gpu;
        unsigned long long address = 0;
        const auto first = gpu.memory(600);
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 401) == 2);
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 400) == 0);
        REQUIRE_CHILD(gpu.cuMemFree_v2(first) == 0);
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 600) == 0);
      },
      faults("out-of-memory=1000"));
  checkChild(
      [] {
        const OnDevice gpu;
        void* const stream = gpu.stream();
        const auto memory = gpu.memory(16);
        void* const event = gpu.event();
        REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 0, 16, stream) == 0);
        REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 0, 16, stream) == 0);
        gpu.await(stream);
        REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 0, 16, stream) == 700);
        REQUIRE_CHILD(gpu.cuEventQuery(event) == 700);
        unsigned long long address = 0;
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 1) == 700);
        const char* text = nullptr;
        REQUIRE_CHILD(gpu.cuGetErrorName(700, &text) == 0);
        REQUIRE_CHILD(std::string(text) == "CUDA_ERROR_ILLEGAL_ADDRESS");
      },
      faults("device-error=2"));
  // More than the device has, without any fault.
  checkChild(
      [] {
        unsigned long long address = 0;
        REQUIRE_CHILD(OnDevice().cuMemAlloc_v2(&address, 4097) == 2);
      },
      {{"NC_STANDIN_MEMORY", "4096"}});
}

TEST_CASE("CUDA_VISIBLE_DEVICES as the driver reads it, and the peers") {
  const auto seen = [](const char* list, const std::vector<int>& wanted) {
    checkChild(
        [&] {
          const Cuda cuda;
          const int count = devicesSeen(cuda);
          REQUIRE_CHILD(count == (wanted.empty() ? -100 : static_cast<int>(wanted.size())));
          for (int i = 0; i < count; ++i) REQUIRE_CHILD(busOf(cuda, i) == wanted[static_cast<size_t>(i)]);
        },
        {{"CUDA_VISIBLE_DEVICES", list}});
  };
  seen("2,0", {2, 0});
  seen("", {});
  seen("-1", {});
  seen("1,9,2", {1});
  seen("1,1", {});
  seen("GPU-57a4d140-0000-0000-0057-000000000005", {5});
  seen("GPU-57a4", {});  // begins all of them
  checkChild(
      [] {
        const OnDevice gpu;
        int can = -1;
        REQUIRE_CHILD(gpu.cuDeviceCanAccessPeer(&can, 0, 1) == 0);
        REQUIRE_CHILD(can == 1);
        REQUIRE_CHILD(gpu.cuDeviceCanAccessPeer(&can, 1, 2) == 0);
        REQUIRE_CHILD(can == 0);
        void* other = nullptr;
        REQUIRE_CHILD(gpu.cuDevicePrimaryCtxRetain(&other, 2) == 0);
        REQUIRE_CHILD(gpu.cuCtxEnablePeerAccess(other, 0) == 217);
      },
      {{"NC_STANDIN_PEERS", "0-1,2-3"}});
}

TEST_CASE("init fails or hangs, an id cannot be had") {
  checkChild(
      [] {
        const OnDevice gpu;
        const Nccl nccl;
        NcUniqueId id;
        REQUIRE_CHILD(nccl.ncclGetUniqueId(&id) == 0);
        Config config;
        void* comm = nullptr;
        REQUIRE_CHILD(nccl.ncclCommInitRankConfig(&comm, 1, id, 0, &config) == codes::kInProgress);
        int state = codes::kInProgress;
        while (state == codes::kInProgress) REQUIRE_CHILD(nccl.ncclCommGetAsyncError(comm, &state) == 0);
        REQUIRE_CHILD(state == codes::kInternalError);
        REQUIRE_CHILD(nccl.ncclCommAbort(comm) == 0);
        REQUIRE_CHILD(nccl.ncclCommInitRank(&comm, 1, id, 0) == codes::kInternalError);
      },
      {{"NC_STANDIN_FAULTS", "init-fail=3"}, {"NC_STANDIN_STRICT_EXIT", "1"}});
  checkChild(
      [] {
        const OnDevice gpu;
        const Nccl nccl;
        NcUniqueId id;
        REQUIRE_CHILD(nccl.ncclGetUniqueId(&id) == 0);
        Config config;
        void* comm = nullptr;
        REQUIRE_CHILD(nccl.ncclCommInitRankConfig(&comm, 1, id, 0, &config) == codes::kInProgress);
        // What is tested is that it stays so; without the fault it takes a millisecond or two.
        for (int i = 0; i < 30; ++i) {
          int state = 0;
          REQUIRE_CHILD(nccl.ncclCommGetAsyncError(comm, &state) == 0);
          REQUIRE_CHILD(state == codes::kInProgress);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        REQUIRE_CHILD(nccl.ncclCommAbort(comm) == 0);  // of a hanging init
      },
      faults("init-hang"));
  checkChild(
      [] {
        NcUniqueId id;
        REQUIRE_CHILD(Nccl().ncclGetUniqueId(&id) == codes::kSystemError);
      },
      faults("no-id"));
}

TEST_CASE("an asynchronous error or a hang after some operations; the abort ends it") {
  checkChild(
      [] {
        alone([](Rank& rank) {
          const auto data = rank.put(std::vector<int32_t>{1});
          rank.done(sum(rank, data));
          rank.done(sum(rank, data));
          const int last = sum(rank, data);
          REQUIRE_CHILD((last == 0 || last == codes::kInProgress));
          while (rank.state() == 0 || rank.state() == codes::kInProgress)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          REQUIRE_CHILD(rank.state() == codes::kUnhandledCudaError);
          REQUIRE_CHILD(rank.cuStreamQuery(rank.queue) == 600);
          REQUIRE_CHILD(rank.ncclCommAbort(rank.comm) == 0);
          rank.await(rank.queue);
        });
      },
      faults("async-error=2:1"));
  checkViolation(
      "ncclCommDestroy of a failed communicator",
      [] {
        alone([](Rank& rank) {
          const auto data = rank.put(std::vector<int32_t>{1});
          sum(rank, data);
          while (rank.state() != codes::kRemoteError)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          rank.ncclCommDestroy(rank.comm);
        });
      },
      faults("async-error=0"));
  checkChild(
      [] {
        alone([](Rank& rank) {
          const auto data = rank.put(std::vector<int32_t>{1});
          rank.done(sum(rank, data));
          rank.issued(sum(rank, data));
          const Attempt waiting([&] {
            rank.cuCtxSetCurrent(rank.context);
            rank.cuStreamSynchronize(rank.queue);
          });
          REQUIRE_CHILD(waiting.stillIn());
          REQUIRE_CHILD(rank.state() == 0);
          REQUIRE_CHILD(rank.ncclCommAbort(rank.comm) == 0);
          rank.await(rank.queue);
        });
      },
      faults("hang=1"));
}

TEST_CASE("abort, destroy and finalize block") {
  const auto blocked = [](const char* name, const std::function<void(Rank&)>& call) {
    checkChild(
        [&] {
          alone([&](Rank& rank) {
            const Attempt attempt([&] { call(rank); });
            REQUIRE_CHILD(attempt.stillIn());
            ::_exit(0);  // with a thread that never comes back, as a program would
          });
        },
        faults(name));
  };
  blocked("abort-blocks", [](Rank& rank) { rank.ncclCommAbort(rank.comm); });
  blocked("destroy-blocks", [](Rank& rank) { rank.ncclCommDestroy(rank.comm); });
  checkChild(
      [] {
        alone([](Rank& rank) {
          REQUIRE_CHILD(rank.ncclCommFinalize(rank.comm) == codes::kInProgress);
          // What is tested is that it stays so; without the fault it is over within milliseconds.
          for (int i = 0; i < 50; ++i) {
            REQUIRE_CHILD(rank.state() == codes::kInProgress);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        });
      },
      faults("finalize-blocks"));
}

TEST_CASE("a fault that does not exist is a mistake of the test") {
  checkViolation(
      "there is no fault \"abort-block\"", [] { OnDevice(); }, faults("abort-block"));
}

TEST_CASE("the control file and the exported function change faults while the process runs") {
  char name[] = "/tmp/nc-control-XXXXXX";
  const int fd = ::mkstemp(name);
  REQUIRE(fd >= 0);
  checkChild(
      [&] {
        const OnDevice gpu;
        unsigned long long address = 0;
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 1000) == 0);
        std::ofstream(name) << "out-of-memory=10\n";
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 1000) == 2);
        std::ofstream(name) << "";
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 1000) == 0);
        find<void(const char*)>(load("libcuda.so.1"), "nc_standin_faults")("out-of-memory=10");
        REQUIRE_CHILD(gpu.cuMemAlloc_v2(&address, 1000) == 2);
      },
      {{"NC_STANDIN_CONTROL", name}});
  ::close(fd);
  ::unlink(name);
}

TEST_CASE("older and newer libraries: versions, missing functions, types") {
  struct Variant {
    const char* file;
    int version;
    bool config;
    bool lastError;
    int types;
    int reductions;
  };
  for (const Variant& variant : {Variant{"libnccl-2.9.so.2", 20908, false, false, 9, 4},
                                 Variant{"libnccl-2.10.so.2", 21003, false, false, 10, 5},
                                 Variant{"libnccl.so.2", 22203, true, true, 10, 5},
                                 Variant{"libnccl-2.29.so.2", 22907, true, true, 12, 5}}) {
    CAPTURE(variant.file);
    checkChild([&] {
      const OnDevice gpu;
      const Nccl nccl(variant.file);
      int version = 0;
      REQUIRE_CHILD(nccl.ncclGetVersion(&version) == 0);
      REQUIRE_CHILD(version == variant.version);
      REQUIRE_CHILD((nccl.ncclCommInitRankConfig != nullptr) == variant.config);
      REQUIRE_CHILD((nccl.ncclCommFinalize != nullptr) == variant.config);
      REQUIRE_CHILD((nccl.ncclGetLastError != nullptr) == variant.lastError);
      NcUniqueId id;
      REQUIRE_CHILD(nccl.ncclGetUniqueId(&id) == 0);
      void* comm = nullptr;
      REQUIRE_CHILD(nccl.ncclCommInitRank(&comm, 1, id, 0) == 0);
      void* const stream = gpu.stream();
      void* const data = pointer(gpu.memory(64));
      REQUIRE_CHILD(gpu.cuMemsetD8_v2(gpu.memory(64), 0, 64) == 0);
      for (int type = 0; type < 13; ++type) {
        const int result = nccl.ncclAllReduce(data, data, 1, type, codes::kSum, comm, stream);
        REQUIRE_CHILD(result == (type < variant.types ? 0 : int{codes::kInvalidArgument}));
      }
      for (int op = 0; op < 6; ++op) {
        const int result = nccl.ncclAllReduce(data, data, 1, codes::kInt32, op, comm, stream);
        REQUIRE_CHILD(result == (op < variant.reductions ? 0 : int{codes::kInvalidArgument}));
      }
      REQUIRE_CHILD(nccl.ncclCommDestroy(comm) == 0);
    });
  }
  checkChild([] {
    const Cuda old("libcuda-11.0.so.1");
    int version = 0;
    REQUIRE_CHILD(old.cuDriverGetVersion(&version) == 0);
    REQUIRE_CHILD(version == 11000);
    REQUIRE_CHILD(old.cuDeviceGetUuid != nullptr);
    REQUIRE_CHILD(old.cuDeviceGetUuid_v2 == nullptr);
  });
}

TEST_CASE("what was not given back is named at the end, and is the exit code where that is asked for") {
  const auto ends = [](const std::function<void(Rank&)>& leave, const Env& env, int code, const char* words) {
    Child child(env, [&] {
      alone([&](Rank& rank) {
        leave(rank);
        rank.end();
      });
    });
    const int ended = child.wait();
    CAPTURE(child.said);
    CHECK(ended == code);
    CHECK(contains(child.said, "stand-in: leaked") == (words != nullptr));
    if (words != nullptr) CHECK(contains(child.said, words));
  };
  const Env strict{{"NC_STANDIN_STRICT_EXIT", "1"}};
  ends([](Rank&) {}, strict, 0, nullptr);
  ends([](Rank& rank) { rank.memory(77); }, strict, 86, "77 bytes on device 0");
  ends([](Rank& rank) { rank.pinned(78); }, strict, 86, "pinned memory");
  ends([](Rank& rank) { rank.stream(); }, strict, 86, "CUDA stream");
  ends([](Rank& rank) { rank.event(); }, strict, 86, "CUDA event");
  ends(
      [](Rank& rank) {
        NcUniqueId id;
        void* comm = nullptr;
        rank.ncclGetUniqueId(&id);
        rank.ncclCommInitRank(&comm, 1, id, 0);
      },
      strict, 86, "NCCL communicator, rank 0 of 1");
  // Only reported, or neither.
  ends([](Rank& rank) { rank.memory(77); }, {{"NC_STANDIN_REPORT", "1"}}, 0, "77 bytes");
  ends([](Rank& rank) { rank.memory(77); }, {}, 0, nullptr);
}

TEST_CASE("live objects are counted for whoever asks") {
  checkChild([] {
    const OnDevice gpu;
    const auto live = find<size_t()>(load("libcuda.so.1"), "nc_standin_live_objects");
    REQUIRE_CHILD(live() == 0);
    const auto memory = gpu.memory(1);
    void* const stream = gpu.stream();
    REQUIRE_CHILD(live() == 2);
    REQUIRE_CHILD(gpu.cuMemFree_v2(memory) == 0);
    REQUIRE_CHILD(gpu.cuStreamDestroy_v2(stream) == 0);
    REQUIRE_CHILD(live() == 0);
  });
}
