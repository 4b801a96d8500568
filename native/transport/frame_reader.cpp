#include "transport/frame_reader.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

namespace nc::transport {

FrameReader::Status FrameReader::pump(ByteSource& source, FrameSink& sink) {
  size_t budget = kPumpBytes;
  short_ = false;
  for (;;) {
    if (state_ == State::kHeader) {
      if (buffered() < kFrameHeaderBytes) {
        const ssize_t got = fill(source);
        if (got < 0) return Status::kDrained;
        if (got == 0) return Status::kEnded;
        continue;
      }
      // Headers count too: a sender of nothing but empty frames must not hold this thread.
      if (budget < kFrameHeaderBytes) return Status::kMore;
      budget -= kFrameHeaderBytes;
      header_ = nextHeader();
      ++next_;
      state_ = State::kPlacing;
    }
    if (state_ == State::kPlacing) {
      const auto place = sink.place(header_);
      if (!place) return Status::kPaused;
      begin_ += kFrameHeaderBytes;
      body_ = *place;
      done_ = 0;
      state_ = State::kBody;
    }
    while (done_ < header_.length) {
      const ssize_t got = readBody(source);
      if (got < 0) return Status::kDrained;
      if (got == 0) return Status::kEnded;
      budget -= std::min(budget, static_cast<size_t>(got));
      if (budget == 0) return Status::kMore;
    }
    state_ = State::kHeader;
    sink.arrived(header_);
  }
}

FrameHeader FrameReader::nextHeader() const {
  const std::span<const std::byte, kFrameHeaderBytes> bytes(ahead_.data() + begin_, kFrameHeaderBytes);
  if (key_ && !signedWith(bytes, *key_)) {
    throw Error(ErrorCode::kProtocol, "a frame is not signed as it should be: it was changed on its way");
  }
  const FrameHeader header = decode(bytes);
  if (header.number != next_) {
    throw Error(ErrorCode::kProtocol, "frame " + std::to_string(header.number) + " of the link came where " +
                                          std::to_string(next_) +
                                          " was due: frames were lost, repeated or moved");
  }
  if (!key_ && header.tag != 0) {
    throw Error(ErrorCode::kProtocol, "a frame came signed although the group has no secret");
  }
  return header;
}

ssize_t FrameReader::fill(ByteSource& source) {
  if (short_) return -1;
  if (begin_ > 0) {
    std::memmove(ahead_.data(), ahead_.data() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  const size_t room = ahead_.size() - end_;
  const ssize_t got = source.read(ahead_.data() + end_, room);
  if (got > 0) {
    end_ += static_cast<size_t>(got);
    short_ = static_cast<size_t>(got) < room;
  }
  return got;
}

ssize_t FrameReader::readBody(ByteSource& source) {
  const size_t left = header_.length - done_;
  if (buffered() == 0) {
    // A body that fits is read ahead, together with what follows it; a large one goes where it belongs.
    if (body_ == nullptr || left < ahead_.size()) {
      const ssize_t got = fill(source);
      if (got <= 0) return got;
    } else {
      if (short_) return -1;
      const ssize_t got = source.read(body_ + done_, left);
      if (got > 0) {
        done_ += static_cast<size_t>(got);
        short_ = static_cast<size_t>(got) < left;
      }
      return got;
    }
  }
  const size_t n = std::min(left, buffered());
  if (body_ != nullptr) std::memcpy(body_ + done_, ahead_.data() + begin_, n);
  begin_ += n;
  done_ += n;
  return static_cast<ssize_t>(n);
}

void FrameReader::redirect(std::byte* to) {
  if (to != nullptr && body_ != nullptr && done_ > 0) std::memcpy(to, body_, done_);
  body_ = to;
}

}  // namespace nc::transport
