#include "core/lone_thread.h"

#include <condition_variable>
#include <mutex>

#include "core/process_end.h"

namespace nc {

struct LoneThread::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
};

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
  awaitAtExit([state = state_](const Deadline& deadline) {
    std::unique_lock lock(state->mutex);
    return state->changed.wait_until(lock, deadline.at(), [&] { return state->done; });
  });
  thread_.abandon();
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
