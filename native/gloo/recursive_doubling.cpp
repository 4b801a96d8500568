#include "gloo/recursive_doubling.h"

#include <bit>

#include "gloo/posted.h"

namespace nc::gloo {
namespace {

// Rounds count from 0; what goes on before and after them has slots of its own.
constexpr uint64_t kFold = 64;
constexpr uint64_t kUnfold = 65;

}  // namespace

RecursiveDoubling::RecursiveDoubling(transport::Mesh& mesh)
    : mesh_(mesh),
      rank_(mesh.rank()),
      size_(mesh.size()),
      core_(static_cast<int>(std::bit_floor(static_cast<unsigned>(mesh.size())))),
      extra_(mesh.size() - core_) {
  state_.sent.reserve(static_cast<size_t>(size_));
  state_.received.reserve(static_cast<size_t>(size_));
}

void RecursiveDoubling::sendTo(int peer, uint64_t slot, const void* data, size_t bytes) {
  mesh_.send(state_, peer, slot, data, bytes);
  mesh_.waitSend(state_);
}

void RecursiveDoubling::recvFrom(int peer, uint64_t slot, void* data, size_t bytes) {
  mesh_.recv(state_, {&peer, 1}, slot, data, bytes);
  mesh_.waitRecv(state_);
}

void RecursiveDoubling::allReduce(void* data, void* scratch, size_t count, size_t elementBytes,
                                  ReduceFn reduce, bool firstSent) {
  Posted posted(mesh_, state_);
  const size_t bytes = count * elementBytes;
  if (rank_ >= core_) {
    const int host = rank_ - core_;
    if (!firstSent) sendTo(host, kFold, data, bytes);
    recvFrom(host, kUnfold, data, bytes);
    posted.done();
    return;
  }
  if (rank_ < extra_) {
    recvFrom(rank_ + core_, kFold, scratch, bytes);
    reduce(data, data, scratch, count);
  }
  uint64_t slot = 0;
  for (int distance = 1; distance < core_; distance *= 2, ++slot) {
    const int peer = rank_ ^ distance;
    mesh_.recv(state_, {&peer, 1}, slot, scratch, bytes);
    const bool sent = slot == 0 && firstSent;
    if (!sent) mesh_.send(state_, peer, slot, data, bytes);
    mesh_.waitRecv(state_);
    if (!sent) mesh_.waitSend(state_);
    if (rank_ < peer) {
      reduce(data, data, scratch, count);
    } else {
      reduce(data, scratch, data, count);
    }
  }
  if (rank_ < extra_) sendTo(rank_ + core_, kUnfold, data, bytes);
  posted.done();
}

std::optional<FirstMessage> RecursiveDoubling::firstOfAllReduce() const {
  if (rank_ >= core_) return FirstMessage{rank_ - core_, kFold};
  if (rank_ < extra_ || size_ == 1) return std::nullopt;
  return FirstMessage{rank_ ^ 1, 0};
}

void RecursiveDoubling::reduceTo(const void* in, void* out, void* scratch, size_t count, size_t elementBytes,
                                 ReduceFn reduce, int root, bool firstSent) {
  Posted posted(mesh_, state_);
  const size_t bytes = count * elementBytes;
  const int home = root % core_;  // where the sum comes together: root itself or the one that it leans on
  if (rank_ >= core_) {
    if (!firstSent) sendTo(rank_ - core_, kFold, in, bytes);
    if (rank_ == root) recvFrom(home, kUnfold, out, bytes);
    posted.done();
    return;
  }
  const void* mine = in;
  const auto add = [&](int peer, uint64_t slot) {
    recvFrom(peer, slot, scratch, bytes);
    reduce(out, mine, scratch, count);
    mine = out;
  };
  if (rank_ < extra_) add(rank_ + core_, kFold);
  // Counted from home, so that the same neighbours are added in the same rounds whichever rank is root.
  const int place = rank_ ^ home;
  uint64_t slot = 0;
  for (int distance = 1; distance < core_; distance *= 2, ++slot) {
    const int peer = rank_ ^ distance;
    if ((place & distance) != 0) {
      if (slot > 0 || !firstSent) sendTo(peer, slot, mine, bytes);
      posted.done();
      return;
    }
    add(peer, slot);
  }
  if (rank_ != root) sendTo(root, kUnfold, mine, bytes);
  posted.done();
}

std::optional<FirstMessage> RecursiveDoubling::firstOfReduce(int root) const {
  if (rank_ >= core_) return FirstMessage{rank_ - core_, kFold};
  const bool leaf = ((rank_ ^ (root % core_)) & 1) != 0;
  if (rank_ < extra_ || size_ == 1 || !leaf) return std::nullopt;
  return FirstMessage{rank_ ^ 1, 0};
}

void RecursiveDoubling::barrier(bool firstSent) {
  Posted posted(mesh_, state_);
  uint64_t slot = 0;
  for (int distance = 1; distance < size_; distance *= 2, ++slot) {
    const int from = (rank_ - distance + size_) % size_;
    mesh_.recv(state_, {&from, 1}, slot, nullptr, 0);
    const bool sent = slot == 0 && firstSent;
    if (!sent) mesh_.send(state_, (rank_ + distance) % size_, slot, nullptr, 0);
    mesh_.waitRecv(state_);
    if (!sent) mesh_.waitSend(state_);
  }
  posted.done();
}

std::optional<FirstMessage> RecursiveDoubling::firstOfBarrier() const {
  if (size_ == 1) return std::nullopt;
  return FirstMessage{(rank_ + 1) % size_, 0};
}

void RecursiveDoubling::allGather(void* all, size_t bytes) {
  Posted posted(mesh_, state_);
  auto* const parts = static_cast<std::byte*>(all);
  const auto part = [&](int rank) { return parts + static_cast<size_t>(rank) * bytes; };
  for (int step = 1; step < size_; ++step) {
    const int from = (rank_ - step + size_) % size_;
    mesh_.recv(state_, {&from, 1}, 0, part(from), bytes);
  }
  for (int step = 1; step < size_; ++step) {
    mesh_.send(state_, (rank_ + step) % size_, 0, part(rank_), bytes);
  }
  for (int step = 1; step < size_; ++step) {
    mesh_.waitRecv(state_);
    mesh_.waitSend(state_);
  }
  posted.done();
}

}  // namespace nc::gloo
