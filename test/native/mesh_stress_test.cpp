// Random traffic between 2 to 5 ranks, every byte checked. NC_SEED repeats one run, NC_STRESS_MS makes it
// longer.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <random>

#include "mesh_support.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

using Random = std::mt19937_64;

constexpr uint64_t kFence = 1'000'000;  // slot of the last message of each pair: everything before has come

struct Message {
  int from;
  int to;
  uint64_t slot;
  size_t bytes;
  unsigned seed;
  bool dropSend;  // the sender gives its buffer up after posting,
  bool dropRecv;  // the receiver does
  bool any;       // received by rank `to` from whomever
};

// One operation, the same on all ranks.
std::vector<Message> planOf(uint64_t seed, uint64_t seq, int size) {
  Random random(seed * 1'000'003 + seq);
  const auto pick = [&](uint64_t n) { return random() % n; };
  std::vector<Message> plan;
  const uint64_t messages = pick(14);
  for (uint64_t i = 0; i < messages; ++i) {
    constexpr std::array<size_t, 5> kSizes{1, 64, 4'000, 40'000, 300'001};
    Message message{};
    message.from = static_cast<int>(pick(static_cast<uint64_t>(size)));
    message.to = static_cast<int>(pick(static_cast<uint64_t>(size)));
    if (message.from == message.to) continue;
    message.slot = i;
    message.bytes = pick(kSizes[pick(kSizes.size())]);
    message.seed = static_cast<unsigned>(random());
    message.dropSend = pick(5) == 0;
    message.dropRecv = pick(5) == 0;
    message.any = pick(4) == 0;
    plan.push_back(message);
  }
  // Sometimes two of a pair share a slot: these come in the order they were sent.
  if (!plan.empty() && pick(3) == 0) {
    Message twin = plan.front();
    twin.seed += 1;
    twin.dropRecv = plan.front().dropRecv = false;
    twin.any = plan.front().any = false;
    plan.insert(plan.begin() + 1, twin);
  }
  return plan;
}

struct Incoming {
  Message message;
  BufferState state;
  std::unique_ptr<std::byte[]> memory;
};

void operation(Mesh& mesh, uint64_t seed, uint64_t seq) {
  const int self = mesh.rank();
  const int size = mesh.size();
  const std::vector<Message> plan = planOf(seed, seq, size);
  Random random(seed ^ (seq * 8191 + static_cast<uint64_t>(self)));
  std::vector<int> all;
  for (int rank = 0; rank < size; ++rank) {
    if (rank != self) all.push_back(rank);
  }

  struct Sent {
    BufferState state;
    Bytes bytes;
  };
  std::vector<std::unique_ptr<Sent>> sent;
  std::vector<std::unique_ptr<Incoming>> incoming;
  const auto releaseAll = [&] {
    for (const auto& out : sent) mesh.release(out->state);
    for (const auto& in : incoming) mesh.release(in->state);
  };
  mesh.begin(stampOf(seq), Deadline::in(Millis{30'000}));
  try {
    // Sends of one slot keep their order; all else is shuffled, receives among sends.
    std::vector<Message> todo;
    for (const Message& message : plan) {
      if (message.from == self || message.to == self) todo.push_back(message);
    }
    if (!todo.empty() && (todo.size() < 2 || todo[0].slot != todo[1].slot)) {
      std::shuffle(todo.begin(), todo.end(), random);
    }
    for (const Message& message : todo) {
      if (message.from == self) {
        auto out = std::make_unique<Sent>();
        out->bytes = pattern(message.bytes, message.seed);
        mesh.send(out->state, message.to, message.slot, out->bytes.data(), out->bytes.size());
        if (message.dropSend) {
          mesh.release(out->state);
        } else {
          sent.push_back(std::move(out));
        }
        continue;
      }
      auto in = std::make_unique<Incoming>();
      in->message = message;
      in->memory = std::make_unique<std::byte[]>(message.bytes);
      const std::array one{message.from};
      mesh.recv(in->state, message.any ? std::span<const int>(all) : std::span<const int>(one), message.slot,
                in->memory.get(), message.bytes);
      if (message.dropRecv && random() % 2 == 0) {
        mesh.release(in->state);
      } else {
        incoming.push_back(std::move(in));
      }
      // Sometimes something is waited for before the rest is posted, so that frames come early.
      if (random() % 3 == 0 && !sent.empty()) {
        mesh.waitSend(sent.back()->state);
        sent.pop_back();
      }
    }
    // Some receives are given up only now, with their frames anywhere on the way.
    for (auto& in : incoming) {
      if (!in->message.dropRecv) continue;
      mesh.release(in->state);
      in.reset();
    }
    std::erase(incoming, nullptr);
    BufferState fences;
    for (const int peer : all) mesh.send(fences, peer, kFence, nullptr, 0);
    std::shuffle(incoming.begin(), incoming.end(), random);
    for (const auto& in : incoming) {
      const int from = mesh.waitRecv(in->state);
      const Bytes got(in->memory.get(), in->memory.get() + in->message.bytes);
      if (from != in->message.from || got != pattern(in->message.bytes, in->message.seed)) {
        throw Error(ErrorCode::kInternal, "operation " + std::to_string(seq) + ", slot " +
                                              std::to_string(in->message.slot) + ": wrong message");
      }
    }
    try {
      for (size_t i = 0; i < all.size(); ++i) mesh.recv(fences, all, kFence, nullptr, 0);
      for (size_t i = 0; i < all.size(); ++i) mesh.waitRecv(fences);
      for (size_t i = 0; i < all.size(); ++i) mesh.waitSend(fences);
    } catch (const Error&) {
      mesh.release(fences);
      throw;
    }
    for (const auto& out : sent) mesh.waitSend(out->state);
  } catch (const Error&) {
    releaseAll();
    throw;
  }
  mesh.end();
}

void run(uint64_t seed, Millis limit) {
  Random random(seed);
  const int size = static_cast<int>(2 + random() % 4);
  MeshLimits limits;
  limits.earlyBytes = random() % 3 == 0 ? 1000 : 500'000;
  limits.earlyFrames = 1 + random() % 20;
  limits.calledAfter = Millis{static_cast<int>(random() % 3)};
  Ranks ranks(size, random() % 2 == 0 ? Wire::kUnix : Wire::kTcp, limits);
  // A fixed number of operations, found by rank 0's clock on the way: rank 0 says in its slot whether to go
  // on, as any group would agree.
  const auto until = Clock::now() + limit;
  const auto errors = ranks.run([&](Mesh& mesh) {
    uint64_t seq = 0;
    for (int32_t more = 1; more != 0;) {
      for (int i = 0; i < 10; ++i) operation(mesh, seed, ++seq);
      mesh.begin(stampOf(++seq), Deadline::in(Millis{30'000}));
      BufferState state;
      if (mesh.rank() == 0) {
        more = Clock::now() < until ? 1 : 0;
        for (int peer = 1; peer < mesh.size(); ++peer) mesh.send(state, peer, 1, &more, 4);
        for (int peer = 1; peer < mesh.size(); ++peer) mesh.waitSend(state);
      } else {
        mesh.recv(state, std::array{0}, 1, &more, 4);
        try {
          mesh.waitRecv(state);
        } catch (const Error&) {
          mesh.release(state);
          throw;
        }
      }
      mesh.end();
    }
    mesh.close(Deadline::in(Millis{10'000}));
    if (mesh.earlyFrames() != 0) throw Error(ErrorCode::kInternal, "early frames are left");
  });
  for (const auto& error : errors) CHECK_MESSAGE(!error, "NC_SEED=" << seed << ": " << error->what());
}

}  // namespace

TEST_CASE("random traffic") {
  const char* const seedText = std::getenv("NC_SEED");
  const char* const limitText = std::getenv("NC_STRESS_MS");
  const Millis limit{limitText != nullptr ? std::atoi(limitText) : 4000};
  const uint64_t first = seedText != nullptr ? std::strtoull(seedText, nullptr, 10) : std::random_device{}();
  const Watchdog watchdog("random traffic", limit + Millis{60'000});
  const auto until = Clock::now() + limit;
  uint64_t seed = first;
  do run(seed++, limit / 16);
  while (seedText == nullptr && Clock::now() < until);
  MESSAGE("seeds " << first << " to " << seed - 1);
}
