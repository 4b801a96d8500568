// The collectives of a CPU group: chooses the algorithm, brackets the operation on the mesh, does the
// averaging. docs/collectives.md says which algorithm runs when and what users may rely on.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "core/deadline.h"
#include "core/error.h"
#include "core/operation.h"
#include "core/reduce.h"
#include "gloo/direct.h"
#include "gloo/recursive_doubling.h"
#include "gloo/ring.h"
#include "transport/mesh.h"

namespace gloo {
class Context;
}

namespace nc::gloo {

// One operation. Memory is borrowed until run() returns or throws.
//   allReduce: `in` and `out` hold stamp.count elements. They are the same memory or do not overlap.
//   broadcast: the same; only the root's `in` is read.
//   allGather: `in` holds count elements, `out` size x count; `in` may lie anywhere in `out`.
//   reduce:    the same as allReduce; `out` is looked at on the root only.
//   reduceScatter: `in` holds size x count elements, `out` count; `out` is apart, or this rank's block of
//   `in`. allToAll:  both hold size x count elements; they are the same memory or do not overlap. barrier:
//   neither is looked at; the stamp names some data type all the same.
struct Call {
  Stamp stamp;
  Deadline deadline;
  const void* in = nullptr;
  void* out = nullptr;
  bool firstSent = false;  // firstMessage() has been sent already, with Mesh::trySend()
};

struct CollectiveLimits {
  // Bytes (of accumulators for AVG) up to which all-reduce doubles instead of going round the ring, and bytes
  // of the whole result up to which allGather sends directly. The same on all ranks.
  size_t smallReduce = 64u << 10;
  size_t smallGather = 128u << 10;
  // Bytes (of accumulators for AVG) of one rank's input: up to the first a whole all-reduce is cheaper, up to
  // the second all blocks go at once.
  size_t tinyScatter = 4u << 10;
  size_t smallScatter = 64u << 10;
  // Bytes of one rank's input up to which allToAll sends all blocks at once.
  size_t smallExchange = 256u << 10;
  size_t ringPiece = 256u << 10;
};

// Belongs to the group's thread, firstMessage() to any. Borrows the mesh.
class Collectives {
 public:
  explicit Collectives(transport::Mesh& mesh, CollectiveLimits limits = {});
  ~Collectives();
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  // Runs it to the end. Errors before anything is sent are kInvalidArgument and leave the group as it is;
  // after any other error the group has failed, and the mesh has told the other ranks.
  void run(const Call& call);

  // The message with which this operation starts on this rank, its body being `in` as it is; none where the
  // rank listens first or the data are prepared first.
  std::optional<FirstMessage> firstMessage(const Stamp& stamp) const;

  // How the last operation ran, e.g. "recursive doubling"; a static text, null where it did not come to that.
  const char* path() const { return path_; }

 private:
  void check(const Call& call) const;
  void alone(const Call& call);
  [[noreturn]] void giveUp(Error cause);
  void dispatch(const Call& call);
  void allReduce(const Call& call);
  void average(const Call& call);
  void reduceAll(const void* in, void* out, size_t count, size_t elementBytes, ReduceFn reduce,
                 bool firstSent);
  void broadcast(const Call& call);
  void allGather(const Call& call);
  void reduceToOne(const Call& call);
  void averageToRoot(const Call& call);
  void reduceToRoot(const Call& call, const void* in, void* out, size_t count, size_t elementBytes,
                    ReduceFn reduce);
  void reduceScatter(const Call& call);
  void averageScatter(const Call& call);
  void scatterSum(const Call& call, const void* in, void* out, size_t count, size_t elementBytes,
                  ReduceFn reduce);
  void allToAll(const Call& call);
  static void copy(void* to, const void* from, size_t bytes);
  std::byte* scratch(size_t bytes);

  transport::Mesh& mesh_;
  CollectiveLimits limits_;
  RecursiveDoubling small_;
  Direct direct_;
  Ring ring_;
  std::shared_ptr<::gloo::Context> context_;
  const char* path_ = nullptr;
  std::vector<std::byte> scratch_;  // grows to what the small paths need, then stays
};

}  // namespace nc::gloo
