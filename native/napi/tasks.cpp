#include "napi/tasks.h"

#include <cstring>
#include <utility>

namespace nc::napi {

PromiseTask::PromiseTask(Environment& environment, Napi::Object owner)
    : environment_(environment),
      deferred_(Napi::Promise::Deferred::New(owner.Env())),
      owner_(Napi::Persistent(owner)) {}

PromiseTask::~PromiseTask() {
  // Never submitted, or the environment is ending. A promise that is never settled would leak; nobody waits
  // for this one, so it is resolved, which cannot surface as an unhandled rejection.
  if (settled_) return;
  try {
    const Napi::HandleScope scope(deferred_.Env());
    deferred_.Resolve(deferred_.Env().Undefined());
  } catch (const Napi::Error&) {
    // The environment takes nothing any more, and frees what it has.
  }
}

void PromiseTask::finish(std::unique_ptr<group::Task> self, const Error* error) noexcept {
  if (error != nullptr) error_ = *error;
  static_cast<void>(self.release());  // `this`, from here on as a Job
  environment_.post(std::unique_ptr<Job>(this));
}

void PromiseTask::run(Napi::Env env) {
  environment_.release();
  settled_ = true;
  if (error_) {
    deferred_.Reject(environment_.makeError(*error_));
  } else {
    deferred_.Resolve(result(env));
  }
}

ArrayTask::ArrayTask(Environment& environment, Napi::Object owner, Napi::TypedArray from, Napi::TypedArray to)
    : PromiseTask(environment, owner),
      inReference_(Napi::Persistent(from.As<Napi::Object>())),
      outReference_(Napi::Persistent(to.As<Napi::Object>())) {
  in = static_cast<const std::byte*>(from.ArrayBuffer().Data()) + from.ByteOffset();
  out = static_cast<std::byte*>(to.ArrayBuffer().Data()) + to.ByteOffset();
}

void VoteValues::read(Napi::Array values, DType dtype) {
  for (uint32_t i = 0; i < values.Length() && i < 4; ++i) {
    if (dtype == DType::kInt64) {
      bool lossless = false;
      const int64_t value = values.Get(i).As<Napi::BigInt>().Int64Value(&lossless);
      std::memcpy(&bytes[i * 8], &value, 8);
    } else {
      const int32_t value = values.Get(i).As<Napi::Number>().Int32Value();
      std::memcpy(&bytes[i * 4], &value, 4);
    }
  }
}

Napi::Array VoteValues::write(Napi::Env env, DType dtype, size_t count) const {
  Napi::Array out = Napi::Array::New(env, count);
  for (uint32_t i = 0; i < count; ++i) {
    if (dtype == DType::kInt64) {
      int64_t value = 0;
      std::memcpy(&value, &bytes[i * 8], 8);
      out[i] = Napi::BigInt::New(env, value);
    } else {
      int32_t value = 0;
      std::memcpy(&value, &bytes[i * 4], 4);
      out[i] = Napi::Number::New(env, value);
    }
  }
  return out;
}

VoteTask::VoteTask(Environment& environment, Napi::Object owner, const VoteValues& values)
    : PromiseTask(environment, owner), values_(values) {
  in = values_.bytes.data();
  out = values_.bytes.data();
}

Napi::Value VoteTask::result(Napi::Env env) {
  return values_.write(env, stamp.dtype, stamp.count);
}

BlockingTask::BlockingTask(std::shared_ptr<State> state) : state_(std::move(state)) {
  in = state_->values.bytes.data();
  out = state_->values.bytes.data();
}

void BlockingTask::finish(std::unique_ptr<group::Task>, const Error* error) noexcept {
  const std::shared_ptr<State> state = state_;
  const std::lock_guard lock(state->mutex);
  if (error != nullptr) state->error = *error;
  state->done = true;
  state->changed.notify_all();
}

}  // namespace nc::napi
