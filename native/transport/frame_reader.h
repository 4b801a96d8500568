// Turns a stream of bytes into frames, in any fragmentation. Small frames come out of one read; the body of a
// large one is read straight into its destination. Knows no sockets, so that it can be tested and fuzzed
// alone. Belongs to one thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "transport/frame.h"

namespace nc::transport {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `n` bytes: > 0 read, 0 the stream has ended, -1 nothing there now.
  virtual ssize_t read(void* into, size_t n) = 0;
};

class FrameSink {
 public:
  virtual ~FrameSink() = default;
  // A header has come: where do its `length` body bytes go? Nothing: not now (the reader pauses, and asks
  // again at the next pump). A null pointer drops the body.
  virtual std::optional<std::byte*> place(const FrameHeader& header) = 0;
  // The body is complete.
  virtual void arrived(const FrameHeader& header) = 0;
};

class FrameReader {
 public:
  enum class Status {
    kDrained,  // nothing more to read now
    kMore,     // stopped for fairness; pump again
    kPaused,   // the sink does not take the next frame now
    kEnded,    // the stream has ended
  };

  // With a key every header has to be signed with it.
  explicit FrameReader(std::optional<HeaderKey> key = std::nullopt)
      : key_(std::move(key)), ahead_(kAheadBytes) {}

  // Reads and delivers as much as there is. Throws Error(kProtocol) for what is not a frame, or not the next.
  Status pump(ByteSource& source, FrameSink& sink);

  // True between place() and arrived().
  bool inBody() const { return state_ == State::kBody; }
  // True if the stream would end within a frame.
  bool midFrame() const { return state_ != State::kHeader || begin_ != end_; }
  const FrameHeader& header() const { return header_; }

  // While inBody(): the body goes to `to` instead, with what has been read of it; null drops the rest.
  void redirect(std::byte* to);

 private:
  enum class State { kHeader, kPlacing, kBody };
  static constexpr size_t kAheadBytes = 16 * 1024;
  static constexpr size_t kPumpBytes = 4u
                                       << 20;  // per pump, so that one fast sender does not starve the others

  size_t buffered() const { return end_ - begin_; }
  ssize_t fill(ByteSource& source);
  FrameHeader nextHeader() const;
  // Moves body bytes; false when the source has no more now.
  ssize_t readBody(ByteSource& source);

  std::optional<HeaderKey> key_;
  std::vector<std::byte> ahead_;
  size_t begin_ = 0;
  size_t end_ = 0;
  State state_ = State::kHeader;
  FrameHeader header_;
  uint64_t next_ = 0;  // the number that the next frame has to have
  std::byte* body_ = nullptr;
  size_t done_ = 0;
  bool short_ = false;  // the last read returned less than asked: the next would find nothing
};

}  // namespace nc::transport
