// What the stand-ins do not let pass in the use of memory.
#include <sys/resource.h>

#include "standin_support.h"

using namespace standin_test;

namespace {

void* hostView(unsigned long long address) {
  return reinterpret_cast<void*>(address);
}

}  // namespace

TEST_CASE("device memory goes there and back, and is garbage at first") {
  checkChild(
      [] {
        const OnDevice gpu(3);
        const auto address = gpu.memory(100'000);
        std::vector<uint8_t> values(100'000);
        REQUIRE_CHILD(gpu.cuMemcpyDtoH_v2(values.data(), address, values.size()) == 0);
        REQUIRE_CHILD(values != std::vector<uint8_t>(values.size(), 0));
        for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 7);
        REQUIRE_CHILD(gpu.cuMemcpyHtoD_v2(address, values.data(), values.size()) == 0);
        std::vector<uint8_t> back(values.size());
        REQUIRE_CHILD(gpu.cuMemcpyDtoH_v2(back.data(), address, back.size()) == 0);
        REQUIRE_CHILD(back == values);
        REQUIRE_CHILD(gpu.cuMemcpyDtoH_v2(back.data(), address + 1000, 10) == 0);
        REQUIRE_CHILD(back[0] == values[1000]);
        REQUIRE_CHILD(gpu.cuMemFree_v2(address) == 0);
      },
      {{"NC_STANDIN_STRICT_EXIT", "1"}});
}

TEST_CASE("the host cannot follow a device address, nor a handle") {
  const auto crashes = [](const std::function<void()>& body) {
    Child child({}, [&body] {
      // A sanitizer would turn the fault into its own exit.
      ::signal(SIGSEGV, SIG_DFL);
      const rlimit none{0, 0};
      ::setrlimit(RLIMIT_CORE, &none);
      body();
    });
    const int ended = child.wait();
    CAPTURE(child.said);
    CHECK(ended == 1000 + SIGSEGV);
  };
  crashes([] {
    const OnDevice gpu;
    *static_cast<volatile int*>(hostView(gpu.memory(64))) = 1;
  });
  crashes([] {
    const OnDevice gpu;
    std::fprintf(stderr, "%d\n", *static_cast<volatile int*>(hostView(gpu.memory(64))));
  });
  crashes([] {
    const OnDevice gpu;
    std::fprintf(stderr, "%d\n", *static_cast<volatile int*>(gpu.stream()));
  });
  crashes([] {
    const OnDevice gpu;
    std::byte* const pinned = gpu.pinned(64);
    REQUIRE_CHILD(gpu.cuMemFreeHost(pinned) == 0);
    std::fprintf(stderr, "%d\n", static_cast<int>(*static_cast<volatile std::byte*>(pinned)));
  });
}

TEST_CASE("access beyond an allocation") {
  const std::vector<std::byte> host(4096);
  checkViolation("65 bytes from", [&] {
    const OnDevice gpu;
    gpu.cuMemcpyHtoD_v2(gpu.memory(64), host.data(), 65);
  });
  checkViolation("2 bytes from", [&] {
    const OnDevice gpu;
    gpu.cuMemsetD8_v2(gpu.memory(64) + 63, 0, 2);
  });
  checkViolation("between allocations", [&] {
    const OnDevice gpu;
    gpu.cuMemcpyHtoD_v2(gpu.memory(64) + 64, host.data(), 1);
  });
  checkViolation("between allocations", [&] {
    const OnDevice gpu;
    gpu.cuMemsetD8_v2(gpu.memory(64) - 1, 0, 1);
  });
}

TEST_CASE("use after free, double free, free of what is none, free of a part") {
  checkViolation("FREED memory", [] {
    const OnDevice gpu;
    const auto address = gpu.memory(64);
    gpu.cuMemFree_v2(address);
    gpu.memory(64);  // the address is not given out again
    gpu.cuMemsetD8_v2(address, 0, 1);
  });
  checkViolation("double free", [] {
    const OnDevice gpu;
    const auto address = gpu.memory(64);
    gpu.cuMemFree_v2(address);
    gpu.cuMemFree_v2(address);
  });
  checkViolation("no memory of CUDA", [] {
    const OnDevice gpu;
    int local = 0;
    gpu.cuMemFree_v2(reinterpret_cast<uintptr_t>(&local));
  });
  checkViolation("free of", [] {
    const OnDevice gpu;
    gpu.cuMemFree_v2(gpu.memory(64) + 8);
  });
}

TEST_CASE("another device, or none, is current") {
  checkViolation("while device 1 is current", [] {
    const OnDevice gpu(0);
    const auto address = gpu.memory(64);
    void* other = nullptr;
    gpu.cuDevicePrimaryCtxRetain(&other, 1);
    gpu.cuCtxSetCurrent(other);
    gpu.cuMemFree_v2(address);
  });
  checkViolation("on device 1, but memory is", [] {
    const OnDevice gpu(0);
    const auto address = gpu.memory(64);
    void* other = nullptr;
    gpu.cuDevicePrimaryCtxRetain(&other, 1);
    gpu.cuCtxSetCurrent(other);
    gpu.cuMemsetD8_v2(address, 0, 1);
  });
  checkViolation("no context is current on this thread", [] {
    const OnDevice gpu;
    std::thread([&gpu] { gpu.memory(64); }).join();
  });
  checkViolation("before cuInit()", [] {
    const Cuda cuda;
    unsigned long long address = 0;
    cuda.cuMemAlloc_v2(&address, 1);
  });
  checkViolation("has been released", [] {
    const OnDevice gpu;
    gpu.cuDevicePrimaryCtxRelease_v2(0);
    gpu.memory(64);
  });
  checkViolation("context while it has memory", [] {
    const OnDevice gpu;
    gpu.memory(64);
    gpu.cuDevicePrimaryCtxRelease_v2(0);
  });
}

TEST_CASE("memory of another device may be copied from once peer access is enabled") {
  checkChild([] {
    const OnDevice second(1);
    const auto there = second.memory(4);
    REQUIRE_CHILD(second.cuMemsetD8_v2(there, 7, 4) == 0);
    REQUIRE_CHILD(second.cuCtxSynchronize() == 0);
    const OnDevice first(0);
    const auto here = first.memory(4);
    REQUIRE_CHILD(first.cuCtxEnablePeerAccess(second.context, 0) == 0);
    REQUIRE_CHILD(first.cuCtxEnablePeerAccess(second.context, 0) == 704);
    REQUIRE_CHILD(first.cuMemcpyDtoD_v2(here, there, 4) == 0);
    uint8_t value = 0;
    REQUIRE_CHILD(first.cuMemcpyDtoH_v2(&value, here, 1) == 0);
    REQUIRE_CHILD(value == 7);
  });
  checkViolation("copy on the device: on device 0, but memory is", [] {
    const OnDevice second(1);
    const auto there = second.memory(4);
    const OnDevice first(0);
    first.cuMemcpyDtoD_v2(first.memory(4), there, 4);
  });
}

TEST_CASE("host and device memory are not mixed up") {
  checkViolation("device memory given as host memory", [] {
    const OnDevice gpu;
    const auto address = gpu.memory(64);
    gpu.cuMemcpyHtoD_v2(address, hostView(gpu.memory(64)), 64);
  });
  checkViolation("not device memory", [] {
    const OnDevice gpu;
    std::byte* const pinned = gpu.pinned(64);
    gpu.cuMemsetD8_v2(reinterpret_cast<uintptr_t>(pinned), 0, 1);
  });
}

TEST_CASE("pinned memory: overruns, late frees, mix-ups") {
  checkViolation("wrote behind pinned memory", [] {
    const OnDevice gpu;
    std::byte* const pinned = gpu.pinned(100);
    pinned[100] = std::byte{1};
    gpu.cuMemFreeHost(pinned);
  });
  checkViolation("run out of pinned memory", [] {
    const OnDevice gpu;
    gpu.cuMemcpyHtoDAsync_v2(gpu.memory(128), gpu.pinned(64), 128, gpu.stream());
  });
  checkViolation("copies use it", [] {
    const OnDevice gpu;
    void* const stream = gpu.stream();
    gpu.cuLaunchHostFunc(
        stream, [](void*) { std::this_thread::sleep_for(std::chrono::hours(1)); }, nullptr);
    std::byte* const pinned = gpu.pinned(64);
    gpu.cuMemcpyHtoDAsync_v2(gpu.memory(64), pinned, 64, stream);
    gpu.cuMemFreeHost(pinned);
  });
  checkViolation("double free of pinned", [] {
    const OnDevice gpu;
    std::byte* const pinned = gpu.pinned(64);
    gpu.cuMemFreeHost(pinned);
    gpu.cuMemFreeHost(pinned);
  });
  checkViolation("free as pinned memory of", [] {
    const OnDevice gpu;
    gpu.cuMemFreeHost(hostView(gpu.memory(64)));
  });
}

TEST_CASE("queries about addresses are answers, not violations") {
  checkChild([] {
    const OnDevice gpu(2);
    const auto address = gpu.memory(1000);
    std::byte* const pinned = gpu.pinned(10);
    unsigned kind = 0;
    int device = -1;
    REQUIRE_CHILD(gpu.cuPointerGetAttribute(&kind, standin::cuda::kAttributeMemoryType, address + 999) == 0);
    REQUIRE_CHILD(kind == standin::cuda::kMemoryDevice);
    REQUIRE_CHILD(gpu.cuPointerGetAttribute(&device, standin::cuda::kAttributeDeviceOrdinal, address) == 0);
    REQUIRE_CHILD(device == 2);
    REQUIRE_CHILD(gpu.cuPointerGetAttribute(&kind, standin::cuda::kAttributeMemoryType, address + 1000) == 1);
    const auto host = static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(pinned));
    REQUIRE_CHILD(gpu.cuPointerGetAttribute(&kind, standin::cuda::kAttributeMemoryType, host) == 0);
    REQUIRE_CHILD(kind == standin::cuda::kMemoryHost);
    REQUIRE_CHILD(gpu.cuPointerGetAttribute(&kind, standin::cuda::kAttributeMemoryType,
                                            reinterpret_cast<uintptr_t>(&kind)) == 1);
    unsigned long long base = 0;
    size_t size = 0;
    REQUIRE_CHILD(gpu.cuMemGetAddressRange_v2(&base, &size, address + 5) == 0);
    REQUIRE_CHILD(base == address);
    REQUIRE_CHILD(size == 1000);
    REQUIRE_CHILD(gpu.cuMemFree_v2(address) == 0);
    REQUIRE_CHILD(gpu.cuPointerGetAttribute(&kind, standin::cuda::kAttributeMemoryType, address) == 1);
  });
}
