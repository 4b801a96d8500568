#include "core/lone_thread.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace nc {

struct LoneThread::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
};

namespace {

constexpr Millis kExitLimit{3000};

// Never destroyed: it is used while the process ends.
class Strays {
 public:
  using State = std::shared_ptr<LoneThread::State>;
  static Strays& all() {
    static Strays* const strays = new Strays;  // NOLINT(cppcoreguidelines-owning-memory)
    return *strays;
  }

  void add(State state) {
    const std::lock_guard lock(mutex_);
    states_.erase(std::remove_if(states_.begin(), states_.end(), ended), states_.end());
    states_.push_back(std::move(state));
  }

  bool any() {
    const std::lock_guard lock(mutex_);
    return !std::all_of(states_.begin(), states_.end(), ended);
  }

  // Whether all of them have ended by then.
  bool wait(const Deadline& deadline) {
    const std::lock_guard lock(mutex_);
    return std::all_of(states_.begin(), states_.end(), [&](const State& state) {
      std::unique_lock one(state->mutex);
      return state->changed.wait_until(one, deadline.at(), [&] { return state->done; });
    });
  }

 private:
  static bool ended(const State& state) {
    const std::lock_guard lock(state->mutex);
    return state->done;
  }

  std::mutex mutex_;
  std::vector<State> states_;
};

#if defined(__GLIBC__)
void atExit(int status, void*) {
  if (Strays::all().wait(Deadline::in(kExitLimit))) return;
  std::fflush(nullptr);
  ::_exit(status);
}
#endif

// The code of a thread that is left to itself must stay, also where Node unloads the addon with its last
// worker.
void pinThisModule() noexcept {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&pinThisModule), &info) == 0 || info.dli_fname == nullptr) return;
  ::dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace

LoneThread::LoneThread(const char* name, std::function<void()> body)
    : state_(std::make_shared<State>()), thread_(name, [state = state_, body = std::move(body)]() mutable {
        try {
          body();
        } catch (...) {  // NOLINT(bugprone-empty-catch): said so
        }
        body = nullptr;
        const std::lock_guard lock(state->mutex);
        state->done = true;
        state->changed.notify_all();
      }) {}

LoneThread& LoneThread::operator=(LoneThread&& other) noexcept {
  leave();
  state_ = std::move(other.state_);
  thread_ = std::move(other.thread_);
  return *this;
}

LoneThread::~LoneThread() {
  leave();
}

bool LoneThread::join(Millis limit) {
  if (!thread_.joinable()) return true;
  std::unique_lock lock(state_->mutex);
  if (!state_->changed.wait_for(lock, limit, [&] { return state_->done; })) return false;
  lock.unlock();
  thread_.join();
  return true;
}

void LoneThread::forgotten(const char* name, std::function<void()> body) {
  LoneThread thread(name, std::move(body));
  pinThisModule();
  thread.thread_.abandon();
}

void LoneThread::leave() noexcept {
  if (join(Millis{0})) return;
  pinThisModule();
  Strays::all().add(state_);
  thread_.abandon();
  waitAtExitFirst();
}

void waitAtExitFirst() noexcept {
#if defined(__GLIBC__)
  if (Strays::all().any()) ::on_exit(&atExit, nullptr);
#endif
}

struct Handover::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool set = false;
  bool left = false;
};

std::shared_ptr<Handover::State> Handover::make() {
  return std::make_shared<State>();
}

void Handover::set() {
  const std::lock_guard lock(state_->mutex);
  state_->set = true;
  state_->changed.notify_all();
}

bool Handover::wanted() {
  const std::lock_guard lock(state_->mutex);
  return !state_->left;
}

bool Handover::wait(Millis limit) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, limit, [&] { return state_->set; });
}

bool Handover::leave() {
  const std::lock_guard lock(state_->mutex);
  if (!state_->set) state_->left = true;
  return state_->set;
}

}  // namespace nc
