// Ranks over the stand-ins for CUDA and NCCL, each in a process of its own.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <climits>

#include "standin_support.h"

namespace standin_test {

// What ranks tell each other before there is a communicator.
struct Board {
  std::atomic<int> ready{0};
  NcUniqueId id;
};

struct Shared {
  Shared()
      : board(new (::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                  Board) {}
  ~Shared() { ::munmap(board, sizeof(Board)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  Board* board;
};

// The first fields of ncclConfig_t, as of 2.14.
struct Config {
  size_t size = 24;
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
};

// A rank with its communicator made and a stream; number 0 makes the unique id.
struct Rank : OnDevice, Nccl {
  Rank(Board* board, int number, int ranks, bool blocking = false, const char* nccl = "libnccl.so.2")
      : OnDevice(number), Nccl(nccl), rank(number), size(ranks) {
    if (rank == 0) {
      REQUIRE_CHILD(ncclGetUniqueId(&board->id) == 0);
      board->ready.store(1);
    }
    while (board->ready.load() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (blocking) {
      REQUIRE_CHILD(ncclCommInitRank(&comm, size, board->id, rank) == 0);
    } else {
      Config config;
      const int begun = ncclCommInitRankConfig(&comm, size, board->id, rank, &config);
      REQUIRE_CHILD((begun == 0 || begun == codes::kInProgress));
    }
    settle();
    queue = stream();
  }
  int state() const {
    int now = -1;
    REQUIRE_CHILD(ncclCommGetAsyncError(comm, &now) == 0);
    return now;
  }
  void settle() const {
    while (state() == codes::kInProgress) std::this_thread::sleep_for(std::chrono::microseconds(100));
    REQUIRE_CHILD(state() == 0);
  }
  // A call that may be in progress for a while, to its end on the device.
  void done(int result) const {
    issued(result);
    await(queue);
  }
  void issued(int result) const {
    if (result != 0 && result != codes::kInProgress)
      std::fprintf(stderr, "result %d: %s\n", result, ncclGetLastError(comm));
    REQUIRE_CHILD((result == 0 || result == codes::kInProgress));
    settle();
  }
  template <typename T>
  unsigned long long put(const std::vector<T>& values) const {
    const unsigned long long address = memory(values.size() * sizeof(T));
    REQUIRE_CHILD(cuMemcpyHtoDAsync_v2(address, values.data(), values.size() * sizeof(T), queue) == 0);
    return address;
  }
  template <typename T>
  std::vector<T> get(unsigned long long address, size_t count) const {
    std::vector<T> values(count);
    REQUIRE_CHILD(cuMemcpyDtoHAsync_v2(values.data(), address, count * sizeof(T), queue) == 0);
    return values;
  }
  void end() {
    const int result = ncclCommFinalize(comm);
    REQUIRE_CHILD((result == 0 || result == codes::kInProgress));
    settle();
    REQUIRE_CHILD(ncclCommDestroy(comm) == 0);
    REQUIRE_CHILD(cuStreamDestroy_v2(queue) == 0);
  }
  const int rank;
  const int size;
  void* comm = nullptr;
  void* queue = nullptr;
};

inline void* pointer(unsigned long long address) {
  return reinterpret_cast<void*>(address);
}

}  // namespace standin_test
