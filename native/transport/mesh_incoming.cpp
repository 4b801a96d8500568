// What arrives at the mesh: where a frame's body goes, what came early, and what must not be.
#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/comparison.h"
#include "transport/describe.h"
#include "transport/failure.h"
#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

std::optional<std::byte*> Mesh::place(Link& link, const FrameHeader& header) {
  if (header.generation != generation_) {
    throw Error(ErrorCode::kProtocol, describe(link.member()) + " sent a frame of generation " +
                                          std::to_string(header.generation) + " in generation " +
                                          std::to_string(generation_));
  }
  if (header.kind == FrameKind::kData) {
    if (dropping_) return nullptr;
    link.called = std::max(link.called, header.stamp.seq);
    return placeData(link, header);
  }
  if (header.kind == FrameKind::kMessage) {
    if (dropping_) return nullptr;
    return placeMessage(link, header);
  }
  link.control.resize(header.length);
  return link.control.data();
}

std::optional<std::byte*> Mesh::placeData(Link& link, const FrameHeader& header) {
  const uint64_t seq = header.stamp.seq;
  if (!active_ || seq != stamp_.seq) {
    if (const Stamp* const ours = remembered(seq)) checkStamp(link, *ours, header.stamp);
    if (seq <= lastSeq_ || (active_ && seq < stamp_.seq)) {
      ErrorFacts more = facts();
      more.calls = {{link.member().rank, header.stamp, 0}};
      throw Error(ErrorCode::kCollectiveMismatch,
                  describe(link.member()) + " still sends for its operation " + std::to_string(seq) + ", " +
                      describe(header.stamp) + ", which is over on this rank",
                  std::move(more));
    }
    return placeEarly(link, header);
  }
  checkStamp(link, stamp_, header.stamp);
  for (size_t i = 0; i < posted_.size(); ++i) {
    Posted& posted = posted_[i];
    if (posted.slot != header.slot) continue;
    const int from = link.member().rank;
    if (posted.only != from && std::find(posted.from.begin(), posted.from.end(), from) == posted.from.end())
      continue;
    checkLength(link, header, posted.bytes);
    link.into = posted.state;
    std::byte* const data = posted.data;
    posted_.erase(posted_.begin() + static_cast<ptrdiff_t>(i));
    return data;
  }
  return placeEarly(link, header);
}

// Frames of the current operation are always kept: the sender cannot be more than this operation ahead of
// what this rank is about to ask for, and holding the link back could hide the frame that it waits for.
// Frames of later operations are bounded; holding them back is safe, since everything of this operation came
// before.
std::optional<std::byte*> Mesh::placeEarly(Link& link, const FrameHeader& header) {
  const bool later = !active_ || header.stamp.seq != stamp_.seq;
  if (later) {
    const bool full =
        link.earlyBytes + header.length > limits_.earlyBytes || link.early.size() >= limits_.earlyFrames;
    if (full && !link.hungUp) {
      return std::nullopt;
    }
    link.earlyBytes += header.length;
  }
  keepAside(link, link.early, header);
  return link.aside->body.get();
}

void Mesh::keepAside(Link& link, std::deque<std::unique_ptr<EarlyFrame>>& among, const FrameHeader& header) {
  if (spare_.empty()) spare_.push_back(std::make_unique<EarlyFrame>());
  std::unique_ptr<EarlyFrame> frame = std::move(spare_.back());
  spare_.pop_back();
  frame->header = header;
  frame->complete = false;
  frame->reserve(header.length);
  link.aside = frame.get();
  among.push_back(std::move(frame));
  earlyCount_.fetch_add(1, std::memory_order_release);
}

void Mesh::arrived(Link& link, const FrameHeader& header) {
  if (dropping_ && header.kind != FrameKind::kFailure) return;
  switch (header.kind) {
    case FrameKind::kData:
    case FrameKind::kMessage:
      if (link.into != nullptr) link.into->received.push_back(link.member().rank);
      if (link.aside != nullptr) link.aside->complete = true;
      link.into = nullptr;
      link.aside = nullptr;
      return;
    case FrameKind::kCalled:
      if (isMessage(header.stamp)) return messageCalled(link, header);
      link.called = std::max(link.called, header.stamp.seq);
      compare(link, header.stamp);
      // It waits. This rank may have left that operation long ago (a broadcast's source does not wait), and
      // must not be taken for missing.
      if (header.slot != kAnnouncement && link.told < header.stamp.seq && header.stamp.seq <= newest_.seq &&
          !link.goodbye) {
        tellCalled(link, newest_);
      }
      return;
    case FrameKind::kFailure: {
      Error cause = decodeFailure(link.control, link.member().rank);
      failAndThrow(std::move(cause));
    }
    case FrameKind::kPulse:
      return;
    case FrameKind::kGoodbye:
      link.goodbye = true;
      link.goodbyeAfter = header.stamp.seq;
      link.called = std::max(link.called, header.stamp.seq);
      link.gone = true;
      if (onGone) onGone(link.member().rank);
      if (active_) checkDeparted(link, stamp_);
      checkAwaited(link);
      return;
  }
}

// A message that came before it was asked for; also one that is still being read.
bool Mesh::takeEarly(Link& link, Posted& posted) {
  for (size_t i = 0; i < link.early.size(); ++i) {
    EarlyFrame& frame = *link.early[i];
    if (frame.header.stamp.seq != stamp_.seq || frame.header.slot != posted.slot) continue;
    checkLength(link, frame.header, posted.bytes);
    if (frame.complete) {
      if (posted.bytes > 0) std::memcpy(posted.data, frame.body.get(), posted.bytes);
      posted.state->received.push_back(link.member().rank);
    } else {
      link.reader().redirect(posted.data);
      link.aside = nullptr;
      link.into = posted.state;
    }
    recycle(link.early, &frame);
    return true;
  }
  return false;
}

// Messages of the operation that ends which nobody has asked for: their buffers were given up.
void Mesh::dropUnclaimed(Link& link) {
  for (size_t i = link.early.size(); i-- > 0;) {
    EarlyFrame* const frame = link.early[i].get();
    if (frame->header.stamp.seq != stamp_.seq) continue;
    if (frame == link.aside) {
      link.aside = nullptr;
      link.reader().redirect(nullptr);
    }
    recycle(link.early, frame);
  }
}

void Mesh::recycle(std::deque<std::unique_ptr<EarlyFrame>>& among, EarlyFrame* frame) {
  const auto at = std::find_if(among.begin(), among.end(), [&](const auto& f) { return f.get() == frame; });
  constexpr size_t kKeepBytes = 4096;
  constexpr size_t kKeepFrames = 64;
  if (frame->capacity <= kKeepBytes && spare_.size() < kKeepFrames) spare_.push_back(std::move(*at));
  among.erase(at);
  earlyCount_.fetch_sub(1, std::memory_order_release);
}

void Mesh::checkStamp(const Link& link, const Stamp& ours, const Stamp& theirs) {
  if (!kComparesCalls || theirs == ours) return;
  ErrorFacts more = facts();
  more.op = name(ours.kind);
  more.seq = static_cast<int64_t>(ours.seq);
  more.peer = link.member().rank;
  more.peerHost = link.member().host;
  more.peerPid = link.member().pid;
  more.calls = byRank({rank_, ours, 0}, {link.member().rank, theirs, 0});
  throw Error(ErrorCode::kCollectiveMismatch,
              "operation " + std::to_string(ours.seq) + " differs between ranks: rank " +
                  std::to_string(rank_) + " called " + describe(ours) + ", " + describe(link.member()) +
                  " called " + describe(theirs) + "; every rank must make the same calls in the same order",
              more);
}

void Mesh::checkLength(const Link& link, const FrameHeader& header, size_t expected) {
  if (header.length == expected) return;
  throw Error(ErrorCode::kProtocol,
              describe(link.member()) + " sent " + std::to_string(header.length) + " bytes in " +
                  describe(header.stamp) + ", slot " + std::to_string(header.slot) + ", where " +
                  std::to_string(expected) + " were due",
              facts());
}

}  // namespace nc::transport
