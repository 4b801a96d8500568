// Operations on their way through a group on behalf of JavaScript: what they keep alive, and how they end.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "group/group.h"
#include "napi/environment.h"
#include "napi/node_api.h"

namespace nc::napi {

// Settles a promise. Made, run and destroyed on the JavaScript thread; finish() comes on the group's.
class PromiseTask : public group::Task, public Job {
 public:
  // `owner`: the native group's JavaScript object, kept until the operation has ended.
  PromiseTask(Environment& environment, Napi::Object owner);
  ~PromiseTask() override;
  Napi::Promise promise() const { return deferred_.Promise(); }
  void finish(std::unique_ptr<group::Task> self, const Error* error) noexcept override;
  void run(Napi::Env env) override;

 protected:
  virtual Napi::Value result(Napi::Env env) { return env.Undefined(); }

 private:
  Environment& environment_;
  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference owner_;
  std::optional<Error> error_;
  bool settled_ = false;
};

// Borrows typed arrays, which it keeps from being collected.
class ArrayTask final : public PromiseTask {
 public:
  ArrayTask(Environment& environment, Napi::Object owner, Napi::TypedArray in, Napi::TypedArray out);

 private:
  Napi::ObjectReference inReference_;
  Napi::ObjectReference outReference_;
};

// The few numbers of a vote, held by the task itself.
struct VoteValues {
  // Reduced in place as int32 or int64; without this a task's other members decide where it lies.
  alignas(int64_t) std::array<std::byte, 32> bytes{};

  // `values` is an array of numbers (int32) or bigints (int64); sets the stamp's dtype and count.
  void read(Napi::Array values, DType dtype);
  Napi::Array write(Napi::Env env, DType dtype, size_t count) const;
};

class VoteTask final : public PromiseTask {
 public:
  VoteTask(Environment& environment, Napi::Object owner, const VoteValues& values);

 protected:
  Napi::Value result(Napi::Env env) override;

 private:
  VoteValues values_;
};

// Wakes the thread that blocks for it. The state outlives whichever side is done first.
class BlockingTask final : public group::Task {
 public:
  struct State {
    VoteValues values;
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::optional<Error> error;
  };

  explicit BlockingTask(std::shared_ptr<State> state);
  void finish(std::unique_ptr<group::Task> self, const Error* error) noexcept override;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace nc::napi
