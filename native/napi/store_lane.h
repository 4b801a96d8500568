// StoreLane for JavaScript: one connection to a store and one thread ("nc-store-lane") that makes the calls
// on it in the order they came. new StoreLane(host, port, secret) with a numeric host does nothing but start
// the thread; the first call connects.
//
// call(op, keys, values, amount, timeoutMs) => Promise. `keys` are raw keys. While a call is pending the
// event loop is kept alive. close() ends the call under way at once and rejects all with CLOSED.
//
// JavaScript thread, except run().
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/deadline.h"
#include "core/thread.h"
#include "napi/environment.h"
#include "store/client.h"

namespace nc::napi {

class StoreLane final : public Napi::ObjectWrap<StoreLane>, private Closable {
 public:
  // The numbers of src/store/lane.ts.
  enum class Op : uint32_t {
    kConnect,
    kSet,
    kAppend,
    kMultiSet,
    kTryGet,  // values of all keys, or nothing if one is missing
    kGet,     // waits for the keys, then their values
    kWait,
    kCheck,
    kAdd,
    kCompareSet,
    kDeleteKey,
    kNumKeys,
  };

  static Napi::Function define(Napi::Env env);
  explicit StoreLane(const Napi::CallbackInfo& info);
  ~StoreLane() override;

 private:
  struct Task;
  struct Result;
  class Completion;

  void shutdown() noexcept override;
  Napi::Value call(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value usable(const Napi::CallbackInfo& info);
  void end(const Error& cause);
  void run();
  Result perform(const Task& task);

  Environment* environment_;  // null after the environment's end
  Environment& outlet_;       // the same, for the thread: it is joined before the environment goes
  const SocketAddress address_;
  const Credentials credentials_;
  std::unique_ptr<Cancel> cancel_ = std::make_unique<Cancel>();  // null once ended
  std::optional<store::Client> client_;                          // the thread's
  std::atomic<bool> usable_{true};  // false once the connection is lost or out of step

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Task>> tasks_;
  bool ending_ = false;
  NamedThread thread_;
};

}  // namespace nc::napi
