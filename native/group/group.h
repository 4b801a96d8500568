// A process group: one thread of its own that forms the group, runs its operations in call order, and watches
// its links while there are none.
//
// Who may call what: every public method may be called from any thread. Events and Task::finish() come on the
// group's thread (refusals on the store's); they must not block and must not call back into the group.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/deadline.h"
#include "core/error.h"
#include "core/held_port.h"
#include "core/operation.h"
#include "core/thread.h"
#include "core/unique_fd.h"
#include "gloo/collectives.h"
#include "group/device_companion.h"
#include "group/device_operations.h"
#include "group/messages.h"
#include "group/recorder.h"
#include "group/task.h"
#include "rendezvous/farewell.h"
#include "rendezvous/join.h"
#include "transport/mesh.h"

namespace nc::group {

struct GroupOptions {
  rendezvous::JoinOptions join;
  Millis initTimeout{60'000};
  transport::Heartbeat heartbeat{Millis{500}, Millis{3000}};
  std::optional<DeviceOptions> device;  // a GPU group: a communicator beside the links
  // Not to be formed: this rank was aborted, for that reason, before it came so far, and the others are to
  // hear of it.
  std::optional<std::string> leaving;
};

struct GroupEvents {
  std::function<void(uint16_t port)> onListening;
  std::function<void(const SocketAddress&)> onAddressInUse;
  std::function<void(const rendezvous::Refusal&)> onRefused;
  // Of joining (seq 0) or of an operation.
  std::function<void(const Stamp&, Millis waited, const std::vector<int>& missing)> onWaiting;
  std::function<void()> onFormed;
  std::function<void(int rank)> onGone;  // it cannot take part in a next generation
  std::function<void(const Error&)>
      onFailed;  // joining or the group; no event follows but onGone and onEnded
  // Nothing is open any more, unless `telling`: then the other ranks of a group that failed to form are still
  // told why, for a few seconds at most; onTold follows.
  std::function<void(bool telling)> onEnded;
  std::function<void()> onTold;
};

struct GroupMember {
  transport::Member link;
  std::string id;
  std::string address;    // numeric
  uint16_t heldPort = 0;  // see meet()
};

struct GroupInfo {
  int rank = 0;
  int size = 0;
  uint32_t generation = 0;
  std::string lineage;
  size_t portIndex = 0;  // which candidate port the group formed on
  std::string store;     // address of the store
  std::vector<GroupMember> members;
  transport::GroupToken token{};  // of this formation; nothing for strangers
  rendezvous::JoinTimings timings;
  std::optional<DeviceFacts> device;
};

struct GroupStats {
  Counters counters;
  size_t queued = 0;  // operations called whose turn has not come
  size_t running = 0;
  size_t earlyFrames = 0;  // kept aside now, all links
  std::vector<transport::LinkCounters> links;
  std::optional<Clock::time_point> formed;
  std::optional<Clock::time_point> failed;
};

class Group {
 public:
  Group(GroupOptions options, GroupEvents events);
  ~Group();  // aborts what is left and joins the thread
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  // Starts the thread, which forms the group.
  void start();

  // Queues an operation and numbers it. Throws kClosed after close(), or the group's failure. Sends and
  // receives of devices that follow each other wait for endBatch(), or for a call of anything else, and go to
  // the device as one: of two ranks that send to each other first, neither could begin to receive.
  void submit(std::unique_ptr<Task> task);
  void endBatch();

  // Ends everything on this rank at once, and the other ranks as a failure that names this one.
  void abort(const std::string& reason);
  // After the operations called so far: goodbye. onEnded follows.
  void close();
  // A socket that listens on the port which this rank holds for the next generation. Once more after the one
  // before was closed. Throws kClosed when the group has ended, else what listenBeside() throws.
  UniqueFd meet();
  // Ends a formation that waits for a rank which is known to be lost. No effect once the group may stand.
  void lose(const Error& cause);
  // After a formation that failed: the others are told no more, as this rank joins them anew.
  void hush();
  // abort() for the end of the environment; also ends telling others. Waits for the thread.
  void shutdown(const std::string& reason);

  std::optional<GroupInfo> info() const;  // once formed
  // The last operations: those that have ended, that run, that wait for their turn (the oldest kKept of
  // them).
  std::vector<OperationRecord> operations() const;
  // The one of that number, if it runs or was among the last to end.
  std::optional<OperationRecord> operation(uint64_t seq) const { return recorder_.find(seq); }
  uint64_t lastSeq() const;  // of the operation called last; 0 before the first
  GroupStats stats() const;

 private:
  void run();
  bool form();
  void serve();
  std::unique_ptr<Task> next();
  void noteEnd(const Task& task, const Error* error);
  // A message, and those called after it up to the next operation of all ranks. False once the group has
  // failed.
  bool exchange(std::unique_ptr<Task> first);
  std::unique_ptr<Task> takeFirst();
  std::unique_ptr<Task> nextMessage();
  std::vector<std::unique_ptr<Task>> batchOf(std::unique_ptr<Task> first);
  Error ofThisRank(Error error) const;
  Error aborted(const std::string& reason) const;
  // `ended`: the operations that met the failure, already on record.
  void failWith(const Error& seen, std::vector<std::unique_ptr<Task>> ended = {});
  void wake();   // the group's thread,
  void woken();  // which then takes note of it
  void watch();
  uint64_t numberOf(const Stamp& stamp);
  bool sendFirst(const Task& task);
  void serveDevice(std::unique_ptr<nccl::Communicator> communicator);
  bool takeable() const;

  GroupOptions options_;
  GroupEvents events_;
  Cancel cancel_;
  Cancel quiet_;  // by hush() and shutdown()
  UniqueFd wakeFd_;

  mutable std::mutex mutex_;
  std::deque<std::unique_ptr<Task>> queue_;
  uint64_t lastSeq_ = 0;
  // The last message to, and from, each rank; of the CPUs, and of the devices.
  struct MessageNumbers {
    std::vector<uint64_t> sent;
    std::vector<uint64_t> received;
  };
  std::array<MessageNumbers, 2> messages_;
  uint64_t batch_ = 1;   // that sends and receives of devices belong to now
  bool parked_ = false;  // the thread waits in Mesh::serve() and no operation is queued
  bool closing_ = false;
  bool dropped_ = false;  // by shutdown()
  std::optional<Error> failure_;
  std::optional<Clock::time_point> failedAt_;
  std::optional<Clock::time_point> formedAt_;
  std::optional<GroupInfo> info_;
  Recorder recorder_;
  HeldPort held_;
  bool committed_ = false;  // every other rank may have formed the group

  // The thread's own.
  std::unique_ptr<rendezvous::Farewell> farewell_;  // of a formation that failed
  std::unique_ptr<rendezvous::HostedStore> hosted_;
  std::unique_ptr<transport::Mesh> mesh_;
  std::unique_ptr<gloo::Collectives> collectives_;
  std::unique_ptr<DeviceOperations> device_;  // none in a CPU group
  NamedThread thread_;                        // last: joined before the rest goes
};

}  // namespace nc::group
