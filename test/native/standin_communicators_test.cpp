// The stand-in for NCCL as a partner that can be lost, mistaken and misused.
#include <dirent.h>

#include <set>

#include "standin_ranks.h"

using namespace standin_test;

namespace {

const Env kReport{{"NC_STANDIN_REPORT", "1"}};

// The state settles on something, or stays in progress for as long as this waits.
int stateAfter(const Rank& rank, std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (rank.state() == codes::kInProgress && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return rank.state();
}

// Says that an operation hangs, then waits for the test to end this process or the operation to end.
void hangOn(const Rank& rank, void* stream) {
  while (rank.cuStreamQuery(stream) == 600) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

std::multiset<std::string> filesIn(const char* folder) {
  std::multiset<std::string> names;
  DIR* const dir = ::opendir(folder);
  while (const dirent* entry = ::readdir(dir)) names.insert(entry->d_name);
  ::closedir(dir);
  return names;
}

// One rank alone, for what needs no partner.
void alone(const std::function<void(Rank&)>& body) {
  const Shared shared;
  Rank rank(shared.board, 0, 1);
  body(rank);
}

}  // namespace

TEST_CASE("init waits for the last rank, and an abort ends the wait") {
  const Shared shared;
  checkChild([&] {
    const OnDevice gpu;
    const Nccl nccl;
    REQUIRE_CHILD(nccl.ncclGetUniqueId(&shared.board->id) == 0);
    Config config;
    void* comm = nullptr;
    REQUIRE_CHILD(nccl.ncclCommInitRankConfig(&comm, 2, shared.board->id, 0, &config) == codes::kInProgress);
    for (int i = 0; i < 50; ++i) {
      int state = -1;
      REQUIRE_CHILD(nccl.ncclCommGetAsyncError(comm, &state) == 0);
      REQUIRE_CHILD(state == codes::kInProgress);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    int size = 0;
    REQUIRE_CHILD(nccl.ncclCommCount(comm, &size) == codes::kInvalidArgument);
    REQUIRE_CHILD(nccl.ncclCommAbort(comm) == 0);
    // Whoever comes now waits as well: one has gone.
    REQUIRE_CHILD(nccl.ncclCommInitRankConfig(&comm, 2, shared.board->id, 1, &config) == codes::kInProgress);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    int state = -1;
    REQUIRE_CHILD(nccl.ncclCommGetAsyncError(comm, &state) == 0);
    REQUIRE_CHILD(state == codes::kInProgress);
    REQUIRE_CHILD(nccl.ncclCommAbort(comm) == 0);
  });
}

TEST_CASE("ranks as threads of one process, several communicators at once, inits in a group") {
  checkChild(
      [] {
        const OnDevice second(1);
        const OnDevice first(0);
        const Nccl nccl;
        NcUniqueId ids[2];
        for (NcUniqueId& id : ids) REQUIRE_CHILD(nccl.ncclGetUniqueId(&id) == 0);
        void* comms[2][2];
        for (int group = 0; group < 2; ++group) {
          REQUIRE_CHILD(nccl.ncclGroupStart() == 0);
          for (int rank = 0; rank < 2; ++rank) {
            REQUIRE_CHILD(first.cuCtxSetCurrent(rank == 0 ? first.context : second.context) == 0);
            REQUIRE_CHILD(nccl.ncclCommInitRank(&comms[group][rank], 2, ids[group], rank) == 0);
          }
          REQUIRE_CHILD(nccl.ncclGroupEnd() == 0);
        }
        for (auto& pair : comms) {
          std::vector<std::thread> ends;
          for (void* comm : pair)
            ends.emplace_back([&nccl, comm] { REQUIRE_CHILD(nccl.ncclCommDestroy(comm) == 0); });
          for (std::thread& each : ends) each.join();
        }
      },
      {{"NC_STANDIN_STRICT_EXIT", "1"}});
}

TEST_CASE("two ranks on one device, and mixed versions, are refused by every rank") {
  const Shared shared;
  const auto comesTo = [&](const char* words, const std::function<int(int)>& device,
                           const std::function<const char*(int)>& file) {
    const Shared meeting;
    const auto outputs = checkRanks(2, [&](int number) {
      const OnDevice gpu(device(number));
      const Nccl nccl(file(number));
      if (number == 0) {
        REQUIRE_CHILD(nccl.ncclGetUniqueId(&meeting.board->id) == 0);
        meeting.board->ready.store(1);
      }
      while (meeting.board->ready.load() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      void* comm = nullptr;
      REQUIRE_CHILD(nccl.ncclCommInitRank(&comm, 2, meeting.board->id, number) == codes::kInvalidUsage);
      REQUIRE_CHILD(comm == nullptr);
      std::fprintf(stderr, "%s\n", nccl.ncclGetLastError(nullptr));
    });
    for (const std::string& said : outputs) CHECK(contains(said, words));
  };
  comesTo(
      "Duplicate GPU", [](int) { return 0; }, [](int) { return "libnccl.so.2"; });
  comesTo(
      "Mismatched NCCL version", [](int number) { return number; },
      [](int number) { return number == 0 ? "libnccl.so.2" : "libnccl-2.29.so.2"; });
}

TEST_CASE("calls that do not match hang, and say so when asked") {
  struct Case {
    const char* words;
    std::function<int(const Rank&, unsigned long long)> first;
    std::function<int(const Rank&, unsigned long long)> second;
  };
  const auto allReduce = [](size_t count, int type, int op) {
    return [=](const Rank& rank, unsigned long long data) {
      return rank.ncclAllReduce(pointer(data), pointer(data), count, type, op, rank.comm, rank.queue);
    };
  };
  const auto broadcast = [](int root) {
    return [=](const Rank& rank, unsigned long long data) {
      return rank.ncclBroadcast(pointer(data), pointer(data), 8, codes::kInt32, root, rank.comm, rank.queue);
    };
  };
  const Case cases[] = {
      {"allReduce of 8", allReduce(8, codes::kInt32, codes::kSum), allReduce(9, codes::kInt32, codes::kSum)},
      {"float32", allReduce(8, codes::kInt32, codes::kSum), allReduce(8, codes::kFloat32, codes::kSum)},
      {"max", allReduce(8, codes::kInt32, codes::kSum), allReduce(8, codes::kInt32, codes::kMax)},
      {"broadcast", allReduce(8, codes::kInt32, codes::kSum), broadcast(0)},
      {"root 1",
       [](const Rank& rank, unsigned long long data) {
         return rank.ncclReduce(pointer(data), pointer(data), 8, codes::kInt32, codes::kSum, 0, rank.comm,
                                rank.queue);
       },
       [](const Rank& rank, unsigned long long data) {
         return rank.ncclReduce(pointer(data), pointer(data), 8, codes::kInt32, codes::kSum, 1, rank.comm,
                                rank.queue);
       }},
  };
  for (const Case& each : cases) {
    const Shared shared;
    std::vector<Child> ranks;
    for (int number = 0; number < 2; ++number) {
      ranks.emplace_back(kReport, [&, number] {
        const Rank rank(shared.board, number, 2);
        const auto data = rank.put(std::vector<int32_t>(64));
        rank.issued((number == 0 ? each.first : each.second)(rank, data));
        hangOn(rank, rank.queue);
        // One side may be through, as a broadcast's root; its next operation is not.
        rank.issued((number == 0 ? each.first : each.second)(rank, data));
        hangOn(rank, rank.queue);
      });
    }
    CAPTURE(each.words);
    // Which rank sees it first is chance; one of them does, and names both calls.
    bool seen = false;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!seen && std::chrono::steady_clock::now() < until) {
      for (Child& rank : ranks)
        seen = seen || (rank.saysWithin("calls do not match", 50) && contains(rank.said, each.words));
    }
    for (Child& rank : ranks) CAPTURE(rank.said);
    CHECK(seen);
  }
}

TEST_CASE("a send waits for its receive, even where it would fit into a buffer") {
  const Shared shared;
  checkRanks(2, [&](int number) {
    Rank rank(shared.board, number, 2);
    const auto data = rank.put(std::vector<int32_t>{number});
    if (number == 0) {
      rank.issued(rank.ncclSend(pointer(data), 1, codes::kInt32, 1, rank.comm, rank.queue));
      for (int i = 0; i < 30; ++i) {
        REQUIRE_CHILD(rank.cuStreamQuery(rank.queue) == 600);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      shared.board->ready.store(2);
      rank.await(rank.queue);
    } else {
      while (shared.board->ready.load() != 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      rank.done(rank.ncclRecv(pointer(data), 1, codes::kInt32, 0, rank.comm, rank.queue));
      REQUIRE_CHILD(rank.get<int32_t>(data, 1)[0] == 0);
    }
    rank.end();
  });
}

TEST_CASE(
    "a killed rank leaves the others hanging, or an error where that is asked for; an abort frees them") {
  for (const char* loss : {"hang", "error"}) {
    const Shared shared;
    std::vector<Child> ranks;
    for (int number = 0; number < 2; ++number) {
      ranks.emplace_back(Env{{"NC_STANDIN_PEER_LOSS", loss}}, [&, number] {
        const Rank rank(shared.board, number, 2);
        const auto data = rank.put(std::vector<int32_t>(1000));
        std::fprintf(stderr, "stands\n");
        if (number == 1) {
          for (;;) ::pause();
        }
        // No settling: the state may already be what the loss makes of it.
        const int begun = rank.ncclAllReduce(pointer(data), pointer(data), 1000, codes::kInt32, codes::kSum,
                                             rank.comm, rank.queue);
        REQUIRE_CHILD((begun == 0 || begun == codes::kInProgress));
        while (shared.board->ready.load() != 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (std::string(loss) == "error") {
          while (rank.state() == 0 || rank.state() == codes::kInProgress)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          REQUIRE_CHILD(rank.state() == codes::kRemoteError);
          REQUIRE_CHILD(contains(rank.ncclGetLastError(rank.comm), "rank 1 is gone"));
          REQUIRE_CHILD(rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum,
                                           rank.comm, rank.queue) == codes::kRemoteError);
        } else {
          REQUIRE_CHILD(stateAfter(rank, std::chrono::milliseconds(100)) == 0);
        }
        REQUIRE_CHILD(rank.cuStreamQuery(rank.queue) == 600);
        REQUIRE_CHILD(rank.ncclCommAbort(rank.comm) == 0);
        rank.await(rank.queue);
      });
    }
    for (Child& rank : ranks) CHECK(rank.says("stands"));
    ranks[1].kill();
    CHECK(ranks[1].wait() == kKilled);
    shared.board->ready.store(2);
    const int ended = ranks[0].wait();
    CAPTURE(loss);
    CAPTURE(ranks[0].said);
    CHECK(ended == 0);
  }
}

TEST_CASE("nothing is left in /tmp or /dev/shm, whatever end the ranks come to") {
  const auto before = std::pair(filesIn("/tmp"), filesIn("/dev/shm"));
  const Shared shared;
  std::vector<Child> ranks;
  for (int number = 0; number < 2; ++number) {
    ranks.emplace_back(Env{}, [&, number] {
      const Rank rank(shared.board, number, 2);
      // Nothing of ours has a name while it runs, either.
      std::fprintf(stderr, "stands\n");
      for (;;) ::pause();
    });
  }
  for (Child& rank : ranks) CHECK(rank.says("stands"));
  const auto ours = [](const std::multiset<std::string>& names) {
    std::multiset<std::string> found;
    for (const std::string& name : names)
      if (contains(name, "standin") || contains(name, "stand-in")) found.insert(name);
    return found;
  };
  CHECK(ours(filesIn("/tmp")) == ours(before.first));
  CHECK(ours(filesIn("/dev/shm")) == ours(before.second));
  for (Child& rank : ranks) {
    rank.kill();
    CHECK(rank.wait() == kKilled);
  }
  CHECK(ours(filesIn("/tmp")) == ours(before.first));
}

TEST_CASE("arguments that are never right") {
  const auto breaks = [](const char* words, const std::function<void(Rank&)>& body) {
    checkViolation(words, [&] { alone(body); });
  };
  breaks("null communicator", [](Rank& rank) { rank.ncclCommFinalize(nullptr); });
  breaks("is no communicator", [](Rank& rank) { rank.ncclCommFinalize(rank.queue); });
  breaks("not device memory", [](Rank& rank) {
    int host = 0;
    rank.ncclAllReduce(&host, &host, 1, codes::kInt32, codes::kSum, rank.comm, rank.queue);
  });
  breaks("16 bytes from", [](Rank& rank) {
    void* const small = pointer(rank.memory(12));
    rank.ncclAllReduce(small, small, 4, codes::kInt32, codes::kSum, rank.comm, rank.queue);
  });
  breaks("overlap, and not in place", [](Rank& rank) {
    const auto data = rank.memory(64);
    rank.ncclAllReduce(pointer(data), pointer(data + 4), 8, codes::kInt32, codes::kSum, rank.comm,
                       rank.queue);
  });
  breaks("root or peer 1 of 1", [](Rank& rank) {
    rank.ncclSend(pointer(rank.memory(4)), 1, codes::kInt32, 1, rank.comm, rank.queue);
  });
  breaks("the stream is of device 1", [](Rank& rank) {
    const OnDevice other(1);
    void* const stream = other.stream();
    const OnDevice back(0);
    void* const data = pointer(back.memory(4));
    rank.ncclAllReduce(data, data, 1, codes::kInt32, codes::kSum, rank.comm, stream);
  });
  breaks("on device 0, but memory is", [](Rank& rank) {
    const OnDevice other(1);
    void* const data = pointer(other.memory(4));
    rank.ncclAllReduce(data, data, 1, codes::kInt32, codes::kSum, rank.comm, rank.queue);
  });
  breaks("after its destroy or abort", [](Rank& rank) {
    rank.ncclCommAbort(rank.comm);
    int state = 0;
    rank.ncclCommGetAsyncError(rank.comm, &state);
  });
  breaks("after ncclCommFinalize", [](Rank& rank) {
    rank.ncclCommFinalize(rank.comm);
    rank.settle();
    void* const data = pointer(rank.memory(4));
    rank.ncclAllReduce(data, data, 1, codes::kInt32, codes::kSum, rank.comm, rank.queue);
  });
  breaks("without ncclGroupStart()", [](Rank& rank) { rank.ncclGroupEnd(); });
  breaks("a thread ended between", [](Rank& rank) { std::thread([&] { rank.ncclGroupStart(); }).join(); });
  checkViolation("is not from ncclGetUniqueId", [] {
    const OnDevice gpu;
    void* comm = nullptr;
    Nccl().ncclCommInitRank(&comm, 1, NcUniqueId{}, 0);
  });
  checkViolation("do not belong together", [] {
    const OnDevice gpu;
    const Nccl nccl;
    NcUniqueId id;
    nccl.ncclGetUniqueId(&id);
    Config config;
    config.version = 22203;  // whose structure has more than 24 bytes
    void* comm = nullptr;
    nccl.ncclCommInitRankConfig(&comm, 1, id, 0, &config);
  });
}

TEST_CASE("two threads in calls on one communicator") {
  const Shared shared;
  // The first call blocks for the partner that never comes.
  checkViolation("another thread is in a call on the communicator", [&] {
    const Rank rank(shared.board, 0, 1, true);
    const auto data = rank.memory(4);
    REQUIRE_CHILD(
        rank.cuLaunchHostFunc(
            rank.queue, [](void*) { std::this_thread::sleep_for(std::chrono::hours(1)); }, nullptr) == 0);
    REQUIRE_CHILD(rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum, rank.comm,
                                     rank.queue) == 0);
    std::thread first([&] { rank.ncclCommDestroy(rank.comm); });  // waits for the operation
    for (;;) {
      rank.ncclAllReduce(pointer(data), pointer(data), 1, codes::kInt32, codes::kSum, rank.comm, rank.queue);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
}

TEST_CASE("what NCCL refuses is an error, not a violation") {
  checkChild([] {
    alone([](Rank& rank) {
      void* const data = pointer(rank.memory(64));
      // 2.22 has no float8.
      REQUIRE_CHILD(rank.ncclAllReduce(data, data, 1, codes::kFloat8E4M3, codes::kSum, rank.comm,
                                       rank.queue) == codes::kInvalidArgument);
      REQUIRE_CHILD(rank.ncclAllReduce(data, data, 1, codes::kInt32, 5, rank.comm, rank.queue) ==
                    codes::kInvalidArgument);
      // A send to oneself without a receive in the same group.
      REQUIRE_CHILD(rank.ncclSend(data, 1, codes::kInt32, 0, rank.comm, rank.queue) == codes::kInvalidUsage);
      // The first error of a group is the group's, and nothing of it is done.
      REQUIRE_CHILD(rank.ncclGroupStart() == 0);
      REQUIRE_CHILD(rank.ncclAllReduce(data, data, 1, 99, codes::kSum, rank.comm, rank.queue) ==
                    codes::kInvalidArgument);
      REQUIRE_CHILD(rank.ncclGroupEnd() == codes::kInvalidArgument);
      REQUIRE_CHILD(
          rank.ncclAllReduce(nullptr, nullptr, 0, codes::kInt32, codes::kSum, rank.comm, rank.queue) == 0);
      void* comm = nullptr;
      NcUniqueId id;
      REQUIRE_CHILD(rank.ncclGetUniqueId(&id) == 0);
      REQUIRE_CHILD(rank.ncclCommInitRank(&comm, 2, id, 2) == codes::kInvalidArgument);
      Config config;
      config.magic = 1;
      REQUIRE_CHILD(rank.ncclCommInitRankConfig(&comm, 1, id, 0, &config) == codes::kInvalidArgument);
      rank.end();
    });
  });
}
