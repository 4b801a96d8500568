// The operations of a group that run on its device: put on their streams in call order, finished as the
// device is done with them. Belongs to the group's thread and never blocks it: the mesh calls step() while it
// waits.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "group/recorder.h"
#include "group/task.h"
#include "nccl/communicator.h"
#include "transport/mesh.h"

namespace nc::group {

class DeviceOperations {
 public:
  // `onRoom`: called when there is room again after full(), and when none is left.
  DeviceOperations(transport::Mesh& mesh, std::unique_ptr<nccl::Communicator> communicator,
                   Recorder& recorder, std::function<void()> onRoom);

  // Tells the other ranks of the calls; throws where theirs differ. To be called in call order, with one
  // operation of all ranks, or sends and receives that go to the device together.
  void add(std::vector<std::unique_ptr<Task>> tasks);
  bool full() const { return entries_.size() >= kMost; }
  bool empty() const { return entries_.empty(); }

  // One look at everything under way; when to look again. Throws the group's failure.
  Clock::time_point step();

  // The end. reject() tells the callers, at once, abort() ends the communicator under what is left; close()
  // is for a group in good order with nothing left.
  void reject(const Error& cause);
  void abort(Millis limit);
  void close(Millis limit);

 private:
  static constexpr size_t kMost = 256;
  enum class State { kWaiting, kCalled, kRunning };
  struct Entry {
    State state = State::kWaiting;
    std::unique_ptr<Task> task;  // none once the caller was told
    Stamp stamp;
    Deadline deadline = Deadline::never();
    DevicePart part;
    Clock::time_point began;
    size_t notices = 0;
    bool told = false;
    nccl::EventHandle event = nullptr;
    nccl::Scratch scratch;
  };

  template <typename Body>
  auto named(size_t index, Body body);
  void launch();
  size_t togetherWith(size_t first) const;
  void call(size_t first, size_t last);
  void call(Entry& entry);
  void ended(const Entry& entry, const Error* error);
  void enqueued(Entry& entry);
  void reap();
  void watch(Clock::time_point now);
  void finish(Entry& entry, const Error* error);
  void dropFinished(size_t before);
  nccl::StreamHandle streamOf(const Entry& entry);
  size_t stagedOffset(const Entry& entry) const;

  transport::Mesh& mesh_;
  Recorder& recorder_;
  const char* path_;  // for the record
  std::unique_ptr<nccl::Communicator> communicator_;
  std::function<void()> onRoom_;
  std::deque<std::unique_ptr<Entry>> entries_;  // in call order
  size_t called_ = 0;                           // how many of them are not kWaiting
  std::vector<nccl::StreamHandle> busy_;        // scratch of reap()
  Clock::time_point launched_;                  // the last time that something was put on a stream
  Clock::time_point errorCheck_;
};

}  // namespace nc::group
