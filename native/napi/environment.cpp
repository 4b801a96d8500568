#include "napi/environment.h"

#include <cstring>
#include <utility>

#include "core/process_end.h"
#include "napi/stamp.h"

namespace nc::napi {

Environment& Environment::of(Napi::Env env) {
  return *env.GetInstanceData<Environment>();
}

void Environment::install(Napi::Env env) {
  env.SetInstanceData(std::make_unique<Environment>(env).release());
}

Environment::Environment(Napi::Env env) : env_(env) {
  const Napi::HandleScope scope(env);
  const Napi::String name = Napi::String::New(env, "node-collectives");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                      &Environment::callJs, &wake_) != napi_ok) {
    throw Napi::Error::New(env, "node-collectives: the thread-safe function could not be made");
  }
  napi_unref_threadsafe_function(env, wake_);
  nothing_ = Napi::Persistent(Napi::Function::New(env, [](const Napi::CallbackInfo&) {}));
  napi_add_env_cleanup_hook(env, &Environment::cleanup, this);
}

Environment::~Environment() {
  // The engine is gone by now, and with it what these referred to.
  errorFactory_.SuppressDestruct();
  nothing_.SuppressDestruct();
}

void Environment::cleanup(void* self) noexcept {
  auto& environment = *static_cast<Environment*>(self);
  {
    const std::lock_guard lock(environment.mutex_);
    environment.dead_ = true;
  }
  for (Closable* const closable : environment.closables_) closable->abandon();
  while (!environment.closables_.empty()) {
    Closable* const closable = *environment.closables_.begin();
    environment.closables_.erase(environment.closables_.begin());
    closable->shutdown();
  }
  decideFirstAtExit();
  napi_release_threadsafe_function(environment.wake_, napi_tsfn_abort);
  std::vector<std::unique_ptr<Job>> left;
  {
    const std::lock_guard lock(environment.mutex_);
    left.swap(environment.jobs_);
  }
  const Napi::HandleScope scope(environment.env_);
  left.clear();
  environment.errorFactory_.Reset();
  environment.nothing_.Reset();
}

void Environment::post(std::unique_ptr<Job> job) noexcept {
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  // One wake-up for all that is queued. The function is released under `dead_`, so it still is there.
  if (jobs_.size() == 1 && !dead_) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Environment::callJs(napi_env env, napi_value, void* context, void*) noexcept {
  if (env == nullptr) return;  // the environment is ending; the cleanup hook sees to the jobs
  static_cast<Environment*>(context)->drain(env);
}

void Environment::drain(Napi::Env env) {
  std::vector<std::unique_ptr<Job>> jobs;
  {
    const std::lock_guard lock(mutex_);
    jobs.swap(jobs_);
  }
  for (std::unique_ptr<Job>& job : jobs) {
    const Napi::HandleScope scope(env);
    try {
      job->run(env);
    } catch (const Napi::Error& error) {
      // While a worker is being terminated nothing can be run or reported any more.
      if (canRunJavaScript()) napi_fatal_exception(env, error.Value());
    }
    job.reset();
  }
}

void Environment::hold() {
  if (holds_++ == 0) napi_ref_threadsafe_function(env_, wake_);
}

void Environment::release() {
  if (--holds_ == 0) napi_unref_threadsafe_function(env_, wake_);
}

void Environment::setErrorFactory(Napi::Function factory) {
  errorFactory_ = Napi::Persistent(factory);
}

Napi::Value Environment::makeError(const Error& error) {
  const Napi::Env env(env_);
  const ErrorFacts& from = error.facts;
  Napi::Object facts = Napi::Object::New(env);
  if (from.rank >= 0) facts["rank"] = Napi::Number::New(env, from.rank);
  if (from.detectedBy >= 0) facts["detectedBy"] = Napi::Number::New(env, from.detectedBy);
  if (from.peer >= 0) facts["peer"] = Napi::Number::New(env, from.peer);
  if (!from.peerHost.empty()) facts["peerHost"] = Napi::String::New(env, from.peerHost);
  if (from.peerPid != 0) facts["peerPid"] = Napi::Number::New(env, static_cast<double>(from.peerPid));
  if (!from.op.empty()) facts["op"] = Napi::String::New(env, from.op);
  if (from.seq >= 0) facts["seq"] = Napi::Number::New(env, static_cast<double>(from.seq));
  if (from.errnum != 0) {
    const char* const name = strerrorname_np(from.errnum);
    facts["errno"] = Napi::String::New(env, name != nullptr ? name : std::to_string(from.errnum));
  }
  if (!from.address.empty()) facts["address"] = Napi::String::New(env, from.address);
  if (from.consequence) facts["consequence"] = Napi::Boolean::New(env, true);
  if (!from.missing.empty()) {
    Napi::Array missing = Napi::Array::New(env, from.missing.size());
    for (uint32_t i = 0; i < from.missing.size(); ++i) missing[i] = Napi::Number::New(env, from.missing[i]);
    facts["missing"] = missing;
  }
  if (!from.calls.empty()) {
    Napi::Array calls = Napi::Array::New(env, from.calls.size());
    for (uint32_t i = 0; i < from.calls.size(); ++i) {
      Napi::Object call = Napi::Object::New(env);
      call["rank"] = Napi::Number::New(env, from.calls[i].rank);
      setStamp(call, from.calls[i].stamp);
      if (isMessage(from.calls[i].stamp)) {
        call["tag"] = Napi::Number::New(env, static_cast<double>(from.calls[i].tag));
      }
      calls[i] = call;
    }
    facts["calls"] = calls;
  }
  const Napi::String code = Napi::String::New(env, codeName(error.code));
  const Napi::String message = Napi::String::New(env, error.what());
  if (errorFactory_.IsEmpty()) return Napi::Error::New(env, error.what()).Value();
  return errorFactory_.Call({code, message, facts});
}

Napi::Error Environment::thrown(const Error& error) {
  return {env_, makeError(error)};
}

bool Environment::canRunJavaScript() {
  const Napi::HandleScope scope(env_);
  napi_value global = nullptr;
  if (napi_get_global(env_, &global) != napi_ok) return false;
  return napi_call_function(env_, global, nothing_.Value(), 0, nullptr, nullptr) == napi_ok;
}

}  // namespace nc::napi
