// Programs over the stand-ins for GPU libraries: each test runs its bodies in child processes, because a
// stand-in ends the process that breaks a rule. The test process itself never loads one.
#pragma once

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../fixtures/gpu/collective/codes.h"
#include "../fixtures/gpu/faces/cuda_types.h"
#include "doctest/doctest.h"

// Sanitizer builds of the stand-ins need a program that is built the same way; the test programs are.
namespace standin_test {

namespace codes = standin::nccl;

struct NcUniqueId {
  char internal[128];
};

inline void* load(const char* file) {
  const std::string path = std::string(NC_STANDIN_DIR) + "/" + file;
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(::dlerror());
  return library;
}

template <typename Function>
Function* find(void* library, const char* symbol) {
  return reinterpret_cast<Function*>(::dlsym(library, symbol));
}

// The libraries' functions, by their names; null where the loaded variant lacks one.
struct Cuda {
#define NC_FUNCTION(name, result, ...) result (*name)(__VA_ARGS__) = nullptr;
#include "../fixtures/gpu/faces/cuda_functions.h"
#undef NC_FUNCTION
  explicit Cuda(const char* file = "libcuda.so.1") {
    void* const library = load(file);
#define NC_FUNCTION(name, result, ...) name = find<result(__VA_ARGS__)>(library, #name);
#include "../fixtures/gpu/faces/cuda_functions.h"
#undef NC_FUNCTION
  }
};

#define NC_STANDIN_NCCL_VERSION 99999
struct Nccl {
#define NC_FUNCTION(name, result, ...) result (*name)(__VA_ARGS__) = nullptr;
#include "../fixtures/gpu/faces/nccl_functions.h"
#undef NC_FUNCTION
  explicit Nccl(const char* file = "libnccl.so.2") {
    void* const library = load(file);
#define NC_FUNCTION(name, result, ...) name = find<result(__VA_ARGS__)>(library, #name);
#include "../fixtures/gpu/faces/nccl_functions.h"
#undef NC_FUNCTION
  }
};
#undef NC_STANDIN_NCCL_VERSION

// Ends the child with code 1 and says where.
#define REQUIRE_CHILD(condition)                                                     \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (false)

using Env = std::map<std::string, std::string>;

// Seeds differ from run to run, and stand in the output of a test that fails.
inline std::string newSeed() {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return std::to_string(static_cast<uint64_t>(now) % 1'000'000'007);
}

class Child {
 public:
  Child(const Env& env, const std::function<void()>& body) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDERR_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      ::setenv("NC_STANDIN_SEED", newSeed().c_str(), 0);
      for (const auto& [name, value] : env) ::setenv(name.c_str(), value.c_str(), 1);
      std::fprintf(stderr, "seed %s\n", std::getenv("NC_STANDIN_SEED"));
      ::signal(SIGABRT, SIG_DFL);  // doctest's handler would report it as the test's own
      ::signal(SIGSEGV, SIG_DFL);
      body();
      std::exit(0);
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), output_(std::exchange(other.output_, -1)) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) kill();
    if (pid_ > 0) wait();
    if (output_ >= 0) ::close(output_);
  }

  pid_t pid() const { return pid_; }
  void kill() { ::kill(pid_, SIGKILL); }

  // Reads until the text has come.
  bool says(const std::string& text) { return saysWithin(text, 30'000); }
  bool saysWithin(const std::string& text, int milliseconds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (said.find(text) == std::string::npos) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      if (left.count() <= 0 || read(static_cast<int>(left.count())) != Read::kMore) return false;
    }
    return true;
  }

  // To its end. 0 to 255: its exit code; 1000 and more: the signal that ended it.
  int wait() {
    for (Read got = Read::kMore; got != Read::kEnd;) {
      got = read(60'000);
      if (got != Read::kNothing) continue;
      said += "\n(said nothing for a minute: killed)";
      kill();
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  std::string said;

 private:
  enum class Read { kMore, kNothing, kEnd };
  Read read(int milliseconds) {
    pollfd waiting{output_, POLLIN, 0};
    if (::poll(&waiting, 1, milliseconds) <= 0) return Read::kNothing;
    char part[4096];
    const ssize_t length = ::read(output_, part, sizeof part);
    if (length <= 0) return Read::kEnd;
    said.append(part, static_cast<size_t>(length));
    return Read::kMore;
  }

  pid_t pid_ = -1;
  int output_ = -1;
};

constexpr int kAborted = 1000 + SIGABRT;
constexpr int kKilled = 1000 + SIGKILL;

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The body breaks a rule: it must be stopped with a line that holds `words`.
inline void checkViolation(const std::string& words, const std::function<void()>& body, const Env& env = {}) {
  Child child(env, body);
  const int ended = child.wait();
  CAPTURE(words);
  CAPTURE(child.said);
  CHECK(ended == kAborted);
  CHECK(contains(child.said, "stand-in: "));
  CHECK(contains(child.said, words));
}

// The body ends well.
inline std::string checkChild(const std::function<void()>& body, const Env& env = {}) {
  Child child(env, body);
  const int ended = child.wait();
  CAPTURE(child.said);
  CHECK(ended == 0);
  return child.said;
}

// One child a rank; all must end well.
inline std::vector<std::string> checkRanks(int size, const std::function<void(int)>& body,
                                           const Env& env = {}) {
  std::vector<Child> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.emplace_back(env, [&body, rank] { body(rank); });
  std::vector<std::string> outputs;
  for (int rank = 0; rank < size; ++rank) {
    const int ended = ranks[static_cast<size_t>(rank)].wait();
    CAPTURE(rank);
    CAPTURE(ranks[static_cast<size_t>(rank)].said);
    CHECK(ended == 0);
    outputs.push_back(ranks[static_cast<size_t>(rank)].said);
  }
  return outputs;
}

// A CUDA device that is current on this thread.
struct OnDevice : Cuda {
  explicit OnDevice(int device = 0, const char* file = "libcuda.so.1") : Cuda(file) {
    REQUIRE_CHILD(cuInit(0) == 0);
    REQUIRE_CHILD(cuDevicePrimaryCtxRetain(&context, device) == 0);
    REQUIRE_CHILD(cuCtxSetCurrent(context) == 0);
  }
  unsigned long long memory(size_t bytes) const {
    unsigned long long address = 0;
    REQUIRE_CHILD(cuMemAlloc_v2(&address, bytes) == 0);
    return address;
  }
  std::byte* pinned(size_t bytes) const {
    void* address = nullptr;
    REQUIRE_CHILD(cuMemHostAlloc(&address, bytes, 0) == 0);
    return static_cast<std::byte*>(address);
  }
  void* stream(unsigned flags = standin::cuda::kStreamNonBlocking) const {
    void* made = nullptr;
    REQUIRE_CHILD(cuStreamCreate(&made, flags) == 0);
    return made;
  }
  void* event() const {
    void* made = nullptr;
    REQUIRE_CHILD(cuEventCreate(&made, standin::cuda::kEventDisableTiming) == 0);
    return made;
  }
  // Waits as the library under test does, without a function that blocks.
  void await(void* stream) const {
    void* const marker = event();
    REQUIRE_CHILD(cuEventRecord(marker, stream) == 0);
    int state = 0;
    while ((state = cuEventQuery(marker)) == 600) std::this_thread::sleep_for(std::chrono::microseconds(50));
    REQUIRE_CHILD(state == 0);
    REQUIRE_CHILD(cuEventDestroy_v2(marker) == 0);
  }
  void* context = nullptr;
};

}  // namespace standin_test
