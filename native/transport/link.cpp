#include "transport/link.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "transport/keepalive.h"

namespace nc::transport {

Link::Link(LinkEnd end, FrameSink& sink)
    : member_(std::move(end.member)), fd_(std::move(end.fd)), sink_(sink), tcp_(isTcp(fd_.get())) {
  if (!end.keys) return;
  key_ = end.keys->out;
  reader_ = FrameReader(end.keys->in);
}

void Link::seal(std::span<std::byte, kFrameHeaderBytes> header) {
  setNumber(header, number_);
  if (key_) sign(header, *key_);
}

ssize_t Link::read(void* to, size_t n) {
  for (;;) {
    const ssize_t got = ::recv(fd_.get(), to, n, MSG_DONTWAIT);
    if (got > 0) ++reads;
    if (got >= 0) return got;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return -1;
    // A reset is an end like any other; who asks for the cause finds it in readErrno.
    readErrno = errno;
    return 0;
  }
}

void Link::push(Outgoing out) {
  const std::lock_guard lock(mutex_);
  seal(out.header);
  ++number_;
  out_.add(kFrameHeaderBytes + out.bytes);
  // Most frames leave at once, and need no place in the queue.
  if (outgoing_.empty() && writeNow(out)) return;
  outgoing_.push_back(std::move(out));
}

// Writes what the socket takes of one frame; true if that was all of it, or nobody will read it.
bool Link::writeNow(Outgoing& out) {
  std::array<iovec, 2> parts{
      {{out.header.data(), kFrameHeaderBytes}, {const_cast<std::byte*>(out.body), out.bytes}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = out.bytes > 0 ? 2 : 1;
  ssize_t sent = -1;
  while (!broken_ && fd_) {
    sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) break;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    broken_ = errno != EINTR;
  }
  if (sent >= 0) {
    out.done = static_cast<size_t>(sent);
    ++writes_;
  }
  if (sent >= 0 && out.done < kFrameHeaderBytes + out.bytes) return false;
  sentLocked(out, sent < 0);
  return true;
}

// The owners belong to the group's thread, and only it may touch them.
void Link::sentLocked(const Outgoing& out, bool unread) {
  if (out.owner == nullptr) return;
  if (beating_) {
    owners_.push_back({out.owner, unread});
    anyOwners_.store(true, std::memory_order_relaxed);
    return;
  }
  settleLocked();
  out.owner->sent.push_back(member_.rank);
  out.owner->unread = out.owner->unread || unread;
}

void Link::settleLocked() {
  for (const Beaten& beaten : owners_) {
    beaten.owner->sent.push_back(member_.rank);
    beaten.owner->unread = beaten.owner->unread || beaten.unread;
  }
  owners_.clear();
  anyOwners_.store(false, std::memory_order_relaxed);
}

bool Link::settleBeaten() {
  if (!anyOwners_.load(std::memory_order_relaxed)) return false;
  const std::lock_guard lock(mutex_);
  settleLocked();
  return true;
}

void Link::beat(const FrameHeader& pulse, Millis deadAfter) {
  const std::lock_guard lock(mutex_);
  if (!fd_ || broken_) return;
  if (tcp_ && deadAfter.count() > 0) limited_ = limitUnlessHeldBack(fd_.get(), deadAfter, limited_);
  if (std::exchange(beaten_, writes_) != writes_) return;
  // In the middle of a message its next bytes are the sign of life. The group's thread may be at something
  // else for long.
  beating_ = true;
  if (!outgoing_.empty()) {
    flushLocked();
  } else {
    Outgoing out;
    encode(pulse, out.header);
    seal(out.header);
    if (writeNow(out) || out.done > 0) ++number_;
    if (out.done > 0 && out.done < kFrameHeaderBytes) outgoing_.push_back(std::move(out));
  }
  beating_ = false;
}

void Link::flush() {
  const std::lock_guard lock(mutex_);
  flushLocked();
}

bool Link::pending() const {
  const std::lock_guard lock(mutex_);
  return !outgoing_.empty();
}

bool Link::flushLocked() {
  while (!outgoing_.empty()) {
    if (broken_ || !fd_) {
      dropLocked();
      return true;
    }
    std::array<iovec, 32> parts{};
    size_t used = 0;
    for (const Outgoing& out : outgoing_) {
      if (used + 2 > parts.size()) break;
      size_t done = out.done;
      if (done < kFrameHeaderBytes) {
        parts[used++] = {const_cast<std::byte*>(out.header.data()) + done, kFrameHeaderBytes - done};
        done = kFrameHeaderBytes;
      }
      const size_t bodyDone = done - kFrameHeaderBytes;
      if (bodyDone < out.bytes) {
        parts[used++] = {const_cast<std::byte*>(out.body) + bodyDone, out.bytes - bodyDone};
      }
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = used;
    const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      broken_ = true;
      continue;
    }
    ++writes_;
    size_t left = static_cast<size_t>(sent);
    while (!outgoing_.empty()) {
      Outgoing& out = outgoing_.front();
      const size_t take = std::min(left, kFrameHeaderBytes + out.bytes - out.done);
      out.done += take;
      left -= take;
      if (out.done < kFrameHeaderBytes + out.bytes) break;
      sentLocked(out, false);
      outgoing_.pop_front();
    }
  }
  return true;
}

// Nobody will read it. That counts as sent, as it would have if the end had come a moment later: the reading
// side tells the cause, and a rank that left in good order does not want the message.
void Link::dropLocked() {
  for (const Outgoing& out : outgoing_) sentLocked(out, true);
  outgoing_.clear();
}

bool Link::tryWrite(const FrameHeader& header, const void* data) {
  std::array<std::byte, kFrameHeaderBytes + 64> frame;
  if (header.length > 64) return false;
  encode(header, std::span<std::byte, kFrameHeaderBytes>(frame.data(), kFrameHeaderBytes));
  if (header.length > 0) std::memcpy(frame.data() + kFrameHeaderBytes, data, header.length);
  const size_t bytes = kFrameHeaderBytes + header.length;
  const std::lock_guard lock(mutex_);
  if (!outgoing_.empty() || broken_ || !fd_) return false;
  seal(std::span<std::byte, kFrameHeaderBytes>(frame.data(), kFrameHeaderBytes));
  const ssize_t sent = ::send(fd_.get(), frame.data(), bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent <= 0) return false;
  ++writes_;
  ++number_;
  out_.add(bytes);
  if (static_cast<size_t>(sent) < bytes) {
    // Part of it is out, so the rest has to follow before anything else.
    Outgoing rest;
    std::copy_n(frame.begin(), kFrameHeaderBytes, rest.header.begin());
    rest.own.assign(frame.begin() + kFrameHeaderBytes, frame.begin() + static_cast<ptrdiff_t>(bytes));
    rest.body = rest.own.data();
    rest.bytes = header.length;
    rest.done = static_cast<size_t>(sent);
    outgoing_.push_back(std::move(rest));
  }
  return true;
}

void Link::disown(const BufferState& state) noexcept {
  const std::lock_guard lock(mutex_);
  std::erase_if(owners_, [&](const Beaten& beaten) { return beaten.owner == &state; });
  for (Outgoing& out : outgoing_) {
    if (out.owner != &state) continue;
    out.owner = nullptr;
    try {
      out.own.assign(out.body, out.body + out.bytes);
      out.body = out.own.data();
    } catch (const std::bad_alloc&) {
      // Half a message cannot be left out without losing step: this link has said its last.
      broken_ = true;
    }
  }
  if (broken_) dropLocked();
}

bool Link::undelivered() const {
  // On a UNIX socket what is sent has arrived.
  if (!fd_ || !tcp_) return false;
  // Once it was reset nothing is delivered any more, and the queue keeps its length for good.
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0 || info.tcpi_state == TCP_CLOSE)
    return false;
  int bytes = 0;
  return ::ioctl(fd_.get(), SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

LinkCounters Link::counters() const {
  return {member_.rank, in_.frames(), in_.bytes(), out_.frames(), out_.bytes()};
}

void Link::shutdownWrite() {
  if (fd_) ::shutdown(fd_.get(), SHUT_WR);
}

void Link::close() {
  const std::lock_guard lock(mutex_);
  fd_.reset();
  dropLocked();
}

}  // namespace nc::transport
