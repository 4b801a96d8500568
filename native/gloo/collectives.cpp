#include "gloo/collectives.h"

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/broadcast.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "core/error.h"
#include "gloo/transport_adapter.h"

namespace nc::gloo {
namespace {

// Pieces in which the ring passes its share on, two of them in flight.
constexpr size_t kSegmentBytes = size_t{1} << 20;

// Gloo takes the size of an element from a type.
template <size_t kBytes>
struct Element {
  std::byte bytes[kBytes];
};

template <typename Body>
void withElement(size_t bytes, Body body) {
  switch (bytes) {
    case 1:
      return body(Element<1>{});
    case 2:
      return body(Element<2>{});
    case 4:
      return body(Element<4>{});
    case 8:
      return body(Element<8>{});
    case 16:
      return body(Element<16>{});
    default:
      throw Error(ErrorCode::kInternal, "element size " + std::to_string(bytes));
  }
}

Error invalid(const std::string& message, const Stamp& stamp) {
  ErrorFacts facts;
  facts.op = name(stamp.kind);
  return Error(ErrorCode::kInvalidArgument, message, std::move(facts));
}

}  // namespace

Collectives::Collectives(transport::Mesh& mesh, CollectiveLimits limits)
    : mesh_(mesh),
      limits_(limits),
      small_(mesh),
      direct_(mesh),
      ring_(mesh, limits.ringPiece),
      context_(makeContext(mesh)) {}

Collectives::~Collectives() = default;

void Collectives::run(const Call& call) {
  path_ = nullptr;
  check(call);
  if (mesh_.size() == 1) return alone(call);
  path_ = "gloo";  // until it is known better
  try {
    mesh_.begin(call.stamp, call.deadline);
    dispatch(call);
    mesh_.end();
  } catch (const Error& error) {
    if (!mesh_.failed()) mesh_.fail(error);
    throw;
  } catch (const std::bad_alloc&) {
    giveUp(Error(ErrorCode::kResource, std::string("no memory for ") + name(call.stamp.kind)));
  } catch (const std::exception& unexpected) {  // Gloo's own assertions
    giveUp(Error(ErrorCode::kInternal, std::string("Gloo: ") + unexpected.what()));
  }
}

void Collectives::giveUp(Error cause) {
  if (!mesh_.failed()) mesh_.fail(cause);
  throw Error(std::move(cause));
}

void Collectives::check(const Call& call) const {
  const Stamp& stamp = call.stamp;
  // No frame can carry another one.
  if (stamp.dtype < DType::kInt8 || stamp.dtype > kLastDType) throw invalid("unknown data type", stamp);
  if (stamp.kind == OpKind::kBarrier) return;
  const size_t element = elementSize(stamp.dtype);
  const uint64_t most = transport::kMaxDataBytes / element / static_cast<uint64_t>(mesh_.size());
  if (stamp.count > most) throw invalid("more data than a frame can carry", stamp);
  const bool rooted = stamp.kind == OpKind::kBroadcast || stamp.kind == OpKind::kReduce;
  if (rooted && (stamp.root < 0 || stamp.root >= mesh_.size())) {
    throw invalid("no rank " + std::to_string(stamp.root), stamp);
  }
  const bool reads = stamp.kind != OpKind::kBroadcast || stamp.root == mesh_.rank();
  const bool writes = stamp.kind != OpKind::kReduce || stamp.root == mesh_.rank();
  if (stamp.count > 0 && writes && call.out == nullptr) throw invalid("no output memory", stamp);
  if (stamp.count > 0 && reads && call.in == nullptr) throw invalid("no input memory", stamp);
  const bool sums = stamp.kind == OpKind::kAllReduce || stamp.kind == OpKind::kReduce ||
                    stamp.kind == OpKind::kReduceScatter;
  if (!sums) return;
  // These throw for what is not defined.
  if (stamp.reduceOp == ReduceOp::kAvg) {
    widening(stamp.dtype);
  } else {
    reduceFunction(stamp.dtype, stamp.reduceOp);
  }
}

void Collectives::alone(const Call& call) {
  path_ = "alone";
  if (call.stamp.kind == OpKind::kBarrier) return;
  copy(call.out, call.in, call.stamp.count * elementSize(call.stamp.dtype));
}

void Collectives::dispatch(const Call& call) {
  // With nothing to move, the ranks still meet and compare their calls.
  if (call.stamp.kind == OpKind::kBarrier || call.stamp.count == 0) {
    path_ = "dissemination";
    return small_.barrier(call.firstSent);
  }
  switch (call.stamp.kind) {
    case OpKind::kAllReduce:
      return call.stamp.reduceOp == ReduceOp::kAvg ? average(call) : allReduce(call);
    case OpKind::kBroadcast:
      return broadcast(call);
    case OpKind::kAllGather:
      return allGather(call);
    case OpKind::kReduce:
      return call.stamp.reduceOp == ReduceOp::kAvg ? averageToRoot(call) : reduceToOne(call);
    case OpKind::kReduceScatter:
      return call.stamp.reduceOp == ReduceOp::kAvg ? averageScatter(call) : reduceScatter(call);
    case OpKind::kAllToAll:
      return allToAll(call);
    case OpKind::kBarrier:
      return;
    default:
      throw Error(ErrorCode::kInternal, std::string(name(call.stamp.kind)) + " is not known here");
  }
}

std::optional<FirstMessage> Collectives::firstMessage(const Stamp& stamp) const {
  if (stamp.kind == OpKind::kBarrier || stamp.count == 0) return small_.firstOfBarrier();
  const size_t block = stamp.count * elementSize(stamp.dtype);
  const size_t all = block * static_cast<size_t>(mesh_.size());
  if (stamp.kind == OpKind::kAllToAll) {
    return all <= limits_.smallExchange ? direct_.first(block) : std::nullopt;
  }
  if (stamp.reduceOp == ReduceOp::kAvg && !widening(stamp.dtype).same) return std::nullopt;
  const auto whole = [](std::optional<FirstMessage> first, size_t bytes) {
    if (first) first->bytes = bytes;
    return first;
  };
  switch (stamp.kind) {
    case OpKind::kAllReduce:
      return block <= limits_.smallReduce ? whole(small_.firstOfAllReduce(), block) : std::nullopt;
    case OpKind::kReduce:
      return block <= limits_.smallReduce ? whole(small_.firstOfReduce(stamp.root), block) : std::nullopt;
    case OpKind::kReduceScatter:
      if (all <= limits_.tinyScatter) return whole(small_.firstOfAllReduce(), all);
      return all <= limits_.smallScatter ? direct_.first(block) : std::nullopt;
    default:
      return std::nullopt;
  }
}

// From `in` to `out`, which may be the same.
void Collectives::reduceAll(const void* in, void* out, size_t count, size_t elementBytes, ReduceFn reduce,
                            bool firstSent) {
  const size_t bytes = count * elementBytes;
  if (bytes <= limits_.smallReduce) {
    path_ = "recursive doubling";
    copy(out, in, bytes);
    return small_.allReduce(out, scratch(bytes), count, elementBytes, reduce, firstSent);
  }
  path_ = "gloo ring";
  withElement(elementBytes, [&]<typename T>(T) {
    ::gloo::AllreduceOptions options(context_);
    if (in != out) options.setInput(static_cast<T*>(const_cast<void*>(in)), count);
    options.setOutput(static_cast<T*>(out), count);
    options.setAlgorithm(::gloo::AllreduceOptions::Algorithm::RING);
    options.setReduceFunction(reduce);
    options.setMaxSegmentSize(kSegmentBytes);
    options.setTimeout(::gloo::transport::kUnsetTimeout);
    ::gloo::allreduce(options);
  });
}

void Collectives::allReduce(const Call& call) {
  const Stamp& stamp = call.stamp;
  reduceAll(call.in, call.out, stamp.count, elementSize(stamp.dtype),
            reduceFunction(stamp.dtype, stamp.reduceOp), call.firstSent);
}

void Collectives::average(const Call& call) {
  const Widening wide = widening(call.stamp.dtype);
  const size_t element = elementSize(call.stamp.dtype);
  const size_t count = call.stamp.count;
  if (wide.same) {
    reduceAll(call.in, call.out, count, element, wide.reduce, call.firstSent);
    return wide.narrow(call.out, call.out, count, mesh_.size());
  }
  // One scratch for both the accumulators and, behind them, what the small path receives.
  const size_t block = std::min(count, kAverageBytes / wide.bytes);
  const size_t bytes = block * wide.bytes;
  const bool small = bytes <= limits_.smallReduce;
  std::vector<std::byte> large(small ? 0 : bytes);
  std::byte* const sums = small ? scratch(2 * bytes) : large.data();
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  for (size_t at = 0; at < count; at += block) {
    const size_t n = std::min(block, count - at);
    wide.widen(sums, in + at * element, n);
    if (small) {
      path_ = "recursive doubling";
      small_.allReduce(sums, sums + bytes, n, wide.bytes, wide.reduce);
    } else {
      reduceAll(sums, sums, n, wide.bytes, wide.reduce, false);
    }
    wide.narrow(out + at * element, sums, n, mesh_.size());
  }
}

void Collectives::broadcast(const Call& call) {
  path_ = "gloo tree";
  const size_t bytes = call.stamp.count * elementSize(call.stamp.dtype);
  ::gloo::BroadcastOptions options(context_);
  if (call.stamp.root == mesh_.rank() && call.in != call.out) {
    options.setInput(static_cast<std::byte*>(const_cast<void*>(call.in)), bytes);
  }
  options.setOutput(static_cast<std::byte*>(call.out), bytes);
  options.setRoot(call.stamp.root);
  options.setTimeout(::gloo::transport::kUnsetTimeout);
  ::gloo::broadcast(options);
}

void Collectives::allGather(const Call& call) {
  const size_t bytes = call.stamp.count * elementSize(call.stamp.dtype);
  const size_t total = bytes * static_cast<size_t>(mesh_.size());
  copy(static_cast<std::byte*>(call.out) + static_cast<size_t>(mesh_.rank()) * bytes, call.in, bytes);
  if (total <= limits_.smallGather) {
    path_ = "direct";
    return small_.allGather(call.out, bytes);
  }
  path_ = "gloo ring";
  ::gloo::AllgatherOptions options(context_);
  options.setOutput(static_cast<std::byte*>(call.out), total);
  options.setTimeout(::gloo::transport::kUnsetTimeout);
  ::gloo::allgather(options);
}

void Collectives::copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

std::byte* Collectives::scratch(size_t bytes) {
  if (scratch_.size() < bytes) scratch_.resize(bytes);
  return scratch_.data();
}

}  // namespace nc::gloo
