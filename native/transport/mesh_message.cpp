// Messages from one rank to another: send() and recv(). They are no operations of the whole group, so each
// direction between two ranks counts its own; the n-th that is sent goes to the n-th that is received.
#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/describe.h"
#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

namespace {

std::string tagged(const Stamp& stamp, uint64_t tag) {
  return describe(stamp) + " with tag " + std::to_string(tag);
}

}  // namespace

FrameHeader Mesh::messageHeader(const Stamp& stamp, uint64_t tag, size_t bytes) const {
  FrameHeader header;
  header.kind = FrameKind::kMessage;
  header.generation = generation_;
  header.stamp = stamp;
  header.slot = tag;
  header.length = bytes;
  return header;
}

void Mesh::sendMessage(BufferState& state, const Stamp& stamp, uint64_t tag, const void* data, size_t bytes) {
  checkReachable(stamp);
  Outgoing out;
  encode(messageHeader(stamp, tag, bytes), out.header);
  out.body = static_cast<const std::byte*>(data);
  out.bytes = bytes;
  out.owner = &state;
  links_[static_cast<size_t>(stamp.root)]->push(std::move(out));
}

bool Mesh::trySendMessage(const Stamp& stamp, uint64_t tag, const void* data, size_t bytes) {
  return links_[static_cast<size_t>(stamp.root)]->tryWrite(messageHeader(stamp, tag, bytes), data);
}

void Mesh::recvMessage(BufferState& state, const Stamp& stamp, uint64_t tag, void* data, size_t bytes) {
  if (failure_) throw Error(*failure_);
  const auto peer = static_cast<size_t>(stamp.root);
  Link& link = *links_[peer];
  PostedMessage posted{&state, stamp, tag, static_cast<std::byte*>(data), bytes};
  const auto early = std::find_if(link.messages.begin(), link.messages.end(),
                                  [&](const auto& frame) { return frame->header.stamp.seq == stamp.seq; });
  if (early == link.messages.end()) {
    // It may have left, but not before what it sent, and that would be here.
    checkReachable(stamp);
    if (link.paused) ready_[peer] = true;
    postedMessages_.push_back(posted);
    return;
  }
  EarlyFrame& frame = **early;
  try {
    checkMessage(link, posted, frame.header);
  } catch (const Error& error) {
    failAndThrow(error);
  }
  if (frame.complete) {
    if (bytes > 0) std::memcpy(posted.data, frame.body.get(), bytes);
    state.received.push_back(stamp.root);
  } else {
    link.reader().redirect(posted.data);
    link.aside = nullptr;
    link.into = &state;
  }
  link.messageBytes -= frame.header.length;
  recycle(link.messages, &frame);
  // There is room again for what was held back.
  if (link.paused) ready_[peer] = true;
}

bool Mesh::serveMessages(const Stamp& oldest, Clock::time_point until, int wakeFd) {
  if (failure_) throw Error(*failure_);
  woken_ = false;
  message_ = oldest;
  step(until, wakeFd);
  message_.reset();
  return woken_;
}

std::optional<std::byte*> Mesh::placeMessage(Link& link, const FrameHeader& header) {
  const Stamp& stamp = header.stamp;
  if (stamp.kind != OpKind::kSend || stamp.root != rank_ || stamp.seq != link.lastMessage + 1) {
    throw Error(ErrorCode::kProtocol, describe(link.member()) + " sent message " + std::to_string(stamp.seq) +
                                          ", " + describe(stamp) + ", where message " +
                                          std::to_string(link.lastMessage + 1) + " to this rank was due");
  }
  const int from = link.member().rank;
  const auto posted = std::find_if(
      postedMessages_.begin(), postedMessages_.end(),
      [&](const PostedMessage& each) { return each.stamp.root == from && each.stamp.seq == stamp.seq; });
  if (posted != postedMessages_.end()) {
    checkMessage(link, *posted, header);
    link.lastMessage = stamp.seq;
    link.into = posted->state;
    std::byte* const data = posted->data;
    postedMessages_.erase(posted);
    return data;
  }
  const bool full =
      link.messageBytes + header.length > limits_.earlyBytes || link.messages.size() >= limits_.earlyFrames;
  if (full && !link.hungUp) return std::nullopt;
  link.lastMessage = stamp.seq;
  link.messageBytes += header.length;
  keepAside(link, link.messages, header);
  return link.aside->body.get();
}

void Mesh::checkMessage(const Link& link, const PostedMessage& ours, const FrameHeader& header) const {
  const Stamp& theirs = header.stamp;
  const bool same = theirs.dtype == ours.stamp.dtype && theirs.count == ours.stamp.count;
  if (!same || header.slot != ours.tag) {
    throw differs(link, ours.stamp, ours.tag, theirs, header.slot);
  }
  if (header.length != ours.bytes) {
    throw Error(ErrorCode::kProtocol,
                describe(link.member()) + " sent " + std::to_string(header.length) + " bytes as " +
                    describe(theirs) + ", where " + std::to_string(ours.bytes) + " were due",
                factsOf(ours.stamp));
  }
}

Error Mesh::differs(const Link& link, const Stamp& ours, uint64_t ourTag, const Stamp& theirs,
                    uint64_t theirTag) const {
  const int other = link.member().rank;
  const bool sends = ours.kind == OpKind::kSend;
  ErrorFacts more = factsOf(ours);
  more.calls = byRank({rank_, ours, ourTag}, {other, theirs, theirTag});
  return Error(ErrorCode::kCollectiveMismatch,
               "message " + std::to_string(ours.seq) + " from rank " + std::to_string(sends ? rank_ : other) +
                   " to rank " + std::to_string(sends ? other : rank_) + " differs: rank " +
                   std::to_string(rank_) + " called " + tagged(ours, ourTag) + ", " +
                   describe(link.member()) + " called " + tagged(theirs, theirTag) +
                   "; what one rank sends another has to receive in the same order",
               std::move(more));
}

ErrorFacts Mesh::factsOf(const Stamp& message) const {
  const Member& peer = member(message.root);
  ErrorFacts more;
  more.rank = rank_;
  more.peer = peer.rank;
  more.peerHost = peer.host;
  more.peerPid = peer.pid;
  more.op = name(message.kind);
  more.seq = static_cast<int64_t>(message.seq);
  return more;
}

void Mesh::checkReachable(const Stamp& message) {
  if (failure_) throw Error(*failure_);
  const Link& link = *links_[static_cast<size_t>(message.root)];
  if (!link.goodbye) return;
  failAndThrow(Error(ErrorCode::kRankLost,
                     describe(link.member()) + " closed the group after operation " +
                         std::to_string(link.goodbyeAfter) + " and cannot take part in message " +
                         std::to_string(message.seq) + ", " + describe(message),
                     factsOf(message)));
}

void Mesh::checkAwaited(const Link& link) {
  for (const PostedMessage& posted : postedMessages_) {
    if (posted.stamp.root == link.member().rank) return checkReachable(posted.stamp);
  }
}

void Mesh::failLateMessage(const Stamp& message, const Deadline& limit) {
  ErrorFacts more = factsOf(message);
  more.missing = {message.root};
  const bool sends = message.kind == OpKind::kSend;
  const bool awaited = sends || std::any_of(postedMessages_.begin(), postedMessages_.end(),
                                            [&](const auto& posted) { return posted.stamp == message; });
  std::string text = "message " + std::to_string(message.seq) + ", " + describe(message) +
                     ", was not complete within " + std::to_string(limit.limit().count()) + " ms; " +
                     describe(member(message.root));
  text += !awaited ? " has not sent all of it" : sends ? " has not received it" : " has not sent it";
  failAndThrow(Error(ErrorCode::kTimeout, text, more));
}

}  // namespace nc::transport
