// A block for every rank, straight from each rank to each other: allToAll, and small reduceScatters.
#pragma once

#include <cstddef>
#include <optional>

#include "core/reduce.h"
#include "gloo/recursive_doubling.h"
#include "transport/mesh.h"

namespace nc::gloo {

// Belongs to the group's thread, between Mesh::begin() and Mesh::end(). Throws what the Mesh throws. `in` and
// `out` hold a block of `bytes` for each rank, and do not overlap.
class Direct {
 public:
  explicit Direct(transport::Mesh& mesh) : mesh_(mesh) {}

  // All blocks at once. With `firstSent` the first message is on its way already.
  void allToAll(const void* in, void* out, size_t bytes, bool firstSent = false);
  std::optional<FirstMessage> first(size_t bytes) const;

  // One rank after the other: in step k to the one k above, from the one k below.
  void allToAllPairwise(const void* in, void* out, size_t bytes);

  // This rank's block of the sum goes to `out`, which may be its block in `in`; the others' blocks come into
  // `scratch`, which has the size of `in`. Added in the order of RecursiveDoubling.
  void reduceScatter(const void* in, void* out, void* scratch, size_t count, size_t elementBytes,
                     ReduceFn reduce, bool firstSent = false);

 private:
  void exchange(const void* in, void* into, size_t bytes, bool firstSent);

  transport::Mesh& mesh_;
  transport::BufferState state_;
};

}  // namespace nc::gloo
