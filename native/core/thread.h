// A thread with a name that `top -H` and gdb show. Joined on destruction.
#pragma once

#include <pthread.h>

#include <string>
#include <thread>
#include <utility>

namespace nc {

class NamedThread {
 public:
  NamedThread() = default;
  // `name`: 15 bytes at most, the kernel's limit. All signals are blocked in the new thread, so that a
  // signal for the process is never delivered on a thread that Node does not know.
  template <typename Body>
  NamedThread(const char* name, Body body) : thread_(start(name, std::move(body))) {}
  NamedThread(NamedThread&&) = default;
  NamedThread& operator=(NamedThread&&) = default;
  ~NamedThread() { join(); }

  bool joinable() const { return thread_.joinable(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  // Nobody will ever join it; only for LoneThread, which says when.
  void abandon() { thread_.detach(); }

 private:
  template <typename Body>
  static std::thread start(std::string name, Body body);
  std::thread thread_;
};

// Blocks every signal for its lifetime; a thread started meanwhile inherits that.
class SignalBlock {
 public:
  SignalBlock();
  ~SignalBlock();
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t before_;
};

template <typename Body>
std::thread NamedThread::start(std::string name, Body body) {
  const SignalBlock block;
  return std::thread([name = std::move(name), body = std::move(body)]() mutable {
    ::pthread_setname_np(::pthread_self(), name.c_str());
    body();
  });
}

}  // namespace nc
