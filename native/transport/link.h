// One link to one rank: its socket, what waits to be written, what has been read early. The mesh drives it.
// Everything belongs to the group's thread, except the outgoing queue, which has a lock for Mesh::trySend().
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/unique_fd.h"
#include "transport/frame.h"
#include "transport/frame_reader.h"
#include "transport/mesh.h"

namespace nc::transport {

// A frame on its way out. The body is borrowed from `owner`'s buffer, or its own.
struct Outgoing {
  std::array<std::byte, kFrameHeaderBytes> header;
  const std::byte* body = nullptr;
  size_t bytes = 0;
  size_t done = 0;  // of header and body together
  BufferState* owner = nullptr;
  std::vector<std::byte> own;
};

// A frame that came before anybody asked for it. Recycled, so that a vote allocates nothing.
struct EarlyFrame {
  FrameHeader header;
  bool complete = false;
  size_t capacity = 0;
  std::unique_ptr<std::byte[]> body;  // not initialized: a large one is touched only as its bytes arrive

  void reserve(size_t bytes) {
    if (bytes <= capacity) return;
    body = std::make_unique_for_overwrite<std::byte[]>(bytes);
    capacity = bytes;
  }
};

// Messages between the devices of this rank and the link's, of one direction.
struct DeviceMessages {
  struct Called {
    Stamp stamp;
    uint64_t tag = 0;
  };
  uint64_t announced = 0;     // the last one that the other rank is known to have called
  std::deque<Called> ours;    // called here, and not there yet
  std::deque<Called> theirs;  // called there, and not here yet
};

// Frames and bytes of one direction. One thread at a time adds, any thread reads.
class Traffic {
 public:
  void add(size_t bytes) {
    frames_.store(frames() + 1, std::memory_order_relaxed);
    bytes_.store(this->bytes() + bytes, std::memory_order_relaxed);
  }
  uint64_t frames() const { return frames_.load(std::memory_order_relaxed); }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> frames_{0};
  std::atomic<uint64_t> bytes_{0};
};

class Link final : public ByteSource {
 public:
  Link(LinkEnd end, FrameSink& sink);

  const Member& member() const { return member_; }
  int fd() const { return fd_.get(); }
  bool open() const { return static_cast<bool>(fd_); }

  FrameReader::Status pump() { return reader_.pump(*this, sink_); }
  FrameReader& reader() { return reader_; }
  ssize_t read(void* to, size_t n) override;

  // Queues and writes what the socket takes now.
  void push(Outgoing out);
  // Writes what the socket takes now. Completed sends are noted in their owners.
  void flush();
  bool pending() const;
  // Writes the whole frame now or nothing. Any thread.
  bool tryWrite(const FrameHeader& header, const void* data);
  // nc-pulse: if nothing has been written since the last call, writes `pulse`, or more of what waits already.
  // `deadAfter` is how long a TCP connection may go without answers.
  void beat(const FrameHeader& pulse, Millis deadAfter);
  // Tells owners of sends that beat() has completed; true if there were any.
  bool settleBeaten();
  // Copies what is still borrowed from `state`.
  void disown(const BufferState& state) noexcept;
  // Bytes that the kernel has not delivered yet.
  bool undelivered() const;
  void shutdownWrite();
  void close();
  // A whole frame with so long a body has been read.
  void countIn(size_t bytes) { in_.add(kFrameHeaderBytes + bytes); }
  // What has passed so far. Any thread.
  LinkCounters counters() const;

  // ---- What the mesh notes about this rank.
  uint64_t called = 0;          // the last operation it is known to have called
  uint64_t told = 0;            // the last operation it knows this rank to have called
  std::deque<Stamp> announced;  // calls of its that this rank has not made yet, to be compared
  bool goodbye = false;         // it has closed its side,
  uint64_t goodbyeAfter = 0;    // after this operation
  bool gone = false;            // it cannot take part in a next generation, and Mesh::onGone has said so
  bool paused = false;          // its next frame is not taken now
  bool hungUp = false;          // it has ended while it was held back: the little that is left is let in
  uint64_t reads = 0;           // counts what comes from it
  bool processEnded = false;    // it is of this host, and its process is dead
  int readErrno = 0;            // why the stream ended, 0 for end of file
  BufferState* into = nullptr;  // whose buffer the body being read goes to
  EarlyFrame* aside = nullptr;  // or the early frame it goes to
  std::deque<std::unique_ptr<EarlyFrame>> early;
  size_t earlyBytes = 0;                             // of operations later than the current one
  std::deque<std::unique_ptr<EarlyFrame>> messages;  // of its send() that no recv() has asked for,
  size_t messageBytes = 0;                           // their bodies together,
  uint64_t lastMessage = 0;                          // and the number of the last one that was let in
  DeviceMessages deviceSends;                        // to it,
  DeviceMessages deviceReceives;                     // and from it
  std::vector<std::byte> control;

 private:
  void seal(std::span<std::byte, kFrameHeaderBytes> header);
  bool writeNow(Outgoing& out);
  bool flushLocked();
  void dropLocked();
  // `unread`: it counts as sent, but the link is broken.
  void sentLocked(const Outgoing& out, bool unread);
  void settleLocked();

  Member member_;
  UniqueFd fd_;
  std::optional<HeaderKey> key_;  // of the frames that are written
  FrameSink& sink_;
  FrameReader reader_;
  bool tcp_;
  mutable std::mutex mutex_;  // guards what follows and the closing of fd_
  std::deque<Outgoing> outgoing_;
  uint64_t number_ = 0;  // of the next frame
  bool broken_ = false;  // writing has failed; reading will tell why
  uint64_t writes_ = 0;  // counts what is written,
  uint64_t beaten_ = 0;  // up to the last beat()
  bool beating_ = false;
  bool limited_ = true;  // see limitUnlessHeldBack()
  struct Beaten {
    BufferState* owner;
    bool unread;
  };
  std::vector<Beaten> owners_;  // of sends that beat() has completed
  std::atomic<bool> anyOwners_{false};
  Traffic in_;
  Traffic out_;  // of frames given to the link; the lock is held where it is added to
};

}  // namespace nc::transport
