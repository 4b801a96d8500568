// Whole GPU groups over the stand-ins, all ranks in one process, one thread each: for the sanitizers, which
// see every thread that a group has.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "group/group.h"
#include "nccl/copy.h"
#include "nccl/device_thread.h"
#include "nccl/libraries.h"
#include "standin_support.h"

using namespace standin_test;
using namespace nc;

namespace {

constexpr size_t kCount = 1000;

std::string path(const char* file) {
  return std::string(NC_STANDIN_DIR) + "/" + file;
}

Env standins(bool rocm, const std::string& faults = {}) {
  Env env{{rocm ? "NODE_COLLECTIVES_HIP_PATH" : "NODE_COLLECTIVES_CUDA_PATH",
           path(rocm ? "libamdhip64.so.6" : "libcuda.so.1")},
          {"NODE_COLLECTIVES_NCCL_PATH", path(rocm ? "librccl.so.1" : "libnccl.so.2")},
          {"NC_STANDIN_STRICT_EXIT", "1"}};
  if (!faults.empty()) env.emplace("NC_STANDIN_FAULTS", faults);
  return env;
}

// What one waiting thread is told.
class Signal {
 public:
  void set(const Error* error = nullptr) {
    const std::lock_guard lock(mutex_);
    if (error != nullptr) error_ = *error;
    set_ = true;
    changed_.notify_all();
  }
  // The error that came with it, if one did.
  std::optional<Error> wait() {
    std::unique_lock lock(mutex_);
    REQUIRE_CHILD(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return set_; }));
    return error_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
  std::optional<Error> error_;
};

class Operation final : public group::Task {
 public:
  explicit Operation(std::shared_ptr<Signal> ended) : ended_(std::move(ended)) {}
  void finish(std::unique_ptr<group::Task>, const Error* error) noexcept override {
    const std::shared_ptr<Signal> ended = ended_;
    ended->set(error);
  }

 private:
  std::shared_ptr<Signal> ended_;
};

class CopyWork final : public nccl::DeviceWork {
 public:
  CopyWork(nccl::Copy copy, Signal& ended) : copy_(std::move(copy)), ended_(ended) {}
  bool step(nccl::DeviceThread& on) override { return copy_.step(on); }
  void stopped(nccl::DeviceThread& on) noexcept override { copy_.end(on); }
  const void* key() const override { return copy_.key(); }
  void ended(std::unique_ptr<nccl::DeviceWork>, const Error* error) noexcept override { ended_.set(error); }

 private:
  nccl::Copy copy_;
  Signal& ended_;
};

struct Rank {
  Signal formed;
  Signal failed;
  Signal ended;
  std::shared_ptr<nccl::DeviceRuntime> runtime;
  std::shared_ptr<nccl::DeviceMemory> memory;
  std::unique_ptr<group::Group> group;

  std::shared_ptr<Signal> submit(OpKind kind, bool staged, std::vector<int32_t>* values,
                                 Millis limit = Millis{20'000}) {
    auto signal = std::make_shared<Signal>();
    auto task = std::make_unique<Operation>(signal);
    task->stamp.kind = kind;
    task->stamp.dtype = DType::kInt32;
    task->stamp.reduceOp = kind == OpKind::kAllReduce ? ReduceOp::kSum : ReduceOp::kNone;
    task->stamp.root = kind == OpKind::kBroadcast ? 0 : -1;
    task->stamp.count = kCount;
    task->deadline = Deadline::in(limit);
    if (values != nullptr) {
      task->in = values->data();
      task->out = values->data();
    }
    if (values == nullptr || staged) {
      task->stamp.device = true;
      task->device.emplace();
      task->device->staged = staged;
      task->device->in = memory->address();
      task->device->out = memory->address();
      if (!staged) task->device->keep = memory;
    }
    group->submit(std::move(task));
    return signal;
  }
};

class Groups {
 public:
  explicit Groups(int size) {
    static std::atomic<int> number{0};
    const std::string name = "g" + std::to_string(++number);
    const auto thread = [&] { return std::make_shared<nccl::DeviceThread>(nccl::RuntimeOptions{}); };
    devices = thread();
    devices->start();
    for (int rank = 0; rank < size; ++rank) {
      Rank& made = *ranks.emplace_back(std::make_unique<Rank>());
      made.runtime = nccl::loadRuntime({});
      made.memory = devices->keep(std::make_unique<nccl::DeviceMemory>(
          made.runtime, rank, made.runtime->allocate(rank, kCount * 4), kCount * 4, true));
      group::GroupOptions options;
      options.join.hosts = {"127.0.0.1"};
      options.join.ports = {0};
      options.join.rank = rank;
      options.join.identity.size = size;
      options.join.identity.groupName = name;
      options.join.memberId = name + std::to_string(rank);
      options.device.emplace();
      options.device->index = rank;
      group::GroupEvents events;
      events.onFormed = [&made] { made.formed.set(); };
      events.onFailed = [&made](const Error& error) {
        made.formed.set(&error);
        made.failed.set(&error);
      };
      events.onEnded = [&made](bool) { made.ended.set(); };
      if (rank == 0) events.onListening = [this](uint16_t port) { listening(port); };
      if (rank > 0) options.join.ports = {port()};
      made.group = std::make_unique<group::Group>(std::move(options), std::move(events));
      made.group->start();
    }
  }
  ~Groups() {
    ranks.clear();
    devices->close(Millis{5000});
  }

  void formed() {
    for (const auto& rank : ranks) REQUIRE_CHILD(!rank->formed.wait());
  }
  void closed() {
    for (const auto& rank : ranks) rank->group->close();
    for (const auto& rank : ranks) rank->ended.wait();
  }
  void copy(Rank& rank, std::vector<int32_t>& values, bool toDevice) {
    Signal ended;
    devices->post(std::make_unique<CopyWork>(
        nccl::Copy(rank.memory, 0, values.data(), values.size() * 4, toDevice, nullptr), ended));
    REQUIRE_CHILD(!ended.wait());
  }

  std::vector<std::unique_ptr<Rank>> ranks;
  std::shared_ptr<nccl::DeviceThread> devices;

 private:
  void listening(uint16_t port) {
    const std::lock_guard lock(mutex_);
    port_ = port;
    changed_.notify_all();
  }
  uint16_t port() {
    std::unique_lock lock(mutex_);
    REQUIRE_CHILD(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return port_ != 0; }));
    return port_;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  uint16_t port_ = 0;
};

// Returns once this process has so many threads of that name.
void untilThreads(const std::string& name, size_t count) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (size_t found = 0; found < count;) {
    REQUIRE_CHILD(std::chrono::steady_clock::now() < until);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    found = 0;
    std::error_code gone;  // a thread may end between the two looks
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", gone)) {
      std::ifstream file(task.path() / "comm");
      std::string line;
      if (std::getline(file, line) && line == name) ++found;
    }
  }
}

void everything(int size) {
  Groups groups(size);
  groups.formed();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<int32_t>> values(groups.ranks.size());
    std::vector<std::vector<int32_t>> arrays(groups.ranks.size());
    std::vector<std::vector<int32_t>> staged(groups.ranks.size());
    std::vector<std::shared_ptr<Signal>> pending;
    for (size_t rank = 0; rank < groups.ranks.size(); ++rank) {
      values[rank].assign(kCount, static_cast<int32_t>(rank) + 1);
      arrays[rank].assign(kCount, static_cast<int32_t>(rank) + 2);
      staged[rank].assign(kCount, static_cast<int32_t>(rank) + 3);
      groups.copy(*groups.ranks[rank], values[rank], true);
    }
    for (size_t rank = 0; rank < groups.ranks.size(); ++rank) {
      Rank& each = *groups.ranks[rank];
      pending.push_back(each.submit(OpKind::kAllReduce, false, nullptr));
      pending.push_back(each.submit(OpKind::kAllReduce, false, &arrays[rank]));
      pending.push_back(each.submit(OpKind::kAllReduce, true, &staged[rank]));
      pending.push_back(each.submit(OpKind::kBroadcast, false, nullptr));
    }
    for (const auto& signal : pending) REQUIRE_CHILD(!signal->wait());
    const int32_t sum = size * (size + 1) / 2;
    for (size_t rank = 0; rank < groups.ranks.size(); ++rank) {
      groups.copy(*groups.ranks[rank], values[rank], false);
      REQUIRE_CHILD(values[rank] == std::vector<int32_t>(kCount, sum));
      REQUIRE_CHILD(arrays[rank] == std::vector<int32_t>(kCount, sum + size));
      REQUIRE_CHILD(staged[rank] == std::vector<int32_t>(kCount, sum + 2 * size));
    }
  }
  groups.closed();
}

// Rank 0 does not call: the others wait on the device until `end` does something about it.
void waiting(const std::function<void(Groups&)>& end, ErrorCode expected, Millis limit = Millis{20'000}) {
  Groups groups(3);
  groups.formed();
  std::vector<std::shared_ptr<Signal>> pending;
  for (size_t rank = 1; rank < 3; ++rank) {
    pending.push_back(groups.ranks[rank]->submit(OpKind::kAllReduce, false, nullptr, limit));
    pending.push_back(groups.ranks[rank]->submit(OpKind::kAllReduce, false, nullptr, limit));
  }
  end(groups);
  for (const auto& signal : pending) {
    const auto error = signal->wait();
    REQUIRE_CHILD(error);
    REQUIRE_CHILD(error->code == expected);
  }
  for (size_t rank = 1; rank < 3; ++rank) REQUIRE_CHILD(groups.ranks[rank]->failed.wait()->code == expected);
}

}  // namespace

TEST_CASE("device memory, arrays and staged arrays in one group") {
  for (const bool rocm : {false, true}) {
    for (const int size : {1, 2, 4}) checkChild([size] { everything(size); }, standins(rocm));
  }
}

TEST_CASE("an abort, a deadline and a rank that goes end what waits on the device") {
  for (const bool rocm : {false, true}) {
    checkChild(
        [] { waiting([](Groups& groups) { groups.ranks[0]->group->abort("enough"); }, ErrorCode::kAborted); },
        standins(rocm));
    checkChild([] { waiting([](Groups&) {}, ErrorCode::kTimeout, Millis{300}); }, standins(rocm));
    checkChild([] { waiting([](Groups& groups) { groups.ranks[0]->group->close(); }, ErrorCode::kRankLost); },
               standins(rocm));
  }
}

TEST_CASE("an abort while the communicator is made ends at once, and an init that fails is that of all") {
  for (const bool rocm : {false, true}) {
    checkChild(
        [] {
          Groups groups(2);
          untilThreads("standin-stream", 2);  // both are in the library
          groups.ranks[1]->group->abort("enough");
          for (const auto& rank : groups.ranks) {
            REQUIRE_CHILD(rank->formed.wait()->code == ErrorCode::kAborted);
          }
        },
        standins(rocm, "init-hang"));
    checkChild(
        [] {
          Groups groups(2);
          for (const auto& rank : groups.ranks) {
            REQUIRE_CHILD(rank->formed.wait()->code == ErrorCode::kDevice);
          }
        },
        standins(rocm, "init-fail"));
  }
}

TEST_CASE("a library that never comes back keeps nobody") {
  // The times are around close()'s limit of 2 s: the stand-ins report a communicator that is ended twice.
  for (const char* const faults :
       {"abort-blocks", "finalize-blocks", "destroy-blocks", "destroy-blocks=2020", "destroy-blocks=2300"}) {
    Env env = standins(false, faults);
    env.erase("NC_STANDIN_STRICT_EXIT");  // what it holds is lost
    checkChild(
        [] {
          Groups groups(2);
          groups.formed();
          if (std::string(std::getenv("NC_STANDIN_FAULTS")) == "abort-blocks") {
            const auto signal = groups.ranks[0]->submit(OpKind::kAllReduce, false, nullptr, Millis{200});
            REQUIRE_CHILD(signal->wait()->code == ErrorCode::kTimeout);
          } else {
            groups.closed();
          }
        },
        env);
  }
}
