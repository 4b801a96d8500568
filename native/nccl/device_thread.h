// One thread ("nc-device") for what a process does with its devices besides collectives: loading the driver,
// allocating, copying, waiting for streams. It never waits in the driver for the device but asks it at short
// intervals, so that any number of waits go on at once. What is freed is freed on a second one
// ("nc-device-free"): that waits for the device, which may be in a collective with a rank that waits for a
// copy of ours.
//
// post() and reap() from any thread. Kept by shared pointers: should the driver never come back, the thread
// is left to itself with all it has.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/deadline.h"
#include "core/error.h"
#include "core/lone_thread.h"
#include "nccl/device_memory.h"
#include "nccl/device_runtime.h"

namespace nc::nccl {

// Pinned host memory for copies.
struct PinnedChunk {
  int device = 0;
  void* host = nullptr;
  size_t bytes = 0;
};

class DeviceThread;

// A piece of work. Runs on the thread; ended() is called there, once, and takes it over.
class DeviceWork {
 public:
  virtual ~DeviceWork() = default;
  // Looks at it, and returns true once it has ended. What it throws ends it.
  virtual bool step(DeviceThread& on) = 0;
  // Works with the same key are done one after the other.
  virtual const void* key() const { return this; }
  // Before ended(), where step() has thrown or is not called again: gives back what it holds of the thread.
  virtual void stopped(DeviceThread&) noexcept {}
  virtual void ended(std::unique_ptr<DeviceWork> self, const Error* error) noexcept = 0;
};

class DeviceThread : public std::enable_shared_from_this<DeviceThread> {
 public:
  explicit DeviceThread(RuntimeOptions options) : options_(std::move(options)) {}

  void start();
  void post(std::unique_ptr<DeviceWork> work);
  // Memory that frees itself beside this thread, or on the one that lets go of it last if that has ended.
  std::shared_ptr<DeviceMemory> keep(std::unique_ptr<DeviceMemory> memory);
  // Ends all works with kClosed, frees what is left, and joins the threads; leaves them to themselves after
  // `limit`.
  void close(Millis limit);

  // ---- The thread's own.
  const std::shared_ptr<DeviceRuntime>& runtime();
  StreamHandle stream(int device);  // for copies that name none
  PinnedChunk takeChunk(int device, size_t atMost);
  void recycle(PinnedChunk chunk) { chunks_.push_back(chunk); }

 private:
  void run();
  void look();
  void release() noexcept;
  void reap(DeviceMemory* memory) noexcept;
  void freeGarbage();

  RuntimeOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable garbageChanged_;
  std::deque<std::unique_ptr<DeviceWork>> incoming_;
  std::vector<std::unique_ptr<DeviceMemory>> garbage_;
  bool closing_ = false;
  bool ended_ = false;
  LoneThread freer_;  // made with the first memory

  std::shared_ptr<DeviceRuntime> runtime_;
  std::vector<std::unique_ptr<DeviceWork>> active_;
  std::map<int, StreamHandle> streams_;
  std::vector<PinnedChunk> chunks_;
  LoneThread thread_;
};

}  // namespace nc::nccl
