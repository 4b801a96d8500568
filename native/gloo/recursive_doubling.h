// Small data: as few rounds as possible, straight on the mesh, and no memory taken once warm. For large data
// Gloo's ring is better (docs/collectives.md has the figures).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/reduce.h"
#include "transport/mesh.h"

namespace nc::gloo {

// A message that a rank sends before it has heard anything from the others: `bytes` of its input.
struct FirstMessage {
  int peer;
  uint64_t slot;
  size_t offset = 0;
  size_t bytes = 0;
};

// Belongs to the group's thread, between Mesh::begin() and Mesh::end(). Throws what the Mesh throws; whatever
// is posted by then is taken back.
class RecursiveDoubling {
 public:
  explicit RecursiveDoubling(transport::Mesh& mesh);

  // `data` is reduced in place; `scratch` has the same size. Every rank computes every sum in the same order,
  // the lower rank's operand on the left, so the result is the same bit by bit. With `firstSent` the first
  // message, if there is one, is on its way already.
  void allReduce(void* data, void* scratch, size_t count, size_t elementBytes, ReduceFn reduce,
                 bool firstSent = false);
  std::optional<FirstMessage> firstOfAllReduce() const;

  // The same sum on `root` alone, in the same order. `out`, of the same size, is room for partial sums on the
  // other ranks; it may be `in` where that may be overwritten.
  void reduceTo(const void* in, void* out, void* scratch, size_t count, size_t elementBytes, ReduceFn reduce,
                int root, bool firstSent = false);
  std::optional<FirstMessage> firstOfReduce(int root) const;

  // Dissemination: in round k each rank tells the one 2^k above it; ceil(log2 N) rounds for every N.
  void barrier(bool firstSent = false);
  std::optional<FirstMessage> firstOfBarrier() const;

  // Everybody to everybody, at once. `all` holds size x bytes, this rank's part in its place.
  void allGather(void* all, size_t bytes);

 private:
  void sendTo(int peer, uint64_t slot, const void* data, size_t bytes);
  void recvFrom(int peer, uint64_t slot, void* data, size_t bytes);

  transport::Mesh& mesh_;
  int rank_;
  int size_;
  int core_;   // the largest power of two <= size: these ranks double, the others lean on them
  int extra_;  // size - core
  transport::BufferState state_;
};

}  // namespace nc::gloo
