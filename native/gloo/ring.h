// Large sums in parts: each rank ends with its share of the sum, and from there all shares go to one rank.
// As many bytes leave each rank as have to, in pieces, so that adding and moving go on at the same time.
#pragma once

#include <cstddef>

#include "core/reduce.h"
#include "transport/mesh.h"

namespace nc::gloo {

// `count` elements in one share for each rank, `share` elements each; the last ones may be short or empty.
struct Shares {
  size_t count;
  size_t share;
  size_t elementBytes;

  size_t begin(int rank) const {
    const size_t at = static_cast<size_t>(rank) * share;
    return at < count ? at : count;
  }
  size_t length(int rank) const { return begin(rank + 1) - begin(rank); }
};

// Belongs to the group's thread, between Mesh::begin() and Mesh::end(). Throws what the Mesh throws.
class Ring {
 public:
  // `pieceBytes`: two pieces are on their way at a time. The same on all ranks.
  Ring(transport::Mesh& mesh, size_t pieceBytes) : mesh_(mesh), pieceBytes_(pieceBytes) {}

  // This rank's share of the sum goes to `own`, which may be its place in `in`. Share g comes round to rank
  // g: x[g] + (x[g+1] + (... + (x[g-2] + x[g-1]))).
  void reduceScatter(const void* in, void* own, const Shares& shares, ReduceFn reduce);

  // The same, then all shares to `out` on `root`, which may be `in`; `own` is not looked at there.
  void reduceTo(const void* in, void* out, void* own, const Shares& shares, ReduceFn reduce, int root);

 private:
  transport::Mesh& mesh_;
  size_t pieceBytes_;
};

}  // namespace nc::gloo
