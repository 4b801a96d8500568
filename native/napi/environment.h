// What one JavaScript environment (the main thread or a worker) shares: the way from our threads to its event
// loop, the objects to be shut down when it ends, and the making of errors.
//
// Rules, each of which was somebody's bug:
//  - One thread-safe function per environment, unreferenced when made, referenced only while something is
//    pending: an idle group does not keep a process alive.
//  - It is released in the cleanup hook, which is added after it was made and so runs before Node's own.
//  - The cleanup hook marks the environment dead, shuts down every Closable (which joins its threads), then
//  drops
//    what is still queued. Jobs hold JavaScript references and are only ever destroyed on the JavaScript
//    thread.
//  - No state is global: the addon may be loaded in many workers at once, and unloaded with the last of them.
//  The watch on the parent process (core/parent_watch.h) is the process's, and keeps the addon loaded.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "napi/node_api.h"

namespace nc::napi {

// Something that is to happen on the JavaScript thread.
class Job {
 public:
  virtual ~Job() = default;
  // Within a handle scope. A JavaScript exception that it lets out is reported as uncaught.
  virtual void run(Napi::Env env) = 0;
};

// Something with threads of its own, to be ended with the environment.
class Closable {
 public:
  virtual ~Closable() = default;
  // JavaScript thread, at the environment's end, for all before the first shutdown(): abort, without waiting,
  // so that their farewells run side by side.
  virtual void abandon() noexcept {}
  // JavaScript thread, once, at the environment's end: abort, then join. Must return promptly.
  virtual void shutdown() noexcept = 0;
};

class Environment {
 public:
  static Environment& of(Napi::Env env);
  // Called once when the module is loaded into an environment.
  static void install(Napi::Env env);

  explicit Environment(Napi::Env env);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment();

  // ---- Any thread. Jobs run in the order they were posted. After the environment's end they are kept, and
  // destroyed by it on its own thread.
  void post(std::unique_ptr<Job> job) noexcept;

  // ---- JavaScript thread only, from here on.
  // Each hold() keeps the event loop alive until its release().
  void hold();
  void release();
  void add(Closable* closable) { closables_.insert(closable); }
  void remove(Closable* closable) { closables_.erase(closable); }

  // The function (code, message, facts) => Error from src/errors.ts.
  void setErrorFactory(Napi::Function factory);
  Napi::Value makeError(const Error& error);
  // makeError() as a C++ exception for the caller of a native method.
  Napi::Error thrown(const Error& error);

  // False once the environment is being terminated: a blocking call must come back.
  bool canRunJavaScript();

 private:
  static void cleanup(void* self) noexcept;
  static void callJs(napi_env env, napi_value callback, void* context, void* data) noexcept;
  void drain(Napi::Env env);

  napi_env env_;
  napi_threadsafe_function wake_ = nullptr;
  size_t holds_ = 0;
  std::set<Closable*> closables_;
  Napi::FunctionReference errorFactory_;
  Napi::FunctionReference nothing_;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Job>> jobs_;
  bool dead_ = false;
};

}  // namespace nc::napi
