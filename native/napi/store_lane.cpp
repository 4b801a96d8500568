#include "napi/store_lane.h"

#include <cstring>
#include <system_error>
#include <utility>

#include "napi/credentials.h"

namespace nc::napi {

struct StoreLane::Task {
  Op op{};
  std::vector<std::string> keys;
  std::vector<std::string> values;
  int64_t amount = 0;
  Deadline deadline;
  Napi::Promise::Deferred deferred;
};

struct StoreLane::Result {
  std::optional<Error> error;
  std::optional<std::vector<std::string>> values;
  std::optional<bool> yes;
  std::optional<int64_t> number;
};

class StoreLane::Completion final : public Job {
 public:
  Completion(StoreLane& lane, Napi::Promise::Deferred deferred, Result result)
      : lane_(lane), deferred_(deferred), result_(std::move(result)) {}

  void run(Napi::Env env) override {
    lane_.outlet_.release();
    // The lane may be collected from here on; it is not touched any more.
    Environment& environment = lane_.outlet_;
    lane_.Unref();
    if (result_.error) {
      deferred_.Reject(environment.makeError(*result_.error));
    } else {
      deferred_.Resolve(value(env));
    }
  }

 private:
  Napi::Value value(Napi::Env env) const {
    if (result_.yes) return Napi::Boolean::New(env, *result_.yes);
    if (result_.number) return Napi::BigInt::New(env, *result_.number);
    if (!result_.values) return env.Undefined();
    Napi::Array values = Napi::Array::New(env, result_.values->size());
    for (uint32_t i = 0; i < result_.values->size(); ++i) {
      const std::string& from = (*result_.values)[i];
      Napi::Uint8Array bytes = Napi::Uint8Array::New(env, from.size());
      if (!from.empty()) std::memcpy(bytes.Data(), from.data(), from.size());
      values[i] = bytes;
    }
    return values;
  }

  StoreLane& lane_;
  Napi::Promise::Deferred deferred_;
  Result result_;
};

Napi::Function StoreLane::define(Napi::Env env) {
  return DefineClass(env, "StoreLane",
                     {InstanceMethod<&StoreLane::call>("call"), InstanceMethod<&StoreLane::close>("close"),
                      InstanceAccessor<&StoreLane::usable>("usable")});
}

StoreLane::StoreLane(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<StoreLane>(info),
      environment_(&Environment::of(info.Env())),
      outlet_(*environment_),
      address_([&] {
        try {
          return SocketAddress::parse(info[0].As<Napi::String>(),
                                      static_cast<uint16_t>(info[1].As<Napi::Number>().Uint32Value()));
        } catch (const Error& error) {
          throw Environment::of(info.Env()).thrown(error);
        }
      }()),
      credentials_([&]() -> Credentials {
        try {
          return {readSecret(info[2]), {}};
        } catch (const Error& error) {
          throw Environment::of(info.Env()).thrown(error);
        }
      }()) {
  try {
    thread_ = NamedThread("nc-store-lane", [this] { run(); });
  } catch (const std::system_error& error) {
    throw environment_->thrown(systemError("store: starting a connection's thread", error.code().value()));
  }
  environment_->add(this);
}

StoreLane::~StoreLane() {
  if (environment_ == nullptr) return;
  end(Error(ErrorCode::kClosed, "the store was closed"));
  environment_->remove(this);
}

void StoreLane::shutdown() noexcept {
  end(Error(ErrorCode::kAborted, "the JavaScript environment ended"));
  environment_ = nullptr;
}

void StoreLane::end(const Error& cause) {
  if (!cancel_) return;
  cancel_->cancel(cause);
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
  cancel_.reset();  // its descriptor is not to wait for the garbage collector
}

Napi::Value StoreLane::call(const Napi::CallbackInfo& info) {
  const auto keys = info[1].As<Napi::Array>();
  const auto values = info[2].As<Napi::Array>();
  const auto limit = static_cast<int64_t>(info[4].As<Napi::Number>().DoubleValue());
  bool lossless = false;
  std::unique_ptr<Task> task(new Task{static_cast<Op>(info[0].As<Napi::Number>().Uint32Value()),
                                      {},
                                      {},
                                      info[3].As<Napi::BigInt>().Int64Value(&lossless),
                                      Deadline::in(Millis(limit)),
                                      Napi::Promise::Deferred::New(info.Env())});
  for (uint32_t i = 0; i < keys.Length(); ++i) {
    task->keys.push_back(keys.Get(i).As<Napi::String>());
  }
  for (uint32_t i = 0; i < values.Length(); ++i) {
    const auto bytes = values.Get(i).As<Napi::Uint8Array>();
    task->values.emplace_back(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  }
  const Napi::Promise promise = task->deferred.Promise();
  {
    const std::lock_guard lock(mutex_);
    if (ending_) {
      task->deferred.Reject(environment_->makeError(Error(ErrorCode::kClosed, "the store is closed")));
      return promise;
    }
    tasks_.push_back(std::move(task));
  }
  Ref();
  outlet_.hold();
  changed_.notify_one();
  return promise;
}

Napi::Value StoreLane::close(const Napi::CallbackInfo& info) {
  end(Error(ErrorCode::kClosed, "the store was closed"));
  return info.Env().Undefined();
}

Napi::Value StoreLane::usable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), usable_.load(std::memory_order_acquire));
}

// ---- the lane's thread

void StoreLane::run() {
  while (true) {
    std::unique_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
      // Ended, it still answers all that came before: their cancel is set, so none of them waits.
      if (tasks_.empty()) break;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    Result result;
    try {
      result = perform(*task);
    } catch (const Error& error) {
      result.error = error;
    } catch (const std::exception& error) {
      result.error = Error(ErrorCode::kResource, std::string("store: ") + error.what());
    }
    if (client_ && !client_->usable()) usable_.store(false, std::memory_order_release);
    outlet_.post(std::make_unique<Completion>(*this, task->deferred, std::move(result)));
  }
  client_.reset();
}

StoreLane::Result StoreLane::perform(const Task& task) {
  cancel_->check();
  if (!client_)
    client_.emplace(store::Client::connect(address_, task.deadline, cancel_.get(), {}, credentials_));
  store::Client& client = *client_;
  Result result;
  switch (task.op) {
    case Op::kConnect:
      break;
    case Op::kSet:
      client.set(task.keys[0], task.values[0], task.deadline, cancel_.get());
      client.sync(task.deadline, cancel_.get());
      break;
    case Op::kAppend:
      client.append(task.keys[0], task.values[0], task.deadline, cancel_.get());
      client.sync(task.deadline, cancel_.get());
      break;
    case Op::kMultiSet:
      client.multiSet(task.keys, task.values, task.deadline, cancel_.get());
      client.sync(task.deadline, cancel_.get());
      break;
    case Op::kTryGet:
      if (task.keys.size() == 1) {
        auto value = client.tryGet(task.keys[0], task.deadline, cancel_.get());
        if (value) result.values = std::vector<std::string>{std::move(*value)};
      } else {
        result.values = client.tryMultiGet(task.keys, task.deadline, cancel_.get());
      }
      break;
    case Op::kGet:
      if (task.keys.size() == 1) {
        result.values = std::vector<std::string>{client.get(task.keys[0], task.deadline, cancel_.get())};
      } else {
        result.values = client.multiGet(task.keys, task.deadline, cancel_.get());
      }
      break;
    case Op::kWait:
      client.wait(task.keys, task.deadline, cancel_.get());
      break;
    case Op::kCheck:
      result.yes = client.check(task.keys, task.deadline, cancel_.get());
      break;
    case Op::kAdd:
      result.number = client.add(task.keys[0], task.amount, task.deadline, cancel_.get());
      break;
    case Op::kCompareSet:
      result.values = std::vector<std::string>{
          client.compareSet(task.keys[0], task.values[0], task.values[1], task.deadline, cancel_.get())};
      break;
    case Op::kDeleteKey:
      result.yes = client.deleteKey(task.keys[0], task.deadline, cancel_.get());
      break;
    case Op::kNumKeys:
      result.number = client.numKeys(task.deadline, cancel_.get());
      break;
  }
  return result;
}

}  // namespace nc::napi
