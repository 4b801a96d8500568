// How a mesh ends: what went wrong in words, telling the others, and closing in good order.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "transport/describe.h"
#include "transport/failure.h"
#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

namespace {

// How long ranks whose links are full are given to take the cause.
constexpr Millis kTellLimit{200};

}  // namespace

ErrorFacts Mesh::facts() const {
  ErrorFacts facts;
  facts.rank = rank_;
  if (const Stamp* const stamp = concerned()) {
    facts.op = name(stamp->kind);
    facts.seq = static_cast<int64_t>(stamp->seq);
  }
  return facts;
}

Error Mesh::timedOut(const Stamp& stamp, const Deadline& limit) const {
  ErrorFacts more = facts();
  more.op = name(stamp.kind);
  more.seq = static_cast<int64_t>(stamp.seq);
  more.missing = missing(stamp);
  std::string text = "operation " + std::to_string(stamp.seq) + ", " + describe(stamp) +
                     ", was not complete within " + std::to_string(limit.limit().count()) + " ms";
  if (more.missing.empty()) {
    text += "; every rank has called it";
  } else {
    text += "; not called it:";
    for (const int rank : more.missing) text += " " + describe(member(rank)) + ",";
    text.pop_back();
  }
  if (more.missing.size() == 1) more.peer = more.missing.front();
  return Error(ErrorCode::kTimeout, text, more);
}

void Mesh::failAndThrow(Error cause) {
  if (failure_) throw Error(*failure_);
  fail(std::move(cause));
  throw Error(*failure_);
}

void Mesh::control(Link& link, FrameKind kind, const Stamp& stamp, std::vector<std::byte> body,
                   uint64_t slot) {
  FrameHeader header;
  header.slot = slot;
  header.kind = kind;
  header.generation = generation_;
  header.stamp = stamp;
  header.length = body.size();
  Outgoing out;
  encode(header, out.header);
  out.own = std::move(body);
  out.body = out.own.data();
  out.bytes = out.own.size();
  link.push(std::move(out));
}

void Mesh::fail(Error cause, bool wait) {
  if (failure_) return;
  if (cause.facts.rank < 0) cause.facts.rank = rank_;
  if (cause.facts.detectedBy < 0) cause.facts.detectedBy = rank_;
  failure_ = cause;
  const std::vector<std::byte> body = encodeFailure(cause);
  for (const auto& link : links_) {
    if (link && link->open()) control(*link, FrameKind::kFailure, Stamp{}, body);
  }
  if (!wait) return;
  // A link may be in the middle of a large message. Its bytes are still there, so it is given a moment: a
  // rank that reads will learn the cause instead of a broken link.
  const Deadline limit = Deadline::in(kTellLimit);
  for (;;) {
    std::vector<pollfd> polls;
    for (const auto& link : links_) {
      if (link && link->open() && link->pending()) polls.push_back({link->fd(), POLLOUT, 0});
    }
    if (polls.empty() || limit.passed()) return;
    if (::poll(polls.data(), polls.size(), limit.pollTimeout()) < 0 && errno != EINTR) return;
    for (const auto& link : links_) {
      if (link && link->open()) link->flush();
    }
  }
}

void Mesh::close(const Deadline& limit) {
  pulse_.reset();
  if (!failure_) {
    Stamp last;
    last.seq = lastSeq_;
    for (const auto& link : links_) {
      if (link && link->open()) control(*link, FrameKind::kGoodbye, last, {});
    }
  }
  const bool aborted = failure_ && cancel_.cancelled();
  const Deadline until = aborted ? limit.sooner(kTellLimit) : limit;
  // Until the kernel has delivered what was sent: closing a TCP socket with unread input resets it, and a
  // reset destroys what is still on its way. Nobody reports delivery, so the queue is asked at short
  // intervals.
  for (;;) {
    std::vector<pollfd> polls;
    bool undelivered = false;
    for (const auto& link : links_) {
      if (!link || !link->open()) continue;
      link->flush();
      if (link->pending()) polls.push_back({link->fd(), POLLOUT, 0});
      undelivered = undelivered || (!link->pending() && link->undelivered());
    }
    if ((polls.empty() && !undelivered) || until.passed() || (cancel_.cancelled() && !aborted)) break;
    if (!aborted) polls.push_back({cancel_.fd(), POLLIN, 0});
    ::poll(polls.data(), polls.size(), std::min(until.pollTimeout(), undelivered ? 2 : 1000));
  }
  for (const auto& link : links_) {
    if (!link) continue;
    // Now, not once this is destroyed: a group's object may be kept, or not be collected for long.
    processes_.drop(link->member().rank);
    if (!link->open()) continue;
    link->shutdownWrite();
    link->close();
  }
}

}  // namespace nc::transport
