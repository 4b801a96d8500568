// A call on a thread of its own that is expected not to come back for now.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

namespace standin_test {

class Attempt {
 public:
  template <typename Body>
  explicit Attempt(Body body)
      : thread_([this, body] {
          id_ = ::syscall(SYS_gettid);
          body();
          over_ = true;
        }) {}
  ~Attempt() { thread_.join(); }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  // Once it has begun, and the kernel says twenty times in a row that it sleeps: whether it has not come
  // back.
  bool stillIn() const {
    for (int asleep = 0; asleep < 20 && !over_.load();) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      asleep = sleeps() ? asleep + 1 : 0;
    }
    return !over_.load();
  }

 private:
  bool sleeps() const {
    if (id_.load() == 0) return false;
    std::ifstream file("/proc/self/task/" + std::to_string(id_.load()) + "/stat");
    std::string text;
    std::getline(file, text);
    // The name may hold anything, and stands in brackets.
    const size_t state = text.rfind(") ") + 2;
    return state < text.size() && text[state] == 'S';
  }

  std::atomic<long> id_{0};
  std::atomic<bool> over_{false};
  std::thread thread_;  // last: it uses the others
};

}  // namespace standin_test
