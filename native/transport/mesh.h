// The mesh: one link to every other rank, and the only place where a group sends, receives and waits.
//
// Who may call what: everything belongs to the group's own thread, except trySend(), which any one other
// thread may call while the group is parked. The mesh owns its links; it borrows the memory that is posted.
//
// Whoever waits drives: wait*() and serve() poll all links, write what can be written, read each frame
// straight into the buffer posted for it, and keep frames that come early aside. There is no other thread.
#pragma once

#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/challenge.h"
#include "core/deadline.h"
#include "core/error.h"
#include "core/operation.h"
#include "core/unique_fd.h"
#include "transport/frame.h"
#include "transport/frame_reader.h"
#include "transport/process_watch.h"
#include "transport/pulse.h"
#include "transport/silence.h"

namespace nc::transport {

class Link;
struct DeviceMessages;
struct EarlyFrame;
class FrameSink;

// Completions of one buffer: which transfers posted on its behalf have ended. Belongs to the group's thread.
struct BufferState {
  std::vector<int> sent;      // ranks whose send has been written out, oldest first
  std::vector<int> received;  // ranks whose message has arrived
  bool unread = false;        // some of what was sent is counted as such, but nobody will read it
  bool abortSend = false;     // ends waitSend() with -1, once
  bool abortRecv = false;
};

// What a rank is known by besides its number.
struct Member {
  int rank = -1;
  std::string host;
  int64_t pid = 0;
  std::string address;  // of the link: "127.0.0.1:4711" or "unix"
};

// What has passed over one link so far, frames' headers included in the bytes.
struct LinkCounters {
  int peer = -1;
  uint64_t framesIn = 0;
  uint64_t bytesIn = 0;
  uint64_t framesOut = 0;
  uint64_t bytesOut = 0;
};

struct LinkEnd {
  Member member;
  UniqueFd fd;                                  // connected, non-blocking
  std::optional<LinkKeys> keys = std::nullopt;  // of a group with a secret
  UniqueFd process{};                           // of the rank, if it is on this host
};

// After so long in one wait the user is told for whom: "still waiting for ...".
inline constexpr std::array<Millis, 2> kNoticeAfter{Millis{5000}, Millis{30000}};

struct MeshLimits {
  size_t earlyBytes = 4u << 20;  // per link: frames of later operations kept aside
  size_t earlyFrames = 1024;     // per link
  // After so long in one wait, or a quarter of its limit, the others are told that this rank waits.
  Millis calledAfter{10};
  Millis callsAfter(const Deadline& limit) const { return std::min(calledAfter, limit.limit() / 4); }
  std::array<Millis, 2> noticeAfter = kNoticeAfter;
  Heartbeat heartbeat;
};

class Mesh {
 public:
  // `ends`: one for every other rank. `cancel` ends every wait.
  Mesh(int rank, int size, uint32_t generation, std::vector<LinkEnd> ends, Cancel& cancel,
       MeshLimits limits = {});
  ~Mesh();
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const MeshLimits& limits() const { return limits_; }
  const Member& member(int rank) const;

  // ---- One operation at a time. Between begin() and end() everything posted belongs to it.
  void begin(const Stamp& stamp, const Deadline& deadline);
  void end();
  const Stamp& current() const { return stamp_; }

  // ---- Posting: never blocks. Memory is borrowed until the completion shows in `state` or release(state).
  void send(BufferState& state, int peer, uint64_t slot, const void* data, size_t bytes);
  // The first matching message of any rank in `from` completes it.
  void recv(BufferState& state, std::span<const int> from, uint64_t slot, void* data, size_t bytes);

  // ---- Waiting: until one more completion of that sort; the rank it came from or went to. -1 after an abort
  // flag of the state. Throws once the group has failed, is cancelled, or the deadline has passed.
  int waitSend(BufferState& state);
  int waitRecv(BufferState& state);
  // The same with an earlier limit of the caller's own.
  int waitSend(BufferState& state, const Deadline& limit);
  int waitRecv(BufferState& state, const Deadline& limit);

  // Forgets everything posted for `state`, which may then be destroyed. Bytes of a half-sent message are
  // copied, the rest of a half-received one is dropped: the link stays in step.
  void release(BufferState& state) noexcept;

  // ---- While no operation runs: watches all links until `wakeFd` is readable. Throws when the group fails.
  void serve(int wakeFd);

  // ---- Operations beside the mesh's own, on the ranks' devices: it moves nothing for them, but compares
  // what the ranks call, and knows whom they wait for (mesh_beside.cpp). Called at every step of a wait;
  // returns when it wants to be called again at the latest. What it throws fails the group.
  std::function<Clock::time_point()> beside;
  // This rank calls one, between operations of the mesh's own. Its stamp goes to the next rank, which
  // compares it with its own: if not all are equal, some neighbours see it.
  void announce(const Stamp& stamp);
  // The same of a send or recv (mesh_beside_message.cpp), which only the two ranks tell each other of. What
  // follows takes these too. `stamp` has the other rank as its root and the number of the message in that
  // direction.
  void announceMessage(const Stamp& stamp, uint64_t tag);
  // Whether the other rank is known to have called it as well; then it called the same.
  bool met(const Stamp& message) const;
  // The oldest one that has not ended, for messages; nothing when none is left.
  void setBeside(std::optional<Stamp> oldest) { besideOldest_ = oldest; }
  // It has lasted: all ranks are told that this one has called it.
  void tellWaiting(const Stamp& stamp);
  // Throws if a rank that takes part has closed the group before it.
  void checkStaying(const Stamp& stamp);
  std::vector<int> missing(const Stamp& stamp) const;  // ranks that are not known to have called it
  [[noreturn]] void failLate(const Stamp& stamp, const Deadline& limit);

  // ---- Messages from rank to rank (mesh_message.cpp), between operations. `stamp` has the other rank as its
  // root and the number of the message in that direction. What comes before it is asked for is kept aside, as
  // much as of later operations; beyond that the link is not read. Posting never blocks; release() as above.
  void sendMessage(BufferState& state, const Stamp& stamp, uint64_t tag, const void* data, size_t bytes);
  void recvMessage(BufferState& state, const Stamp& stamp, uint64_t tag, void* data, size_t bytes);
  // One round of waiting, for completions or `wakeFd`; true if it was that. `oldest` is for messages of
  // failures.
  bool serveMessages(const Stamp& oldest, Clock::time_point until, int wakeFd);
  // Throws if the other rank has closed the group.
  void checkReachable(const Stamp& message);
  [[noreturn]] void failLateMessage(const Stamp& message, const Deadline& limit);
  // Like trySend().
  bool trySendMessage(const Stamp& stamp, uint64_t tag, const void* data, size_t bytes);

  // Another thread, while the group's thread is in serve(): writes a whole frame at once or nothing.
  bool trySend(int peer, uint64_t slot, const Stamp& stamp, const void* data, size_t bytes);
  // Any thread. Frames kept aside, all links.
  size_t earlyFrames() const;
  // Any thread. Every link's, by rank.
  std::vector<LinkCounters> linkCounters() const;
  // How long the operation, or the last one, has waited for completions: for the other ranks, that is.
  Clock::duration waited() const { return waited_; }

  // ---- The end. fail() tells every rank why, once, as far as their links take it without blocking.
  // With links that are full it waits a moment for them, unless `wait` is false: close() goes on then.
  void fail(Error cause, bool wait = true);
  bool failed() const { return failure_.has_value(); }
  // After fail(): reads the links for their ends only, until `wakeFd` is readable. A link that is still open
  // belongs to a process that may take part in the next generation.
  void watch(int wakeFd);
  // Says goodbye, waits (at most `limit`) until what was sent has been taken, and closes all links.
  void close(const Deadline& limit);

  // "still waiting": called on the group's thread with the ranks that have not called the operation.
  std::function<void(const Stamp&, Millis waited, const std::vector<int>& missing)> onWaiting;
  // A rank has said goodbye, or its link has ended while this mesh was watched; once for each, on that
  // thread.
  std::function<void(int rank)> onGone;

 private:
  class LinkSink;  // the reader of each link delivers through it
  class Waiting;   // adds to waited_ until its end
  struct Posted {
    BufferState* state;
    int only;               // the one rank it may come from, or -1:
    std::vector<int> from;  // any of these
    uint64_t slot;
    std::byte* data;
    size_t bytes;
  };

  struct PostedMessage {
    BufferState* state;
    Stamp stamp;
    uint64_t tag;
    std::byte* data;
    size_t bytes;
  };

  // One round of: write, poll, read. Ends at `until` at the latest, without an error.
  void step(Clock::time_point until, int wakeFd);
  void pollLinks(Clock::time_point until, int wakeFd);
  bool pumpReady();
  template <typename Body>
  void guarded(Link& link, Body body);
  FrameReader::Status pump(size_t peer);
  void checkEnds();
  void noteProcesses();
  void checkProcesses();
  void checkSilence();
  void checkDeparted(const Link& link, const Stamp& stamp);
  void tick();
  template <typename Done>
  void waitFor(const Deadline& limit, Done done);

  std::optional<std::byte*> place(Link& link, const FrameHeader& header);
  std::optional<std::byte*> placeData(Link& link, const FrameHeader& header);
  std::optional<std::byte*> placeEarly(Link& link, const FrameHeader& header);
  void arrived(Link& link, const FrameHeader& header);
  bool takeEarly(Link& link, Posted& posted);
  void checkStamp(const Link& link, const Stamp& ours, const Stamp& theirs);
  void checkLength(const Link& link, const FrameHeader& header, size_t expected);
  void keepAside(Link& link, std::deque<std::unique_ptr<EarlyFrame>>& among, const FrameHeader& header);
  void recycle(std::deque<std::unique_ptr<EarlyFrame>>& among, EarlyFrame* frame);
  FrameHeader messageHeader(const Stamp& stamp, uint64_t tag, size_t bytes) const;
  std::optional<std::byte*> placeMessage(Link& link, const FrameHeader& header);
  void checkMessage(const Link& link, const PostedMessage& ours, const FrameHeader& header) const;
  void checkAwaited(const Link& link);
  ErrorFacts factsOf(const Stamp& message) const;

  void dropUnclaimed(Link& link);
  void tellCalled();
  void tellCalled(Link& link, const Stamp& stamp);
  void remember(const Stamp& stamp);
  const Stamp* remembered(uint64_t seq) const;
  void compare(Link& link, const Stamp& theirs);
  void compareAnnounced(Link& link);
  const DeviceMessages& deviceMessages(const Stamp& message) const;
  void messageCalled(Link& link, const FrameHeader& header);
  Error differs(const Link& link, const Stamp& ours, uint64_t ourTag, const Stamp& theirs,
                uint64_t theirTag) const;
  [[noreturn]] void failLateBeside(const Stamp& message, const Deadline& limit);
  Clock::time_point callBeside();
  [[noreturn]] void failAndThrow(Error cause);
  [[noreturn]] void failLost(const Error& cause);
  Error lost(const Link& link, const std::string& how) const;
  Error timedOut(const Stamp& stamp, const Deadline& limit) const;
  const Stamp* concerned() const;  // the operation that a failure now concerns
  void control(Link& link, FrameKind kind, const Stamp& stamp, std::vector<std::byte> body,
               uint64_t slot = 0);
  ErrorFacts facts() const;

  int rank_;
  int size_;
  uint32_t generation_;
  Cancel& cancel_;
  MeshLimits limits_;
  std::vector<std::unique_ptr<FrameSink>> sinks_;
  std::vector<std::unique_ptr<Link>> links_;  // by rank; none for this rank itself
  Member self_;

  bool active_ = false;
  Stamp stamp_;
  uint64_t lastSeq_ = 0;
  Stamp newest_;  // the last operation that this rank has called, of either sort
  // What this rank called last, by seq modulo the size, which grows once something is announced: for those
  // that are late with another call.
  std::vector<Stamp> remembered_{64};
  std::optional<Stamp> besideOldest_;
  Deadline deadline_ = Deadline::never();
  Clock::time_point began_;
  Clock::duration waited_{};
  bool toldCalled_ = false;
  size_t notices_ = 0;
  std::vector<Posted> posted_;
  std::vector<PostedMessage> postedMessages_;
  std::optional<Stamp> message_;  // the oldest message that is waited for
  std::atomic<size_t> earlyCount_{0};
  std::vector<std::unique_ptr<EarlyFrame>> spare_;
  std::vector<pollfd> polls_;
  std::vector<int> pollRanks_;
  std::vector<bool> ready_;  // links that hold bytes already read, to be pumped without polling
  std::vector<int> ends_;    // links whose stream has ended, not looked at yet
  bool woken_ = false;       // the last poll found serve()'s descriptor readable
  Silence silence_;
  ProcessWatch processes_;
  bool processEnded_ = false;  // some link's `processEnded` is set
  bool dropping_ = false;      // data is of no use any more
  std::optional<Error> failure_;
  std::unique_ptr<Pulse> pulse_;  // last: ended before the links are
};

}  // namespace nc::transport
