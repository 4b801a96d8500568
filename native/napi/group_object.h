// The process group as JavaScript sees it: `new NativeGroup(options, onEvent)`. Arguments come checked from
// src/group/; here they are only read.
#pragma once

#include <memory>

#include "group/group.h"
#include "napi/environment.h"
#include "napi/node_api.h"

namespace nc::napi {

void registerGroup(Napi::Env env, Napi::Object exports);

class GroupObject final : public Napi::ObjectWrap<GroupObject>, public Closable {
 public:
  explicit GroupObject(const Napi::CallbackInfo& info);
  ~GroupObject() override;
  void abandon() noexcept override;
  void shutdown() noexcept override;

  static Napi::Function define(Napi::Env env);

 private:
  struct Events;
  class EventJob;
  class TellingJob;

  void start(const Napi::CallbackInfo& info);
  void abort(const Napi::CallbackInfo& info);
  void hush(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value operations(const Napi::CallbackInfo& info);
  Napi::Value operation(const Napi::CallbackInfo& info);  // (seq) -> its record, or null
  Napi::Value lastSeq(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  // () -> descriptor of a socket that listens on this rank's held port; the caller's
  Napi::Value meet(const Napi::CallbackInfo& info);
  // (rank, host, pid): that one, of this group that still forms, is lost
  void lose(const Napi::CallbackInfo& info);
  // (kind, dtype, reduceOp, root, count, in, out, timeoutMs, staged) -> Promise<void>
  Napi::Value run(const Napi::CallbackInfo& info);
  // (kind, dtype, reduceOp, root, count, in, inOffset, out, outOffset, stream, untilEnqueued, timeoutMs,
  // tag); memory and stream are handles or null -> Promise<void>
  Napi::Value runDevice(const Napi::CallbackInfo& info);
  // (kind, dtype, peer, tag, count, array, timeoutMs, staged) -> Promise<void>; send and recv
  Napi::Value message(const Napi::CallbackInfo& info);
  void endBatch(const Napi::CallbackInfo& info);
  // (dtype, reduceOp, values, timeoutMs, sync, onDevice) -> Promise<values> or values; a few numbers, held
  // natively
  Napi::Value vote(const Napi::CallbackInfo& info);

  void submit(std::unique_ptr<group::Task> task);

  Environment& environment_;
  std::shared_ptr<Events> events_;
  std::unique_ptr<group::Group> group_;
  int rank_ = 0;
  uint64_t size_ = 1;  // ranks
  int device_ = -1;    // of a GPU group
};

}  // namespace nc::napi
