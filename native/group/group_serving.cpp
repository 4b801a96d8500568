// The group's thread while the group stands: its operations, in call order.
#include <utility>

#include "group/group.h"

namespace nc::group {

namespace {
constexpr const char* kMessagePath = "message";  // for the record
}  // namespace

void Group::serve() {
  try {
    while (std::unique_ptr<Task> task = next()) {
      if (task->device) {
        device_->add(batchOf(std::move(task)));
        continue;
      }
      if (isMessage(task->stamp)) {
        if (!exchange(std::move(task))) return;
        continue;
      }
      const gloo::Call call{task->stamp, task->deadline, task->in, task->out, task->firstSent};
      try {
        collectives_->run(call);
      } catch (const Error& error) {
        noteEnd(*task, &error);
        // Only a mistake of the caller's leaves the group as it was.
        if (error.code != ErrorCode::kInvalidArgument) {
          std::vector<std::unique_ptr<Task>> met;
          met.push_back(std::move(task));
          return failWith(error, std::move(met));
        }
        finish(std::move(task), &error);
        continue;
      }
      noteEnd(*task, nullptr);
      finish(std::move(task), nullptr);
    }
  } catch (const Error& error) {
    failWith(error);
  } catch (const std::exception& error) {
    failWith(Error(ErrorCode::kInternal, std::string("the group's thread failed: ") + error.what()));
  }
}

bool Group::exchange(std::unique_ptr<Task> first) {
  Messages messages(*mesh_);
  std::optional<Error> failure;
  try {
    messages.add(std::move(first));
    for (;;) {
      // Not only when woken: those that were called together with the first one woke this thread together.
      while (std::unique_ptr<Task> more = nextMessage()) messages.add(std::move(more));
      for (std::unique_ptr<Task>& task : messages.takeDone()) {
        recorder_.messageEnded(task->stamp, kMessagePath, nullptr);
        finish(std::move(task), nullptr);
      }
      if (messages.empty()) return true;
      if (messages.wait(wakeFd_.get())) woken();
    }
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error(ErrorCode::kInternal, std::string("sending and receiving failed: ") + error.what());
  }
  // While the links still may send from the memory of what is under way.
  mesh_->fail(*failure);
  std::vector<std::unique_ptr<Task>> met = messages.takeAll();
  for (const std::unique_ptr<Task>& task : met) recorder_.messageEnded(task->stamp, kMessagePath, &*failure);
  failWith(*failure, std::move(met));
  return false;
}

// Under the lock: its turn has come.
std::unique_ptr<Task> Group::takeFirst() {
  std::unique_ptr<Task> task = std::move(queue_.front());
  queue_.pop_front();
  recorder_.begun(task->stamp, task->called);
  return task;
}

// The next operation, if it is a message of the CPUs as well.
std::unique_ptr<Task> Group::nextMessage() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty() || !isMessage(queue_.front()->stamp) || queue_.front()->device) return nullptr;
  return takeFirst();
}

// What goes to the device together with that one.
std::vector<std::unique_ptr<Task>> Group::batchOf(std::unique_ptr<Task> first) {
  const uint64_t batch = first->device->batch;
  std::vector<std::unique_ptr<Task>> tasks;
  tasks.push_back(std::move(first));
  if (batch == 0) return tasks;
  const std::lock_guard lock(mutex_);
  while (!queue_.empty() && queue_.front()->device && queue_.front()->device->batch == batch) {
    tasks.push_back(takeFirst());
  }
  return tasks;
}

void Group::noteEnd(const Task& task, const Error* error) {
  // Where it came to no algorithm, the mesh still speaks of the operation before.
  const char* const path = collectives_->path();
  recorder_.ended(task.stamp.seq, path, path != nullptr ? mesh_->waited() : Clock::duration{}, error);
}

// Whether the first of the queue can be begun: the device takes so many at a time, and a batch whole.
bool Group::takeable() const {
  if (queue_.empty()) return false;
  const auto& device = queue_.front()->device;
  return !device || (!device_->full() && device->batch != batch_);
}

// The next operation, or nothing once the group is closed and all have ended. Watches the links meanwhile.
std::unique_ptr<Task> Group::next() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      parked_ = false;
      if (takeable()) return takeFirst();
      if (closing_ && queue_.empty() && (!device_ || device_->empty())) {
        // Aborted just before: the others are to hear that and not a goodbye.
        cancel_.check();
        return nullptr;
      }
      parked_ = true;
    }
    mesh_->serve(wakeFd_.get());
    woken();
  }
}

}  // namespace nc::group
