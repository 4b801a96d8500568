// One NcclApi over libraries of many versions: what each lacks is an error where it is used.
#include "nccl/nccl_api.h"

#include <doctest/doctest.h>

#include <climits>
#include <cstring>
#include <map>

#include "libraries/fake_nccl.h"
#include "library_support.h"
#include "nccl/nccl_config.h"

using namespace nc;
using namespace nc::nccl;
using namespace nc::nccl::test;

namespace {

struct Loaded {
  explicit Loaded(int version, Flavour flavour = Flavour::kNccl)
      : api(loadNccl(flavour, {libraryPath("fake_nccl_" + std::to_string(version))})) {
    next = reinterpret_cast<fakeNcclNextFunction*>(api->library().find("fakeNcclNext"));
    last = reinterpret_cast<fakeNcclLastFunction*>(api->library().find("fakeNcclLast"));
    next() = {};
  }

  std::shared_ptr<NcclApi> api;
  fakeNcclNextFunction* next;
  fakeNcclLastFunction* last;
};

template <typename Value>
Value configAt(const FakeNcclCall& call, size_t offset) {
  Value value;
  std::memcpy(&value, call.config + offset, sizeof(value));
  return value;
}

}  // namespace

TEST_CASE("version and path are those of the library") {
  const std::map<int, std::string> texts{{2708, "2.7.8"}, {20903, "2.9.3"}, {22203, "2.22.3"}};
  for (const auto& [version, text] : texts) {
    Loaded loaded(version);
    CHECK(loaded.api->version() == version);
    CHECK(loaded.api->versionText() == text);
    CHECK(loaded.api->flavour() == Flavour::kNccl);
    CHECK(loaded.api->library().path() == libraryPath("fake_nccl_" + std::to_string(version)));
  }
}

TEST_CASE("the search: option, our variable, vLLM's, the loader, pip") {
  const std::string file = libraryPath("fake_nccl_22203");
  const Variable ours("NODE_COLLECTIVES_NCCL_PATH", file);
  const Variable vllm("VLLM_NCCL_SO_PATH", libraryPath("fake_nccl_20903"));
  CHECK(loadNccl(Flavour::kNccl, {})->library().source() == "NODE_COLLECTIVES_NCCL_PATH");
  CHECK(loadNccl(Flavour::kRccl, {})->flavour() == Flavour::kRccl);
  const Variable unset("NODE_COLLECTIVES_NCCL_PATH", "");
  CHECK(loadNccl(Flavour::kNccl, {})->version() == 20903);
  const Variable missing("VLLM_NCCL_SO_PATH", "/nowhere/libnccl.so.2");
  std::vector<LoadAttempt> attempts;
  const auto error = errorOf([&] { loadNccl(Flavour::kNccl, {}, &attempts); });
  CHECK(error->code == ErrorCode::kBackendUnavailable);
  CHECK(says(error,
             "NCCL could not be loaded; tried\n  /nowhere/libnccl.so.2 (VLLM_NCCL_SO_PATH): No such file"));
  CHECK(attempts.size() == 1);
  const auto other = errorOf([&] { loadNccl(Flavour::kRccl, {libraryPath("other")}); });
  CHECK(says(other, "another library: it has no ncclGetVersion()"));
}

TEST_CASE("a communicator is made without blocking where the library can") {
  UniqueId id{};
  id[127] = std::byte{5};
  for (const int version : {2708, 20903, 21304}) {
    Loaded loaded(version);
    CHECK(loaded.api->initBlocks());
    CHECK(loaded.api->init(4, id, 3) != nullptr);
    CHECK(std::string(loaded.last().name) == "ncclCommInitRank");
    CHECK(loaded.last().count == 4);
    CHECK(loaded.last().type == 5);
    CHECK(loaded.last().op == 3);
    loaded.api->finalize(nullptr);  // nothing to call
    CHECK(std::string(loaded.last().name) == "ncclCommInitRank");
  }
  for (const int version : {21605, 22203, 22907}) {
    Loaded loaded(version);
    CHECK_FALSE(loaded.api->initBlocks());
    loaded.next().result = 7;  // in progress
    CHECK(loaded.api->init(4, id, 3) != nullptr);
    CHECK(std::string(loaded.last().name) == "ncclCommInitRankConfig");
    CHECK(configAt<unsigned>(loaded.last(), 8) == 0xcafebeef);
    CHECK(configAt<unsigned>(loaded.last(), 12) == static_cast<unsigned>(version));
    CHECK(configAt<int>(loaded.last(), 16) == 0);
    loaded.api->finalize(nullptr);
    CHECK(std::string(loaded.last().name) == "ncclCommFinalize");
  }
}

TEST_CASE("the configuration has the loaded version's size and nothing set") {
  const std::map<int, size_t> sizes{{21605, 24}, {22203, 48}, {22907, 88}};
  for (const auto& [version, bytes] : sizes) {
    Loaded loaded(version);
    loaded.api->init(1, {}, 0);
    CHECK(loaded.last().configBytes == bytes);
    for (size_t offset = 20; offset + 4 <= bytes; offset += 4) {
      const bool pointer = (offset >= 32 && offset < 40) || (offset >= 48 && offset < 56);
      CHECK(configAt<int>(loaded.last(), offset) == (pointer ? 0 : INT_MIN));
    }
  }
  // The sizes that each release's own header gives, and what is unknown is not made up.
  CHECK(configBytes(21403) == 24);
  CHECK(configBytes(21701) == 40);
  CHECK(configBytes(21801) == 48);
  CHECK(configBytes(22602) == 48);
  CHECK(configBytes(22703) == 72);
  CHECK(configBytes(22803) == 80);
  CHECK(configBytes(22902) == 88);
  CHECK(configBytes(23005) == 96);
  CHECK(makeConfig(23801, false).version == 23005);
}

TEST_CASE("a communicator's state") {
  Loaded loaded(22203);
  CHECK(loaded.api->ready(nullptr));
  loaded.next().state = 7;
  CHECK_FALSE(loaded.api->ready(nullptr));
  loaded.next() = {0, 6, "socket closed by peer\n"};
  const auto error = errorOf([&] { loaded.api->ready(nullptr); });
  CHECK(error->code == ErrorCode::kDevice);
  CHECK(says(error,
             "NCCL 2.22.3: asynchronous error of the communicator: ncclRemoteError (some error); "
             "last error: socket closed by peer; another rank ended"));
}

TEST_CASE("a failed call is told by NCCL's own name") {
  Loaded loaded(20903);
  loaded.next().result = 2;
  const auto error = errorOf([&] { loaded.api->uniqueId(); });
  CHECK(error->code == ErrorCode::kDevice);
  CHECK(says(error, "NCCL 2.9.3: ncclGetUniqueId: ncclSystemError (unhandled system error); a system call"));
  loaded.next().result = 99;
  CHECK(says(errorOf([&] { loaded.api->groupStart(); }), "ncclGroupStart: result 99"));
  loaded.next().result = 0;
  const UniqueId id = loaded.api->uniqueId();
  CHECK(id[127] == std::byte{127});
}

TEST_CASE("what a version lacks is an error where it is used") {
  Loaded old(20903);
  const auto check = [&](const auto& body, const std::string& text) {
    const auto error = errorOf(body);
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kUnsupported);
    CHECK(says(error, text));
  };
  check([&] { old.api->checkReduction(DType::kFloat32, ReduceOp::kAvg); },
        "avg (since 2.10.0): unsupported by NCCL 2.9.3");
  check([&] { old.api->checkReduction(DType::kBFloat16, ReduceOp::kSum); },
        "bfloat16 (since 2.10.0): unsupported by NCCL 2.9.3");
  check([&] { old.api->checkType(DType::kBFloat16); }, "bfloat16");
  Loaded middle(22203);
  middle.api->checkReduction(DType::kBFloat16, ReduceOp::kAvg);
  check([&] { middle.api->checkType(DType::kFloat8E4M3); },
        "float8e4m3 (since 2.24.0): unsupported by NCCL 2.22.3");
  Loaded recent(22907);
  recent.api->checkReduction(DType::kFloat8E5M2, ReduceOp::kSum);
  Loaded rccl(22203, Flavour::kRccl);  // RCCL had them before
  rccl.api->checkReduction(DType::kFloat8E5M2, ReduceOp::kSum);
  Loaded ancient(2604);
  check([&] { ancient.api->send(0, 1, DType::kInt8, 1, nullptr, nullptr); },
        "ncclSend: unsupported by NCCL 2.6.4");
  check([&] { ancient.api->recv(0, 1, DType::kInt8, 1, nullptr, nullptr); },
        "ncclRecv: unsupported by NCCL 2.6.4");
}

TEST_CASE("what no version has is the caller's mistake") {
  Loaded loaded(22907);
  for (const DType dtype : {DType::kInt16, DType::kUint16}) {
    const auto error = errorOf([&] { loaded.api->checkReduction(dtype, ReduceOp::kSum); });
    CHECK(error->code == ErrorCode::kInvalidArgument);
    CHECK(says(error, std::string("NCCL reduces no ") + name(dtype)));
    loaded.api->checkType(dtype);
  }
  for (const ReduceOp op : {ReduceOp::kBand, ReduceOp::kBor, ReduceOp::kBxor, ReduceOp::kNone}) {
    const auto error = errorOf([&] { loaded.api->checkReduction(DType::kInt32, op); });
    CHECK(error->code == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("calls carry NCCL's numbers; types it does not know move as bytes") {
  Loaded loaded(22907);
  loaded.api->allReduce(0, 0, 10, DType::kBFloat16, ReduceOp::kMin, nullptr, nullptr);
  CHECK(std::string(loaded.last().name) == "ncclAllReduce");
  CHECK(loaded.last().count == 10);
  CHECK(loaded.last().type == 9);
  CHECK(loaded.last().op == 3);
  loaded.api->reduce(0, 0, 10, DType::kInt64, ReduceOp::kMax, 0, nullptr, nullptr);
  CHECK(loaded.last().type == 4);
  CHECK(loaded.last().op == 2);
  loaded.api->reduceScatter(0, 0, 10, DType::kFloat8E4M3, ReduceOp::kProd, nullptr, nullptr);
  CHECK(loaded.last().type == 10);
  CHECK(loaded.last().op == 1);
  loaded.api->broadcast(0, 0, 10, DType::kInt16, 2, nullptr, nullptr);
  CHECK(loaded.last().count == 20);
  CHECK(loaded.last().type == 1);
  CHECK(loaded.last().op == 2);
  loaded.api->allGather(0, 0, 10, DType::kFloat64, nullptr, nullptr);
  CHECK(loaded.last().count == 10);
  CHECK(loaded.last().type == 8);
  loaded.api->send(0, 10, DType::kUint16, 1, nullptr, nullptr);
  CHECK(std::string(loaded.last().name) == "ncclSend");
  CHECK(loaded.last().count == 20);
  loaded.api->recv(0, 10, DType::kUint32, 1, nullptr, nullptr);
  CHECK(loaded.last().type == 3);
}
