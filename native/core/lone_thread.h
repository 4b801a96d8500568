// A thread for calls into libraries that may never return. It is joined like every other where it ends in
// time; where it does not, it is left to itself: the one exception to "every thread is joined". What it works
// on has to be its own (shared pointers), since nobody waits for it then. Only the end of the process does: a
// library whose own end runs while a thread is in it falls over, so that exit() waits for such threads, and
// where one does not come back leaves the libraries' ends out (it is _exit() then, with the same status).
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "core/deadline.h"
#include "core/thread.h"

namespace nc {

class LoneThread {
 public:
  LoneThread() = default;
  // What `body` throws is dropped; see aside() for a result.
  LoneThread(const char* name, std::function<void()> body);
  LoneThread(LoneThread&&) = default;
  LoneThread& operator=(LoneThread&& other) noexcept;
  ~LoneThread();  // leaves it to itself if it has not ended

  // One that is left to itself at once, and that the process's end does not wait for.
  static void forgotten(const char* name, std::function<void()> body);
  bool started() const { return thread_.joinable(); }
  // True once it has ended, and was joined.
  bool join(Millis limit);

 private:
  struct State;
  void leave() noexcept;
  std::shared_ptr<State> state_;
  NamedThread thread_;
};

// Runs `body` on a thread of its own and returns what it returns or throws. Meanwhile calls `look` every few
// milliseconds; where that throws, the thread is left to itself, and a result that it still brings is given
// to `drop`, over there.
template <typename T>
T aside(const char* name, std::function<T()> body, const std::function<void()>& look,
        std::function<void(T&)> drop = nullptr);

// ------------------------------------------------------------------------------------------------- details

// What the two sides of aside() share.
class Handover {
 public:
  void set();
  // False if the other side has gone.
  bool wanted();
  // True once set() was called.
  bool wait(Millis limit);
  // True if set() was called before: the result is this side's.
  bool leave();

 private:
  struct State;
  std::shared_ptr<State> state_ = make();
  static std::shared_ptr<State> make();
};

template <typename T>
T aside(const char* name, std::function<T()> body, const std::function<void()>& look,
        std::function<void(T&)> drop) {
  struct Result {
    std::optional<T> value;
    std::exception_ptr error;
  };
  const auto result = std::make_shared<Result>();
  Handover handover;
  LoneThread thread(name, [result, handover, body = std::move(body), drop = std::move(drop)]() mutable {
    try {
      result->value.emplace(body());
    } catch (...) {
      result->error = std::current_exception();
    }
    body = nullptr;
    handover.set();
    if (!handover.wanted() && drop && result->value) drop(*result->value);
  });
  constexpr Millis kLook{2};
  while (!handover.wait(kLook)) {
    try {
      look();
    } catch (...) {
      if (handover.leave()) break;  // it came at this very moment
      throw;
    }
  }
  thread.join(Millis{1000});
  if (result->error) std::rethrow_exception(result->error);
  return std::move(*result->value);
}

}  // namespace nc
