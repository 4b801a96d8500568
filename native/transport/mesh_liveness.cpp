// Ranks that end without a word, or fall silent: whose link has ended, whose process has, who has not been
// heard of for too long.
#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/describe.h"
#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

namespace {

// How often a link is read on when the end is certain and only its reason is looked for; 4 MiB each time.
constexpr int kLastLooks = 16;

}  // namespace

Error Mesh::lost(const Link& link, const std::string& how) const {
  ErrorFacts more = facts();
  const Member& member = link.member();
  more.peer = member.rank;
  more.peerHost = member.host;
  more.peerPid = member.pid;
  more.address = member.address;
  more.errnum = link.readErrno;
  std::string text = describe(member) + " was lost: " + how;
  if (const Stamp* const stamp = concerned())
    text += std::string(isMessage(*stamp) ? " during message " : " during operation ") +
            std::to_string(stamp->seq) + ", " + describe(*stamp);
  text += "; this group cannot go on, form a new one";
  return Error(ErrorCode::kRankLost, text, more);
}

// The group is over. Somebody may have told a better reason than the one that was met here: everything that
// has come is read first, also what would have been held back, and whatever is no reason is dropped. A
// failure frame ends this by throwing what it says.
void Mesh::failLost(const Error& cause) {
  dropping_ = true;
  for (size_t peer = 0; peer < links_.size(); ++peer) {
    if (!links_[peer] || !links_[peer]->open()) continue;
    for (int i = 0; i < kLastLooks && pump(peer) == FrameReader::Status::kMore; ++i) continue;
  }
  failAndThrow(cause);
}

// Looked at only after a whole round of reading: a rank that failed tells why before it closes, and the frame
// that tells may be on another link.
void Mesh::checkEnds() {
  if (ends_.empty()) return;
  const std::vector<int> ended = std::exchange(ends_, {});
  if (ended.size() > 1) noteProcesses();
  const Link* gone = nullptr;
  for (const int peer : ended) {
    const Link& link = *links_[static_cast<size_t>(peer)];
    // Of several, a process that is dead rather than one that has merely left.
    if (!link.goodbye && (gone == nullptr || (link.processEnded && !gone->processEnded))) gone = &link;
  }
  std::optional<Error> cause;
  if (gone != nullptr && !failure_) {
    std::string how = "its link ended";
    if (gone->readErrno != 0) {
      const char* const reason = strerrorname_np(gone->readErrno);
      how += std::string(" (") + (reason != nullptr ? reason : "errno") + ")";
    }
    cause = lost(*gone, how);
  }
  for (const int peer : ended) {
    links_[static_cast<size_t>(peer)]->close();
    processes_.drop(peer);
  }
  if (cause) failLost(*cause);
  if (active_) {
    for (const int peer : ended) checkDeparted(*links_[static_cast<size_t>(peer)], stamp_);
  }
}

void Mesh::noteProcesses() {
  for (const int peer : processes_.take()) {
    links_[static_cast<size_t>(peer)]->processEnded = true;
    processEnded_ = true;
  }
}

// A dead process has said all it ever will. What it wrote is read first, as at the end of a stream, also what
// was held back: it may have taken its leave.
void Mesh::checkProcesses() {
  if (!processEnded_) return;
  for (size_t peer = 0; peer < links_.size(); ++peer) {
    Link* const link = links_[peer].get();
    if (link == nullptr || !link->open() || !link->processEnded) continue;
    if (link->paused) {
      link->hungUp = true;
      link->paused = false;
    }
    // Its stream has ended too, as it should, or there is more to read.
    if (pump(peer) != FrameReader::Status::kDrained || link->goodbye) continue;
    failLost(lost(*link, "its process has ended, though somebody still holds its socket open"));
  }
  checkEnds();
}

void Mesh::checkSilence() {
  if (silence_.due() == Clock::time_point::max() || !silence_.sample(Clock::now())) return;
  for (size_t peer = 0; peer < links_.size(); ++peer) {
    Link* const link = links_[peer].get();
    if (link == nullptr || !link->open() || link->goodbye) continue;
    const int rank = link->member().rank;
    if (link->paused) {
      // It is held back by this rank, and its pulse is stuck behind what is not read.
      silence_.excuse(rank);
    } else if (silence_.tooLong(rank, link->reads)) {
      const uint64_t before = link->reads;
      pump(peer);
      if (link->reads != before || !ends_.empty()) continue;
      failLost(
          lost(*link, "nothing has come from it for " + std::to_string(silence_.limit().count()) + " ms"));
    }
  }
}

}  // namespace nc::transport
