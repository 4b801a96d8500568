#include "gloo/ring.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "gloo/posted.h"

namespace nc::gloo {
namespace {

constexpr size_t kFlying = 2;  // pieces on their way at a time
// A piece's buffer is read until it has been sent on, kFlying pieces later; meanwhile as many are received.
constexpr size_t kBuffers = 2 * kFlying;
constexpr uint64_t kShareSlot = uint64_t{1} << 62;  // apart from the pieces, which count from 0

// The order in which pieces go round. Every share is cut at the same places, into chunks of kFlying pieces; a
// chunk makes all its steps before the next one begins, so that a few buffers are enough for any length.
class Course {
 public:
  struct Piece {
    size_t at;      // element of the whole array
    size_t length;  // elements; pieces at the end of a share may be empty
    size_t step;
  };

  Course(const Shares& shares, int rank, int size, size_t pieceBytes)
      : shares_(shares),
        rank_(rank),
        size_(size),
        steps_(static_cast<size_t>(size) - 1),
        chunk_(kFlying * std::max<size_t>(1, pieceBytes / shares.elementBytes)) {}

  size_t pieces() const { return (shares_.share + chunk_ - 1) / chunk_ * steps_ * kFlying; }
  size_t longest() const { return (std::min(chunk_, shares_.share) + kFlying - 1) / kFlying; }
  bool last(const Piece& piece) const { return piece.step + 1 == steps_; }

  // What this rank sends, and receives, as number k.
  Piece sent(size_t k) const { return piece(k, rank_ + 1); }
  Piece received(size_t k) const { return piece(k, rank_ + 2); }

 private:
  Piece piece(size_t k, int first) const {
    const size_t step = k / kFlying % steps_;
    const size_t chunkAt = k / kFlying / steps_ * chunk_;
    const size_t length = (std::min(chunk_, shares_.share - chunkAt) + kFlying - 1) / kFlying;
    const int share = (first + static_cast<int>(step)) % size_;
    const size_t have = shares_.length(share);
    const size_t from = std::min(chunkAt + k % kFlying * length, have);
    const size_t to = std::min({from + length, chunkAt + chunk_, have});
    return {shares_.begin(share) + from, to - from, step};
  }

  const Shares& shares_;
  int rank_;
  int size_;
  size_t steps_;
  size_t chunk_;  // elements
};

}  // namespace

void Ring::reduceScatter(const void* in, void* own, const Shares& shares, ReduceFn reduce) {
  const int size = mesh_.size();
  const int rank = mesh_.rank();
  const int left = (rank + size - 1) % size;
  const int right = (rank + 1) % size;
  const Course course(shares, rank, size, pieceBytes_);
  const size_t element = shares.elementBytes;
  const auto* const from = static_cast<const std::byte*>(in);
  auto* const to = static_cast<std::byte*>(own);
  const size_t room = course.longest() * element;
  const auto buffers = std::make_unique_for_overwrite<std::byte[]>(kBuffers * room);
  const auto buffer = [&](size_t k) { return buffers.get() + k % kBuffers * room; };

  transport::BufferState state;
  Posted posted(mesh_, state);
  const auto receive = [&](size_t k) {
    mesh_.recv(state, {&right, 1}, k, buffer(k), course.received(k).length * element);
  };
  const auto send = [&](size_t k) {
    const Course::Piece piece = course.sent(k);
    // What was received and added kFlying pieces ago, but for the first step of each chunk.
    const std::byte* const data = piece.step == 0 ? from + piece.at * element : buffer(k - kFlying);
    mesh_.send(state, left, k, data, piece.length * element);
  };
  const size_t pieces = course.pieces();
  for (size_t k = 0; k < std::min(kFlying, pieces); ++k) {
    receive(k);
    send(k);
  }
  for (size_t k = 0; k < pieces; ++k) {
    mesh_.waitRecv(state);  // one link is in order, so this is piece k
    const Course::Piece piece = course.received(k);
    const std::byte* const mine = from + piece.at * element;
    const bool last = course.last(piece);
    if (piece.length > 0) {
      void* const sum = last ? to + (piece.at - shares.begin(rank)) * element : buffer(k);
      reduce(sum, mine, buffer(k), piece.length);
    }
    const size_t next = k + kFlying;
    if (next < pieces) send(next);
    mesh_.waitSend(state);  // piece k: with it the buffer that `next` is received into has been sent on
    if (next < pieces) receive(next);
  }
  posted.done();
}

void Ring::reduceTo(const void* in, void* out, void* own, const Shares& shares, ReduceFn reduce, int root) {
  const int rank = mesh_.rank();
  const size_t element = shares.elementBytes;
  const auto place = [&](int of) { return static_cast<std::byte*>(out) + shares.begin(of) * element; };
  transport::BufferState state;
  Posted posted(mesh_, state);
  if (rank != root) {
    reduceScatter(in, own, shares, reduce);
    mesh_.send(state, root, kShareSlot, own, shares.length(rank) * element);
    mesh_.waitSend(state);
    posted.done();
    return;
  }
  // Posted before the ring, so that shares are read to where they belong. A share that comes has gone round,
  // root's part of it included: nothing of `in` is overwritten that is needed still.
  for (int peer = 0; peer < mesh_.size(); ++peer) {
    if (peer == root) continue;
    mesh_.recv(state, {&peer, 1}, kShareSlot, place(peer), shares.length(peer) * element);
  }
  reduceScatter(in, place(root), shares, reduce);
  for (int peer = 1; peer < mesh_.size(); ++peer) mesh_.waitRecv(state);
  posted.done();
}

}  // namespace nc::gloo
