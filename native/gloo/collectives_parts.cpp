// Operations whose result is not the same on all ranks: a sum on one of them, a part of it on each, and
// blocks that change places.
#include <algorithm>
#include <memory>

#include "gloo/collectives.h"

namespace nc::gloo {

// ----------------------------------------------------------------------------------------- a sum on one rank

// `out` is the result on the root. On the others it may be null, or memory that may be overwritten.
void Collectives::reduceToRoot(const Call& call, const void* in, void* out, size_t count, size_t elementBytes,
                               ReduceFn reduce) {
  const size_t bytes = count * elementBytes;
  const int root = call.stamp.root;
  if (bytes <= limits_.smallReduce) {
    path_ = "binomial tree";
    std::byte* const room = scratch(2 * bytes);
    return small_.reduceTo(in, out != nullptr ? out : room, room + bytes, count, elementBytes, reduce, root,
                           call.firstSent);
  }
  path_ = "ring";
  const auto size = static_cast<size_t>(mesh_.size());
  const Shares shares{count, (count + size - 1) / size, elementBytes};
  const bool needsRoom = mesh_.rank() != root && out == nullptr;
  const auto share = std::make_unique_for_overwrite<std::byte[]>(needsRoom ? shares.share * elementBytes : 0);
  auto* own = share.get();
  if (!needsRoom) own = static_cast<std::byte*>(out) + shares.begin(mesh_.rank()) * elementBytes;
  path_ = "ring";
  ring_.reduceTo(in, out, own, shares, reduce, root);
}

void Collectives::reduceToOne(const Call& call) {
  const Stamp& stamp = call.stamp;
  void* const out = stamp.root == mesh_.rank() ? call.out : nullptr;
  reduceToRoot(call, call.in, out, stamp.count, elementSize(stamp.dtype),
               reduceFunction(stamp.dtype, stamp.reduceOp));
}

void Collectives::averageToRoot(const Call& call) {
  const Widening wide = widening(call.stamp.dtype);
  const size_t element = elementSize(call.stamp.dtype);
  const size_t count = call.stamp.count;
  const bool root = call.stamp.root == mesh_.rank();
  if (wide.same) {
    reduceToRoot(call, call.in, root ? call.out : nullptr, count, element, wide.reduce);
    if (root) wide.narrow(call.out, call.out, count, mesh_.size());
    return;
  }
  const size_t block = std::min(count, kAverageBytes / wide.bytes);
  const auto sums = std::make_unique_for_overwrite<std::byte[]>(block * wide.bytes);
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  for (size_t at = 0; at < count; at += block) {
    const size_t n = std::min(block, count - at);
    wide.widen(sums.get(), in + at * element, n);
    reduceToRoot(call, sums.get(), sums.get(), n, wide.bytes, wide.reduce);
    if (root) wide.narrow(out + at * element, sums.get(), n, mesh_.size());
  }
}

// ------------------------------------------------------------------------------------ a part of it on each

// `in` holds a block of `count` for each rank; this rank's block of the sum goes to `out`.
void Collectives::scatterSum(const Call& call, const void* in, void* out, size_t count, size_t elementBytes,
                             ReduceFn reduce) {
  const auto size = static_cast<size_t>(mesh_.size());
  const size_t block = count * elementBytes;
  const size_t all = block * size;
  if (all <= limits_.tinyScatter) {
    path_ = "recursive doubling";
    std::byte* const sums = scratch(2 * all);
    copy(sums, in, all);
    small_.allReduce(sums, sums + all, count * size, elementBytes, reduce, call.firstSent);
    return copy(out, sums + static_cast<size_t>(mesh_.rank()) * block, block);
  }
  if (all <= limits_.smallScatter) {
    path_ = "direct";
    return direct_.reduceScatter(in, out, scratch(all), count, elementBytes, reduce, call.firstSent);
  }
  path_ = "ring";
  ring_.reduceScatter(in, out, {count * size, count, elementBytes}, reduce);
}

void Collectives::reduceScatter(const Call& call) {
  const Stamp& stamp = call.stamp;
  scatterSum(call, call.in, call.out, stamp.count, elementSize(stamp.dtype),
             reduceFunction(stamp.dtype, stamp.reduceOp));
}

void Collectives::averageScatter(const Call& call) {
  const Widening wide = widening(call.stamp.dtype);
  const size_t element = elementSize(call.stamp.dtype);
  const size_t count = call.stamp.count;
  if (wide.same) {
    scatterSum(call, call.in, call.out, count, element, wide.reduce);
    return wide.narrow(call.out, call.out, count, mesh_.size());
  }
  const auto size = static_cast<size_t>(mesh_.size());
  // The same columns of all blocks at a time.
  const size_t columns = std::clamp<size_t>(kAverageBytes / wide.bytes / size, 1, count);
  const auto sums = std::make_unique_for_overwrite<std::byte[]>(columns * size * wide.bytes);
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  for (size_t at = 0; at < count; at += columns) {
    const size_t n = std::min(columns, count - at);
    for (size_t rank = 0; rank < size; ++rank) {
      wide.widen(sums.get() + rank * n * wide.bytes, in + (rank * count + at) * element, n);
    }
    std::byte* const own = sums.get() + static_cast<size_t>(mesh_.rank()) * n * wide.bytes;
    scatterSum(call, sums.get(), own, n, wide.bytes, wide.reduce);
    wide.narrow(out + at * element, own, n, mesh_.size());
  }
}

// ------------------------------------------------------------------------------- blocks that change places

void Collectives::allToAll(const Call& call) {
  const size_t bytes = call.stamp.count * elementSize(call.stamp.dtype);
  const size_t all = bytes * static_cast<size_t>(mesh_.size());
  const void* in = call.in;
  // In place: what is received must not overwrite what is still to be sent.
  std::unique_ptr<std::byte[]> kept;
  if (in == call.out) {
    kept = std::make_unique_for_overwrite<std::byte[]>(all);
    copy(kept.get(), in, all);
    in = kept.get();
  }
  path_ = all <= limits_.smallExchange ? "direct" : "pairwise";
  if (all <= limits_.smallExchange) return direct_.allToAll(in, call.out, bytes, call.firstSent);
  direct_.allToAllPairwise(in, call.out, bytes);
}

}  // namespace nc::gloo
