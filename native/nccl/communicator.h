// One rank's NCCL (or RCCL) communicator, with the stream, events and scratch memory that go with it.
//
// Belongs to the group's thread, which never waits in here for the GPU or for other ranks: what may block for
// ever in a library (making, aborting and closing a communicator) runs on a LoneThread with a limit.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/deadline.h"
#include "core/operation.h"
#include "core/process_end.h"
#include "nccl/device_runtime.h"
#include "nccl/nccl_api.h"

namespace nc::nccl {

// Host memory that the device reaches, and as much on the device. For typed arrays and votes.
struct Scratch {
  void* host = nullptr;
  DevicePtr device = 0;
  size_t bytes = 0;
};

class Communicator {
 public:
  Communicator(std::shared_ptr<DeviceRuntime> runtime, std::shared_ptr<NcclApi> api, int device, int rank,
               int size);
  ~Communicator();  // aborts it if it is still there
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // Makes the communicator with the other ranks. `look` is called every few milliseconds; what it throws ends
  // the wait, and what has been made so far is aborted.
  void connect(const UniqueId& id, const std::function<void()>& look);

  DeviceRuntime& runtime();
  NcclApi& api();
  int device() const;
  int rank() const { return rank_; }
  int size() const { return size_; }
  StreamHandle stream();  // its own, used where an operation brings none

  // Begins one operation, on `stream`. `in` and `out` as NCCL has them; see extentOf() for what they hold.
  // kInvalidArgument and kUnsupported are thrown before anything has happened, so that the group can go on.
  void call(const Stamp& stamp, DevicePtr in, DevicePtr out, StreamHandle stream);
  // The calls that `body` makes, sends and receives, become one that runs all of them at the same time.
  void together(const std::function<void()>& body);
  // True once the last call() is on its stream. Throws the communicator's asynchronous error.
  bool ready();

  EventHandle record(StreamHandle stream);  // an event behind what is on the stream now
  bool done(EventHandle event);
  void recycle(EventHandle event);

  Scratch takeScratch(size_t bytes);
  void recycle(Scratch scratch);

  // The end, one of these. `keep` is what the device may still use: released when the library has come back,
  // never if it does not. close() is for a group in good order, and aborts where that takes longer than
  // `limit`.
  void close(Millis limit);
  void abort(Millis limit, std::vector<std::shared_ptr<void>> keep);

 private:
  struct Core;
  void exchange(const Stamp& stamp, DevicePtr in, DevicePtr out, StreamHandle stream);
  LibraryInUse inUse_;
  std::shared_ptr<Core> core_;  // shared with the threads that end it
  int rank_;
  int size_;
};

// Bytes that this rank gives to an operation and gets from it.
struct Extent {
  size_t in = 0;
  size_t out = 0;
};
Extent extentOf(const Stamp& stamp, int rank, int size) noexcept;

}  // namespace nc::nccl
