#include "transport/mesh.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "transport/describe.h"
#include "transport/keepalive.h"
#include "transport/link.h"

namespace nc::transport {

class Mesh::LinkSink final : public FrameSink {
 public:
  LinkSink(Mesh& mesh, int peer) : mesh_(mesh), peer_(static_cast<size_t>(peer)) {}
  std::optional<std::byte*> place(const FrameHeader& header) override {
    return mesh_.place(*mesh_.links_[peer_], header);
  }
  void arrived(const FrameHeader& header) override {
    if (header.kind != FrameKind::kPulse) mesh_.links_[peer_]->countIn(header.length);
    mesh_.arrived(*mesh_.links_[peer_], header);
  }

 private:
  Mesh& mesh_;
  size_t peer_;
};

class Mesh::Waiting final {
 public:
  Waiting(Mesh& mesh, Clock::time_point began) : mesh_(mesh), began_(began) {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() { mesh_.waited_ += Clock::now() - began_; }

 private:
  Mesh& mesh_;
  Clock::time_point began_;
};

Mesh::Mesh(int rank, int size, uint32_t generation, std::vector<LinkEnd> ends, Cancel& cancel,
           MeshLimits limits)
    : rank_(rank),
      size_(size),
      generation_(generation),
      cancel_(cancel),
      limits_(limits),
      sinks_(static_cast<size_t>(size)),
      links_(static_cast<size_t>(size)),
      ready_(static_cast<size_t>(size), false),
      silence_(limits.heartbeat.deadAfter, static_cast<size_t>(size)),
      processes_(cancel.fd()) {
  self_.rank = rank;
  for (LinkEnd& end : ends) {
    const int peer = end.member.rank;
    if (peer < 0 || peer >= size || peer == rank || links_[static_cast<size_t>(peer)]) {
      throw Error(ErrorCode::kInternal, "a mesh needs one link for each other rank");
    }
    processes_.add(peer, std::move(end.process));
    sinks_[static_cast<size_t>(peer)] = std::make_unique<LinkSink>(*this, peer);
    links_[static_cast<size_t>(peer)] =
        std::make_unique<Link>(std::move(end), *sinks_[static_cast<size_t>(peer)]);
  }
  if (ends.size() + 1 != static_cast<size_t>(size)) {
    throw Error(ErrorCode::kInternal, "a mesh needs one link for each other rank");
  }
  const Heartbeat& heartbeat = limits_.heartbeat;
  for (const auto& link : links_) {
    if (link && heartbeat.deadAfter.count() > 0 && isTcp(link->fd()))
      keepAlive(link->fd(), heartbeat.deadAfter);
  }
  if (size > 1 && heartbeat.every.count() > 0)
    pulse_ = std::make_unique<Pulse>(links_, heartbeat, generation);
}

Mesh::~Mesh() = default;

const Member& Mesh::member(int rank) const {
  return rank == rank_ ? self_ : links_[static_cast<size_t>(rank)]->member();
}

size_t Mesh::earlyFrames() const {
  return earlyCount_.load(std::memory_order_acquire);
}

std::vector<LinkCounters> Mesh::linkCounters() const {
  std::vector<LinkCounters> counters;
  for (const auto& link : links_) {
    if (link) counters.push_back(link->counters());
  }
  return counters;
}

// ---------------------------------------------------------------------------------------------- operations

void Mesh::begin(const Stamp& stamp, const Deadline& deadline) {
  if (failure_) throw Error(*failure_);
  stamp_ = stamp;
  deadline_ = deadline;
  began_ = Clock::now();
  newest_ = stamp;
  remember(stamp);
  waited_ = {};
  active_ = true;
  toldCalled_ = false;
  notices_ = 0;
  for (size_t peer = 0; peer < links_.size(); ++peer) {
    if (!links_[peer]) continue;
    Link& link = *links_[peer];
    // What was too early until now may be wanted, and what came early must be of this very call.
    if (link.paused) ready_[peer] = true;
    link.earlyBytes = 0;
    for (const auto& frame : link.early) {
      if (frame->header.stamp.seq != stamp_.seq) link.earlyBytes += frame->header.length;
    }
  }
  // After the bookkeeping, since these throw; and the other ranks hear of it like of any failure.
  for (const auto& link : links_) {
    if (!link) continue;
    for (const auto& frame : link->early) {
      if (frame->header.stamp.seq == stamp_.seq)
        guarded(*link, [&] { checkStamp(*link, stamp_, frame->header.stamp); });
    }
    if (!link->announced.empty()) guarded(*link, [&] { compareAnnounced(*link); });
    checkDeparted(*link, stamp_);
  }
}

void Mesh::end() {
  active_ = false;
  lastSeq_ = stamp_.seq;
  posted_.clear();
  for (const auto& link : links_) {
    if (link) dropUnclaimed(*link);
  }
}

void Mesh::send(BufferState& state, int peer, uint64_t slot, const void* data, size_t bytes) {
  if (failure_) throw Error(*failure_);
  FrameHeader header;
  header.generation = generation_;
  header.stamp = stamp_;
  header.slot = slot;
  header.length = bytes;
  Outgoing out;
  encode(header, out.header);
  out.body = static_cast<const std::byte*>(data);
  out.bytes = bytes;
  out.owner = &state;
  Link& link = *links_[static_cast<size_t>(peer)];
  link.told = stamp_.seq;
  link.push(std::move(out));
}

bool Mesh::trySend(int peer, uint64_t slot, const Stamp& stamp, const void* data, size_t bytes) {
  FrameHeader header;
  header.generation = generation_;
  header.stamp = stamp;
  header.slot = slot;
  header.length = bytes;
  return links_[static_cast<size_t>(peer)]->tryWrite(header, data);
}

void Mesh::recv(BufferState& state, std::span<const int> from, uint64_t slot, void* data, size_t bytes) {
  if (failure_) throw Error(*failure_);
  Posted posted{&state, from.size() == 1 ? from[0] : -1, {}, slot, static_cast<std::byte*>(data), bytes};
  if (posted.only < 0) posted.from.assign(from.begin(), from.end());
  for (const int peer : from) {
    Link& link = *links_[static_cast<size_t>(peer)];
    bool taken = false;
    guarded(link, [&] { taken = takeEarly(link, posted); });
    if (taken) return;
  }
  for (const int peer : from) {
    if (links_[static_cast<size_t>(peer)]->paused) ready_[static_cast<size_t>(peer)] = true;
  }
  posted_.push_back(std::move(posted));
}

void Mesh::release(BufferState& state) noexcept {
  std::erase_if(posted_, [&](const Posted& posted) { return posted.state == &state; });
  std::erase_if(postedMessages_, [&](const PostedMessage& posted) { return posted.state == &state; });
  for (const auto& link : links_) {
    if (!link) continue;
    link->disown(state);
    if (link->into == &state) {
      link->into = nullptr;
      link->reader().redirect(nullptr);
    }
  }
}

// ------------------------------------------------------------------------------------------------- waiting

template <typename Done>
void Mesh::waitFor(const Deadline& limit, Done done) {
  if (done()) return;
  auto now = Clock::now();
  const Waiting waiting(*this, now);
  bool late = false;
  do {
    if (failure_) throw Error(*failure_);
    if (late) failAndThrow(timedOut(stamp_, limit));
    // One more look after the deadline: a thread that has not run for a while may have its message waiting,
    // and should not name ranks that did arrive.
    late = now >= limit.at();
    step(limit.at(), -1);
    if (done()) return;
    now = Clock::now();
  } while (true);
}

int Mesh::waitSend(BufferState& state, const Deadline& limit) {
  waitFor(limit, [&] { return !state.sent.empty() || state.abortSend; });
  if (state.sent.empty()) {
    state.abortSend = false;
    return -1;
  }
  const int peer = state.sent.front();
  state.sent.erase(state.sent.begin());
  return peer;
}

int Mesh::waitRecv(BufferState& state, const Deadline& limit) {
  waitFor(limit, [&] { return !state.received.empty() || state.abortRecv; });
  if (state.received.empty()) {
    state.abortRecv = false;
    return -1;
  }
  const int peer = state.received.front();
  state.received.erase(state.received.begin());
  return peer;
}

int Mesh::waitSend(BufferState& state) {
  return waitSend(state, deadline_);
}

int Mesh::waitRecv(BufferState& state) {
  return waitRecv(state, deadline_);
}

void Mesh::serve(int wakeFd) {
  woken_ = false;
  while (!woken_) {
    if (failure_) throw Error(*failure_);
    step(Clock::time_point::max(), wakeFd);
  }
}

void Mesh::step(Clock::time_point until, int wakeFd) {
  if (cancel_.cancelled()) {
    // Who aborts does not wait for others.
    fail(*cancel_.cause(), false);
    throw Error(*failure_);
  }
  if (beside) until = std::min(until, callBeside());
  if (active_) tick();
  // Also after progress, only without sleeping: one link with much to say must not starve the others, nor
  // what this rank has to write.
  const bool any = pumpReady();
  pollLinks(any ? Clock::now() : until, wakeFd);
  checkEnds();
  checkProcesses();
  checkSilence();
}

// Links that hold bytes which no poll would report.
bool Mesh::pumpReady() {
  bool any = false;
  for (size_t peer = 0; peer < ready_.size(); ++peer) {
    if (!ready_[peer]) continue;
    ready_[peer] = false;
    if (!links_[peer]->open()) continue;
    links_[peer]->paused = false;
    pump(peer);
    any = true;  // even if it pauses again: what came before the pause may be what is waited for
  }
  return any;
}

FrameReader::Status Mesh::pump(size_t peer) {
  Link& link = *links_[peer];
  FrameReader::Status status{};
  guarded(link, [&] { status = link.pump(); });
  link.paused = status == FrameReader::Status::kPaused;
  if (status == FrameReader::Status::kMore) ready_[peer] = true;
  if (status == FrameReader::Status::kEnded) ends_.push_back(static_cast<int>(peer));
  return status;
}

// Whatever the reader or a frame of `link` complains about ends the group, and the others should hear it.
template <typename Body>
void Mesh::guarded(Link& link, Body body) {
  try {
    body();
  } catch (const Error& error) {
    Error cause = error;
    if (cause.facts.peer < 0) cause.facts.peer = link.member().rank;
    failAndThrow(std::move(cause));
  } catch (const std::bad_alloc&) {
    ErrorFacts more = facts();
    more.peer = link.member().rank;
    failAndThrow(Error(ErrorCode::kResource, "no memory for a message of " + describe(link.member()), more));
  }
}

void Mesh::pollLinks(Clock::time_point until, int wakeFd) {
  polls_.clear();
  pollRanks_.clear();
  polls_.push_back({processes_.fd(), POLLIN, 0});  // and the cancel's
  if (wakeFd >= 0) polls_.push_back({wakeFd, POLLIN, 0});
  until = std::min(until, silence_.due());
  const size_t first = polls_.size();
  for (size_t peer = 0; peer < links_.size(); ++peer) {
    Link* const link = links_[peer].get();
    if (link == nullptr || !link->open()) continue;
    if (link->settleBeaten()) until = Clock::time_point{};  // somebody may wait for just that
    const int reading = !link->paused ? POLLIN : link->hungUp ? 0 : POLLRDHUP;
    const short events = static_cast<short>(reading | (link->pending() ? POLLOUT : 0));
    if (events == 0) continue;  // poll would report a hang-up again and again
    polls_.push_back({link->fd(), events, 0});
    pollRanks_.push_back(static_cast<int>(peer));
  }
  if (active_) {
    if (!toldCalled_) until = std::min(until, began_ + limits_.callsAfter(deadline_));
    if (notices_ < limits_.noticeAfter.size())
      until = std::min(until, began_ + limits_.noticeAfter[notices_]);
  }
  timespec timeout{};
  if (until != Clock::time_point::max()) {
    const auto left = std::max(until - Clock::now(), Clock::duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    timeout.tv_sec = seconds.count();
    timeout.tv_nsec = std::chrono::nanoseconds(left - seconds).count();
  }
  const bool limited = until != Clock::time_point::max();
  const int found = ::ppoll(polls_.data(), polls_.size(), limited ? &timeout : nullptr, nullptr);
  if (found < 0 && errno != EINTR) failAndThrow(systemError("ppoll", errno));
  if (found <= 0) return;
  if (wakeFd >= 0 && polls_[1].revents != 0) woken_ = true;
  if (polls_[0].revents != 0) noteProcesses();
  for (size_t i = first; i < polls_.size(); ++i) {
    if (polls_[i].revents == 0) continue;
    const auto peer = static_cast<size_t>(pollRanks_[i - first]);
    // Also on a hang-up: a paused link is not read, and what it cannot write would be polled for ever.
    if (polls_[i].revents & (POLLOUT | POLLHUP | POLLERR)) links_[peer]->flush();
    if (!links_[peer]->paused) {
      if (polls_[i].revents & (POLLIN | POLLHUP | POLLERR)) pump(peer);
    } else if (polls_[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
      links_[peer]->hungUp = true;
      ready_[peer] = true;
    }
  }
}

void Mesh::checkDeparted(const Link& link, const Stamp& stamp) {
  if (!link.goodbye || link.goodbyeAfter >= stamp.seq) return;
  ErrorFacts more = facts();
  more.peer = link.member().rank;
  more.peerHost = link.member().host;
  more.peerPid = link.member().pid;
  failAndThrow(Error(ErrorCode::kRankLost,
                     describe(link.member()) + " closed the group after operation " +
                         std::to_string(link.goodbyeAfter) + " and cannot take part in operation " +
                         std::to_string(stamp.seq) + ", " + describe(stamp),
                     more));
}

// Time's work within an operation: tell the others that this rank waits, and the user for whom.
void Mesh::tick() {
  const auto waited = Clock::now() - began_;
  if (!toldCalled_ && waited >= limits_.callsAfter(deadline_)) {
    toldCalled_ = true;
    tellCalled();
  }
  if (notices_ < limits_.noticeAfter.size() && waited >= limits_.noticeAfter[notices_]) {
    ++notices_;
    if (onWaiting) onWaiting(stamp_, std::chrono::duration_cast<Millis>(waited), missing(stamp_));
  }
}

void Mesh::tellCalled() {
  for (const auto& link : links_) {
    // A message of this operation has said as much.
    if (link && link->open() && !link->goodbye && link->told < stamp_.seq) tellCalled(*link, stamp_);
  }
}

void Mesh::tellCalled(Link& link, const Stamp& stamp) {
  link.told = std::max(link.told, stamp.seq);
  control(link, FrameKind::kCalled, stamp, {});
}

std::vector<int> Mesh::missing(const Stamp& stamp) const {
  std::vector<int> ranks;
  if (isMessage(stamp)) {
    if (!met(stamp)) ranks.push_back(stamp.root);
    return ranks;
  }
  for (const auto& link : links_) {
    if (link && link->called < stamp.seq) ranks.push_back(link->member().rank);
  }
  return ranks;
}

}  // namespace nc::transport
