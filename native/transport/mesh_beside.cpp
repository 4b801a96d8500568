// Operations beside the mesh's own: what runs on the ranks' devices, in the same numbering.
#include <algorithm>
#include <utility>

#include "transport/comparison.h"
#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

namespace {

// How far back a rank remembers what it has called, and how many calls of another it keeps that it has not
// made itself. More than any group has outstanding; who is further apart is compared later, or not any more.
constexpr size_t kRemembered = 1024;

}  // namespace

void Mesh::announce(const Stamp& stamp) {
  if (failure_) throw Error(*failure_);
  newest_ = stamp;
  lastSeq_ = stamp.seq;
  if constexpr (!kComparesCalls) return checkStaying(stamp);
  if (remembered_.size() < kRemembered) remembered_.assign(kRemembered, {});
  remember(stamp);
  try {
    for (const auto& link : links_) {
      if (!link) continue;
      compareAnnounced(*link);
      for (const auto& frame : link->early) {
        if (frame->header.stamp.seq == stamp.seq) checkStamp(*link, stamp, frame->header.stamp);
      }
    }
  } catch (const Error& error) {
    failAndThrow(error);
  }
  checkStaying(stamp);
  const int to = (rank_ + 1) % size_;
  if (to == rank_) return;
  Link& next = *links_[static_cast<size_t>(to)];
  if (!next.open() || next.goodbye) return;
  next.told = stamp.seq;
  control(next, FrameKind::kCalled, stamp, {}, kAnnouncement);
}

void Mesh::tellWaiting(const Stamp& stamp) {
  if (isMessage(stamp)) return;  // who takes part knows
  for (const auto& link : links_) {
    if (link && link->open() && !link->goodbye) tellCalled(*link, stamp);
  }
}

void Mesh::checkStaying(const Stamp& stamp) {
  if (isMessage(stamp)) {
    if (!met(stamp)) checkReachable(stamp);
    return;
  }
  for (const auto& link : links_) {
    if (link) checkDeparted(*link, stamp);
  }
}

void Mesh::failLate(const Stamp& stamp, const Deadline& limit) {
  if (isMessage(stamp)) failLateBeside(stamp, limit);
  failAndThrow(timedOut(stamp, limit));
}

const Stamp* Mesh::concerned() const {
  if (active_) return &stamp_;
  if (message_) return &*message_;
  return besideOldest_ ? &*besideOldest_ : nullptr;
}

void Mesh::remember(const Stamp& stamp) {
  if constexpr (!kComparesCalls) return;
  remembered_[stamp.seq % remembered_.size()] = stamp;
}

const Stamp* Mesh::remembered(uint64_t seq) const {
  const Stamp& stamp = remembered_[seq % remembered_.size()];
  return stamp.seq == seq && seq != 0 ? &stamp : nullptr;
}

// Another rank has called this; now, or once this rank has called as many.
void Mesh::compare(Link& link, const Stamp& theirs) {
  if (active_ && theirs.seq == stamp_.seq) return checkStamp(link, stamp_, theirs);
  if (const Stamp* const ours = remembered(theirs.seq)) return checkStamp(link, *ours, theirs);
  if (theirs.seq <= newest_.seq || link.announced.size() >= kRemembered) return;
  if (link.announced.empty() || link.announced.back().seq < theirs.seq) link.announced.push_back(theirs);
}

void Mesh::compareAnnounced(Link& link) {
  while (!link.announced.empty() && link.announced.front().seq <= newest_.seq) {
    const Stamp theirs = link.announced.front();
    link.announced.pop_front();
    if (theirs.seq == newest_.seq) checkStamp(link, newest_, theirs);
  }
}

Clock::time_point Mesh::callBeside() {
  try {
    return beside();
  } catch (const Error& error) {
    failAndThrow(error);
  }
}

}  // namespace nc::transport
