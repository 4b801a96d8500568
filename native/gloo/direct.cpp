#include "gloo/direct.h"

#include <bit>
#include <cstring>
#include <vector>

#include "gloo/posted.h"

namespace nc::gloo {
namespace {

std::byte* block(void* blocks, int rank, size_t bytes) {
  return static_cast<std::byte*>(blocks) + static_cast<size_t>(rank) * bytes;
}
const std::byte* block(const void* blocks, int rank, size_t bytes) {
  return static_cast<const std::byte*>(blocks) + static_cast<size_t>(rank) * bytes;
}

}  // namespace

// Everything but this rank's own block.
void Direct::exchange(const void* in, void* into, size_t bytes, bool firstSent) {
  const int size = mesh_.size();
  const int rank = mesh_.rank();
  Posted posted(mesh_, state_);
  for (int step = 1; step < size; ++step) {
    const int from = (rank - step + size) % size;
    mesh_.recv(state_, {&from, 1}, 0, block(into, from, bytes), bytes);
  }
  for (int step = firstSent ? 2 : 1; step < size; ++step) {
    const int to = (rank + step) % size;
    mesh_.send(state_, to, 0, block(in, to, bytes), bytes);
  }
  for (int step = 1; step < size; ++step) mesh_.waitRecv(state_);
  for (int step = firstSent ? 2 : 1; step < size; ++step) mesh_.waitSend(state_);
  posted.done();
}

std::optional<FirstMessage> Direct::first(size_t bytes) const {
  if (mesh_.size() == 1) return std::nullopt;
  const int to = (mesh_.rank() + 1) % mesh_.size();
  return FirstMessage{to, 0, static_cast<size_t>(to) * bytes, bytes};
}

void Direct::allToAll(const void* in, void* out, size_t bytes, bool firstSent) {
  exchange(in, out, bytes, firstSent);
  std::memcpy(block(out, mesh_.rank(), bytes), block(in, mesh_.rank(), bytes), bytes);
}

void Direct::allToAllPairwise(const void* in, void* out, size_t bytes) {
  const int size = mesh_.size();
  const int rank = mesh_.rank();
  Posted posted(mesh_, state_);
  for (int step = 1; step < size; ++step) {
    const int from = (rank - step + size) % size;
    const int to = (rank + step) % size;
    mesh_.recv(state_, {&from, 1}, 0, block(out, from, bytes), bytes);
    mesh_.send(state_, to, 0, block(in, to, bytes), bytes);
    mesh_.waitRecv(state_);
    mesh_.waitSend(state_);
  }
  posted.done();
  std::memcpy(block(out, rank, bytes), block(in, rank, bytes), bytes);
}

void Direct::reduceScatter(const void* in, void* out, void* scratch, size_t count, size_t elementBytes,
                           ReduceFn reduce, bool firstSent) {
  const int size = mesh_.size();
  const int rank = mesh_.rank();
  const size_t bytes = count * elementBytes;
  exchange(in, scratch, bytes, firstSent);
  std::vector<const void*> parts(static_cast<size_t>(size));
  for (int from = 0; from < size; ++from) parts[static_cast<size_t>(from)] = block(scratch, from, bytes);
  parts[static_cast<size_t>(rank)] = block(in, rank, bytes);
  // Part `to` becomes the sum of two; this rank's own place in the scratch is free for its first sum.
  const auto add = [&](size_t to, size_t other, void* sum) {
    reduce(sum, parts[to], parts[other], count);
    parts[to] = sum;
  };
  const size_t core = std::bit_floor(static_cast<size_t>(size));
  const auto place = [&](size_t part) { return block(scratch, static_cast<int>(part), bytes); };
  for (size_t i = 0; i + core < parts.size(); ++i) add(i, i + core, place(i));
  for (size_t distance = 1; distance < core; distance *= 2) {
    const bool last = distance * 2 == core;
    for (size_t i = 0; i < core; i += 2 * distance) add(i, i + distance, last ? out : place(i));
  }
}

}  // namespace nc::gloo
