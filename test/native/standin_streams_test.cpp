// The stand-ins' streams: late, in order, and only as synchronised as the program makes them.
#include <atomic>

#include "attempt.h"
#include "standin_support.h"

using namespace standin_test;

namespace {

// Holds a stream up until it is opened.
struct Gate {
  std::atomic<bool> open{false};
  void hold(const OnDevice& gpu, void* stream) {
    const auto wait = [](void* gate) {
      while (!static_cast<Gate*>(gate)->open.load())
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    };
    REQUIRE_CHILD(gpu.cuLaunchHostFunc(stream, wait, this) == 0);
  }
};

constexpr int kNotReady = 600;
constexpr size_t kBytes = 4096;

uint8_t firstByte(const OnDevice& gpu, unsigned long long address, void* stream) {
  uint8_t value = 0;
  REQUIRE_CHILD(gpu.cuMemcpyDtoHAsync_v2(&value, address, 1, stream) == 0);  // pageable: waits
  return value;
}

}  // namespace

TEST_CASE("pinned memory is read and written when the stream gets there") {
  checkChild([] {
    const OnDevice gpu;
    void* const stream = gpu.stream();
    const auto memory = gpu.memory(kBytes);
    std::byte* const from = gpu.pinned(kBytes);
    std::byte* const to = gpu.pinned(kBytes);
    from[0] = std::byte{1};
    to[0] = std::byte{9};
    Gate gate;
    gate.hold(gpu, stream);
    REQUIRE_CHILD(gpu.cuMemcpyHtoDAsync_v2(memory, from, kBytes, stream) == 0);
    REQUIRE_CHILD(gpu.cuMemcpyDtoHAsync_v2(to, memory, kBytes, stream) == 0);
    from[0] = std::byte{2};  // too early: the copy sees it
    REQUIRE_CHILD(to[0] == std::byte{9});
    REQUIRE_CHILD(gpu.cuStreamQuery(stream) == kNotReady);
    gate.open = true;
    gpu.await(stream);
    REQUIRE_CHILD(to[0] == std::byte{2});
    REQUIRE_CHILD(gpu.cuStreamQuery(stream) == 0);
  });
}

TEST_CASE("pageable memory is read before the call returns, and written before it returns") {
  checkChild([] {
    const OnDevice gpu;
    void* const stream = gpu.stream();
    const auto memory = gpu.memory(kBytes);
    std::vector<uint8_t> host(kBytes, 1);
    Gate gate;
    gate.hold(gpu, stream);
    REQUIRE_CHILD(gpu.cuMemcpyHtoDAsync_v2(memory, host.data(), kBytes, stream) == 0);
    host[0] = 2;
    gate.open = true;
    REQUIRE_CHILD(firstByte(gpu, memory, stream) == 1);
  });
}

TEST_CASE("streams know nothing of each other; events order them") {
  checkChild([] {
    const OnDevice gpu;
    void* const first = gpu.stream();
    void* const second = gpu.stream();
    const auto memory = gpu.memory(kBytes);
    REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 1, kBytes, first) == 0);
    gpu.await(first);
    Gate gate;
    gate.hold(gpu, first);
    REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 2, kBytes, first) == 0);
    REQUIRE_CHILD(firstByte(gpu, memory, second) == 1);  // nobody waited
    void* const event = gpu.event();
    REQUIRE_CHILD(gpu.cuEventQuery(event) == 0);  // never recorded: has happened
    REQUIRE_CHILD(gpu.cuEventRecord(event, first) == 0);
    REQUIRE_CHILD(gpu.cuEventQuery(event) == kNotReady);
    REQUIRE_CHILD(gpu.cuStreamWaitEvent(second, event, 0) == 0);
    // What is recorded later does not hold up who waits for the earlier one.
    Gate later;
    later.hold(gpu, first);
    REQUIRE_CHILD(gpu.cuEventRecord(event, first) == 0);
    gate.open = true;
    REQUIRE_CHILD(firstByte(gpu, memory, second) == 2);
    REQUIRE_CHILD(gpu.cuEventQuery(event) == kNotReady);
    later.open = true;
    REQUIRE_CHILD(gpu.cuEventSynchronize(event) == 0);
    REQUIRE_CHILD(gpu.cuEventQuery(event) == 0);
  });
}

TEST_CASE("the default stream waits for blocking streams and they for it, non-blocking ones do neither") {
  checkChild([] {
    const OnDevice gpu;
    void* const blocking = gpu.stream(0);
    void* const other = gpu.stream(0);
    void* const free = gpu.stream();
    const auto memory = gpu.memory(kBytes);
    Gate gate;
    gate.hold(gpu, blocking);
    REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 1, kBytes, nullptr) == 0);
    REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 2, 1, other) == 0);
    REQUIRE_CHILD(gpu.cuStreamQuery(nullptr) == kNotReady);
    gpu.await(free);
    const auto separate = gpu.memory(kBytes);
    REQUIRE_CHILD(gpu.cuMemsetD8Async(separate, 3, kBytes, free) == 0);
    REQUIRE_CHILD(firstByte(gpu, separate, free) == 3);
    REQUIRE_CHILD(gpu.cuStreamQuery(other) == kNotReady);
    gate.open = true;
    REQUIRE_CHILD(gpu.cuStreamSynchronize(other) == 0);
    REQUIRE_CHILD(gpu.cuStreamQuery(nullptr) == 0);
    REQUIRE_CHILD(firstByte(gpu, memory, free) == 2);
  });
}

TEST_CASE("freeing device memory waits for the device, destroying a stream does not") {
  checkChild([] {
    const OnDevice gpu;
    void* const stream = gpu.stream();
    const auto memory = gpu.memory(kBytes);
    Gate gate;
    gate.hold(gpu, stream);
    std::byte* const pinned = gpu.pinned(kBytes);
    REQUIRE_CHILD(gpu.cuMemsetD8Async(memory, 5, kBytes, stream) == 0);
    REQUIRE_CHILD(gpu.cuMemcpyDtoHAsync_v2(pinned, memory, kBytes, stream) == 0);
    REQUIRE_CHILD(gpu.cuStreamDestroy_v2(stream) == 0);
    {
      const Attempt freeing([&] {
        REQUIRE_CHILD(gpu.cuCtxSetCurrent(gpu.context) == 0);
        REQUIRE_CHILD(gpu.cuMemFree_v2(memory) == 0);
      });
      REQUIRE_CHILD(freeing.stillIn());
      gate.open = true;
    }
    REQUIRE_CHILD(pinned[kBytes - 1] == std::byte{5});
  });
}

TEST_CASE("handles: used after their end, of another device, of another kind") {
  checkViolation("use of a destroyed stream", [] {
    const OnDevice gpu;
    void* const stream = gpu.stream();
    gpu.cuStreamDestroy_v2(stream);
    gpu.cuStreamQuery(stream);
  });
  checkViolation("use of a destroyed event", [] {
    const OnDevice gpu;
    void* const event = gpu.event();
    gpu.cuEventDestroy_v2(event);
    gpu.cuEventDestroy_v2(event);
  });
  checkViolation("is no stream", [] {
    const OnDevice gpu;
    gpu.cuStreamQuery(gpu.event());
  });
  checkViolation("is no event", [] {
    const OnDevice gpu;
    gpu.cuEventRecord(gpu.stream(), gpu.stream());
  });
  checkViolation("the stream is of device 0, not of device 1", [] {
    const OnDevice first(0);
    void* const stream = first.stream();
    const OnDevice second(1);
    second.cuStreamQuery(stream);
  });
  checkViolation("record an event: it is of device 0, the stream of device 1", [] {
    const OnDevice first(0);
    void* const event = first.event();
    const OnDevice second(1);
    second.cuEventRecord(event, second.stream());
  });
  checkViolation("called from a host function", [] {
    static OnDevice* gpu = nullptr;
    static void* stream = nullptr;
    gpu = new OnDevice;
    stream = gpu->stream();
    gpu->cuLaunchHostFunc(
        stream,
        [](void*) {
          gpu->cuCtxSetCurrent(gpu->context);
          gpu->cuStreamQuery(stream);
        },
        nullptr);
    gpu->cuStreamSynchronize(stream);
  });
}

TEST_CASE("elapsed time is of events with timing that have happened") {
  checkChild([] {
    const OnDevice gpu;
    void* const stream = gpu.stream();
    void* start = nullptr;
    void* end = nullptr;
    REQUIRE_CHILD(gpu.cuEventCreate(&start, 0) == 0);
    REQUIRE_CHILD(gpu.cuEventCreate(&end, 0) == 0);
    REQUIRE_CHILD(gpu.cuEventRecord(start, stream) == 0);
    Gate gate;
    gate.hold(gpu, stream);
    REQUIRE_CHILD(gpu.cuEventRecord(end, stream) == 0);
    float milliseconds = -1;
    REQUIRE_CHILD(gpu.cuEventElapsedTime(&milliseconds, start, end) == kNotReady);
    gate.open = true;
    gpu.await(stream);
    REQUIRE_CHILD(gpu.cuEventElapsedTime(&milliseconds, start, end) == 0);
    REQUIRE_CHILD(milliseconds >= 0);
    REQUIRE_CHILD(gpu.cuEventElapsedTime(&milliseconds, start, gpu.event()) == 400);
  });
}
