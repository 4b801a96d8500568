#include "napi/group_object.h"

#include <functional>
#include <mutex>
#include <utility>

#include "napi/device_task.h"
#include "napi/group_options.h"
#include "napi/group_report.h"
#include "napi/tasks.h"

namespace nc::napi {

namespace {

// How often a blocking vote looks whether its environment is being terminated.
constexpr Millis kTerminationCheck{50};
constexpr const char* kEnvironmentEnded = "its JavaScript environment ended";

Deadline deadlineOf(Napi::Value timeoutMs) {
  return Deadline::in(Millis(timeoutMs.As<Napi::Number>().Int64Value()));
}

Stamp readStamp(const Napi::CallbackInfo& info) {
  Stamp stamp;
  stamp.kind = static_cast<OpKind>(info[0].As<Napi::Number>().Uint32Value());
  stamp.dtype = static_cast<DType>(info[1].As<Napi::Number>().Uint32Value());
  stamp.reduceOp = static_cast<ReduceOp>(info[2].As<Napi::Number>().Uint32Value());
  stamp.root = info[3].As<Napi::Number>().Int32Value();
  stamp.count = static_cast<uint64_t>(info[4].As<Napi::Number>().Int64Value());
  return stamp;
}

}  // namespace

// The way back to JavaScript for a group's events. Lives as long as any event is on its way.
struct GroupObject::Events {
  Napi::FunctionReference callback;  // JavaScript thread only
  bool holding = false;              // the event loop is kept alive for joining or closing,
  Napi::ObjectReference self;        // and so is the object
  Napi::ObjectReference telling;     // the object, without the event loop

  void hold(Environment& environment, Napi::Object object) {
    if (holding) return;
    holding = true;
    self = Napi::Persistent(object);
    environment.hold();
  }
  void release(Environment& environment) {
    if (!holding) return;
    holding = false;
    self.Reset();
    environment.release();
  }
};

class GroupObject::EventJob final : public Job {
 public:
  using Fill = std::function<void(Environment&, Napi::Object)>;
  EventJob(Environment& environment, std::shared_ptr<Events> events, const char* type, Fill fill)
      : environment_(environment), events_(std::move(events)), type_(type), fill_(std::move(fill)) {}

  void run(Napi::Env env) override {
    const std::string type = type_;
    if (type == "formed" || type == "ended") events_->release(environment_);
    if (events_->callback.IsEmpty()) return;
    Napi::Object event = Napi::Object::New(env);
    event["type"] = Napi::String::New(env, type_);
    if (fill_) fill_(environment_, event);
    const Napi::Function callback = events_->callback.Value();
    // Nothing follows, and the callback may hold on to much.
    if (type == "ended" ? events_->telling.IsEmpty() : type == "told") events_->callback.Reset();
    callback.Call({event});
  }

 private:
  Environment& environment_;
  std::shared_ptr<Events> events_;
  const char* type_;
  Fill fill_;
};

// Keeps the object, whose collection would end what is being told, or lets it go.
class GroupObject::TellingJob final : public Job {
 public:
  TellingJob(std::shared_ptr<Events> events, bool keep) : events_(std::move(events)), keep_(keep) {}

  void run(Napi::Env) override {
    // Before "ended" it is held for joining.
    if (keep_ && !events_->self.IsEmpty()) events_->telling = Napi::Persistent(events_->self.Value());
    if (!keep_) events_->telling.Reset();
  }

 private:
  std::shared_ptr<Events> events_;
  bool keep_;
};

void registerGroup(Napi::Env env, Napi::Object exports) {
  exports["NativeGroup"] = GroupObject::define(env);
}

Napi::Function GroupObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeGroup",
      {InstanceMethod<&GroupObject::start>("start"), InstanceMethod<&GroupObject::abort>("abort"),
       InstanceMethod<&GroupObject::close>("close"), InstanceMethod<&GroupObject::hush>("hush"),
       InstanceMethod<&GroupObject::info>("info"), InstanceMethod<&GroupObject::operations>("operations"),
       InstanceMethod<&GroupObject::stats>("stats"), InstanceMethod<&GroupObject::operation>("operation"),
       InstanceMethod<&GroupObject::lastSeq>("lastSeq"), InstanceMethod<&GroupObject::meet>("meet"),
       InstanceMethod<&GroupObject::lose>("lose"), InstanceMethod<&GroupObject::run>("run"),
       InstanceMethod<&GroupObject::runDevice>("runDevice"), InstanceMethod<&GroupObject::message>("message"),
       InstanceMethod<&GroupObject::endBatch>("endBatch"), InstanceMethod<&GroupObject::vote>("vote")});
}

GroupObject::GroupObject(const Napi::CallbackInfo& info)
    : ObjectWrap(info), environment_(Environment::of(info.Env())), events_(std::make_shared<Events>()) {
  events_->callback = Napi::Persistent(info[1].As<Napi::Function>());
  Environment& environment = environment_;
  const std::shared_ptr<Events> events = events_;
  const auto post = [&environment, events](const char* type, EventJob::Fill fill) {
    environment.post(std::make_unique<EventJob>(environment, events, type, std::move(fill)));
  };

  group::GroupEvents handlers;
  handlers.onListening = [post](uint16_t port) {
    post("listening",
         [port](Environment&, Napi::Object event) { event["port"] = Napi::Number::New(event.Env(), port); });
  };
  handlers.onAddressInUse = [post](const SocketAddress& address) {
    post("addressInUse", [text = address.text()](Environment&, Napi::Object event) {
      event["address"] = Napi::String::New(event.Env(), text);
    });
  };
  handlers.onRefused = [post](const rendezvous::Refusal& refusal) {
    post("refused", [refusal](Environment&, Napi::Object event) {
      event["rank"] = Napi::Number::New(event.Env(), refusal.rank);
      event["pid"] = Napi::Number::New(event.Env(), static_cast<double>(refusal.pid));
      event["host"] = Napi::String::New(event.Env(), refusal.host);
      event["reason"] = Napi::String::New(event.Env(), refusal.reason);
    });
  };
  handlers.onWaiting = [post](const Stamp& stamp, Millis waited, const std::vector<int>& missing) {
    post("waiting", [stamp, waited, missing](Environment&, Napi::Object event) {
      event["seq"] = Napi::Number::New(event.Env(), static_cast<double>(stamp.seq));
      event["op"] = Napi::String::New(event.Env(), stamp.seq == 0 ? "join" : name(stamp.kind));
      event["waitedMs"] = Napi::Number::New(event.Env(), static_cast<double>(waited.count()));
      Napi::Array ranks = Napi::Array::New(event.Env(), missing.size());
      for (uint32_t i = 0; i < missing.size(); ++i) ranks[i] = Napi::Number::New(event.Env(), missing[i]);
      event["missing"] = ranks;
    });
  };
  handlers.onGone = [post](int rank) {
    post("gone",
         [rank](Environment&, Napi::Object event) { event["rank"] = Napi::Number::New(event.Env(), rank); });
  };
  handlers.onFormed = [post] { post("formed", nullptr); };
  handlers.onFailed = [post](const Error& error) {
    post("failed",
         [error](Environment& owner, Napi::Object event) { event["error"] = owner.makeError(error); });
  };
  handlers.onEnded = [post, &environment, events](bool telling) {
    if (telling) environment.post(std::make_unique<TellingJob>(events, true));
    post("ended", [telling](Environment&, Napi::Object event) {
      event["telling"] = Napi::Boolean::New(event.Env(), telling);
    });
  };
  handlers.onTold = [post, &environment, events] {
    post("told", nullptr);
    environment.post(std::make_unique<TellingJob>(events, false));
  };

  try {
    group::GroupOptions options = readGroupOptions(info[0].As<Napi::Object>());
    rank_ = options.join.rank;
    size_ = static_cast<uint64_t>(options.join.identity.size);
    if (options.device) device_ = options.device->index;
    group_ = std::make_unique<group::Group>(std::move(options), std::move(handlers));
  } catch (const Error& error) {
    throw environment_.thrown(error);
  }
  environment_.add(this);
}

GroupObject::~GroupObject() {
  environment_.remove(this);
}

void GroupObject::abandon() noexcept {
  group_->abort(kEnvironmentEnded);
}

void GroupObject::shutdown() noexcept {
  group_->shutdown(kEnvironmentEnded);
}

void GroupObject::start(const Napi::CallbackInfo&) {
  try {
    group_->start();
  } catch (const Error& error) {
    throw environment_.thrown(error);
  }
  events_->hold(environment_, Value());
}

void GroupObject::abort(const Napi::CallbackInfo& info) {
  group_->abort(info[0].As<Napi::String>().Utf8Value());
}

void GroupObject::hush(const Napi::CallbackInfo&) {
  group_->hush();
}

void GroupObject::close(const Napi::CallbackInfo&) {
  // Closing is finished before the process may end by itself. `callback` is empty once the group has ended.
  if (!events_->callback.IsEmpty()) events_->hold(environment_, Value());
  group_->close();
}

Napi::Value GroupObject::info(const Napi::CallbackInfo& info) {
  const auto known = group_->info();
  return known ? groupInfo(info.Env(), *known).As<Napi::Value>() : info.Env().Null();
}

Napi::Value GroupObject::operations(const Napi::CallbackInfo& info) {
  return groupOperations(info.Env(), group_->operations());
}

Napi::Value GroupObject::operation(const Napi::CallbackInfo& info) {
  const auto record = group_->operation(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
  if (!record) return info.Env().Null();
  return groupOperations(info.Env(), {*record}).Get(0u);
}

Napi::Value GroupObject::lastSeq(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(group_->lastSeq()));
}

Napi::Value GroupObject::stats(const Napi::CallbackInfo& info) {
  return groupStats(info.Env(), group_->stats());
}

Napi::Value GroupObject::meet(const Napi::CallbackInfo& info) {
  try {
    return Napi::Number::New(info.Env(), group_->meet().release());
  } catch (const Error& error) {
    throw environment_.thrown(error);
  }
}

void GroupObject::lose(const Napi::CallbackInfo& info) {
  ErrorFacts facts;
  facts.peer = info[0].As<Napi::Number>().Int32Value();
  facts.peerHost = info[1].As<Napi::String>().Utf8Value();
  facts.peerPid = info[2].As<Napi::Number>().Int64Value();
  facts.op = "join";
  group_->lose(Error(ErrorCode::kRankLost,
                     "rank " + std::to_string(facts.peer) + " (pid " + std::to_string(facts.peerPid) +
                         " on " + facts.peerHost + ") was lost while the group was forming",
                     facts));
}

void GroupObject::submit(std::unique_ptr<group::Task> task) {
  try {
    group_->submit(std::move(task));
  } catch (const Error& error) {
    throw environment_.thrown(error);
  }
}

Napi::Value GroupObject::run(const Napi::CallbackInfo& info) {
  auto task = std::make_unique<ArrayTask>(environment_, Value(), info[5].As<Napi::TypedArray>(),
                                          info[6].As<Napi::TypedArray>());
  task->stamp = readStamp(info);
  task->deadline = deadlineOf(info[7]);
  // All of it has been checked, but a subclass of a typed array may say what it likes of itself, and a buffer
  // may have been detached since.
  const uint64_t count = task->stamp.count;
  const uint64_t bytes = count * elementSize(task->stamp.dtype);
  const OpKind kind = task->stamp.kind;
  const uint64_t from = kind == OpKind::kReduceScatter || kind == OpKind::kAllToAll ? size_ : 1;
  const uint64_t to = kind == OpKind::kAllGather || kind == OpKind::kAllToAll ? size_ : 1;
  if (count > transport::kMaxDataBytes || bytes * from > info[5].As<Napi::TypedArray>().ByteLength() ||
      bytes * to > info[6].As<Napi::TypedArray>().ByteLength()) {
    ErrorFacts facts;
    facts.op = name(task->stamp.kind);
    throw environment_.thrown(Error(ErrorCode::kInvalidArgument,
                                    facts.op + ": array or out has less memory than its length says", facts));
  }
  if (info[8].As<Napi::Boolean>().Value()) stage(*task);
  const Napi::Promise promise = task->promise();
  submit(std::move(task));
  environment_.hold();
  return promise;
}

Napi::Value GroupObject::runDevice(const Napi::CallbackInfo& info) {
  auto task = std::make_unique<DeviceTask>(environment_, Value());
  task->stamp = readStamp(info);
  task->stamp.device = true;
  task->deadline = deadlineOf(info[11]);
  task->tag = static_cast<uint64_t>(info[12].As<Napi::Number>().Int64Value());
  try {
    readDevicePart(info, *task, rank_, static_cast<int>(size_), device_);
  } catch (const Error& error) {
    throw environment_.thrown(error);
  }
  const Napi::Promise promise = task->promise();
  submit(std::move(task));
  environment_.hold();
  return promise;
}

Napi::Value GroupObject::message(const Napi::CallbackInfo& info) {
  const auto array = info[5].As<Napi::TypedArray>();
  auto task = std::make_unique<ArrayTask>(environment_, Value(), array, array);
  task->stamp.kind = static_cast<OpKind>(info[0].As<Napi::Number>().Uint32Value());
  task->stamp.dtype = static_cast<DType>(info[1].As<Napi::Number>().Uint32Value());
  task->stamp.root = info[2].As<Napi::Number>().Int32Value();
  task->tag = static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value());
  task->stamp.count = static_cast<uint64_t>(info[4].As<Napi::Number>().Int64Value());
  task->deadline = deadlineOf(info[6]);
  // As in run().
  if (task->stamp.count > array.ByteLength() / elementSize(task->stamp.dtype)) {
    ErrorFacts facts;
    facts.op = name(task->stamp.kind);
    throw environment_.thrown(
        Error(ErrorCode::kInvalidArgument, facts.op + ": array has less memory than its length says", facts));
  }
  if (info[7].As<Napi::Boolean>().Value()) stage(*task);
  const Napi::Promise promise = task->promise();
  submit(std::move(task));
  environment_.hold();
  return promise;
}

void GroupObject::endBatch(const Napi::CallbackInfo&) {
  group_->endBatch();
}

Napi::Value GroupObject::vote(const Napi::CallbackInfo& info) {
  const auto dtype = static_cast<DType>(info[0].As<Napi::Number>().Uint32Value());
  const auto given = info[2].As<Napi::Array>();
  VoteValues values;
  values.read(given, dtype);
  const auto prepare = [&](group::Task& task) {
    task.stamp.kind = OpKind::kAllReduce;
    task.stamp.dtype = dtype;
    task.stamp.reduceOp = static_cast<ReduceOp>(info[1].As<Napi::Number>().Uint32Value());
    task.stamp.count = given.Length();
    task.deadline = deadlineOf(info[3]);
    if (info[5].As<Napi::Boolean>().Value()) stage(task);
  };
  if (!info[4].As<Napi::Boolean>().Value()) {
    auto task = std::make_unique<VoteTask>(environment_, Value(), values);
    prepare(*task);
    const Napi::Promise promise = task->promise();
    submit(std::move(task));
    environment_.hold();
    return promise;
  }
  auto state = std::make_shared<BlockingTask::State>();
  state->values = values;
  auto task = std::make_unique<BlockingTask>(state);
  prepare(*task);
  submit(std::move(task));
  std::unique_lock lock(state->mutex);
  while (!state->changed.wait_for(lock, kTerminationCheck, [&] { return state->done; })) {
    lock.unlock();
    // worker.terminate() cannot interrupt native code, so it is asked for.
    if (!environment_.canRunJavaScript()) group_->abort("its worker was terminated");
    lock.lock();
  }
  if (state->error) throw environment_.thrown(*state->error);
  return state->values.write(info.Env(), dtype, given.Length());
}

}  // namespace nc::napi
