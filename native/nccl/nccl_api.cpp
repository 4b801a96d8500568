#include "nccl/nccl_api.h"

#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "nccl/library_places.h"
#include "nccl/nccl_abi.h"
#include "nccl/nccl_config.h"
#include "nccl/nccl_text.h"
#include "nccl/symbol.h"

namespace nc::nccl {

namespace {

namespace fn = abi::fn;

const void* source(DevicePtr address) {
  return reinterpret_cast<const void*>(address);  // NOLINT(performance-no-int-to-ptr): not followed here
}
void* target(DevicePtr address) {
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr): not followed here
}
abi::Comm comm(CommHandle handle) {
  return static_cast<abi::Comm>(handle);
}

class LoadedNccl final : public NcclApi {
 public:
  LoadedNccl(Flavour flavour, std::shared_ptr<SharedLibrary> library)
      : flavour_(flavour), library_(std::move(library)) {
    // A file without this function was not taken for the library.
    const abi::Result result = getVersion_.address(&version_);
    if (result != abi::kSuccess) {
      throw Error(ErrorCode::kBackendUnavailable, std::string(name(flavour_)) + " (" + library_->path() +
                                                      ") does not tell its version: " + resultName(result));
    }
  }

  Flavour flavour() const override { return flavour_; }
  const SharedLibrary& library() const override { return *library_; }
  int version() const override { return version_; }

  UniqueId uniqueId() override {
    abi::Id id{};
    call(getUniqueId_, &id);
    UniqueId out;
    static_assert(sizeof(id) == sizeof(out));
    std::memcpy(out.data(), &id, sizeof(id));
    return out;
  }

  CommHandle init(int size, const UniqueId& id, int rank) override {
    abi::Id raw{};
    std::memcpy(&raw, id.data(), sizeof(raw));
    abi::Comm made = nullptr;
    if (initBlocks()) {
      call(commInitRank_, &made, size, raw, rank);
    } else {
      abi::Config config = makeConfig(version_, false);
      call(commInitRankConfig_, &made, size, raw, rank, &config);
    }
    return made;
  }

  bool initBlocks() const override { return version_ < 21400 || !commInitRankConfig_; }

  bool ready(CommHandle handle) override {
    abi::Result state = abi::kSuccess;
    call(commGetAsyncError_, comm(handle), &state);
    if (state == abi::kInProgress) return false;
    if (state != abi::kSuccess) throw failure("asynchronous error of the communicator", state, comm(handle));
    return true;
  }

  void finalize(CommHandle handle) override {
    if (version_ < 21400 || !commFinalize_) return;
    call(commFinalize_, comm(handle));
  }
  void destroy(CommHandle handle) override { call(commDestroy_, comm(handle)); }
  void abort(CommHandle handle) override { call(commAbort_, comm(handle)); }

  void groupStart() override { call(groupStart_); }
  void groupEnd() override { call(groupEnd_); }

  void checkReduction(DType dtype, ReduceOp op) const override {
    type(dtype, "reduces no");
    number(op);
  }

  // Types that NCCL does not know at all are moved as bytes.
  void checkType(DType dtype) const override {
    if (dataType(dtype, flavour_).number >= 0) type(dtype, "moves no");
  }

  void allReduce(DevicePtr in, DevicePtr out, size_t count, DType dtype, ReduceOp op, CommHandle handle,
                 StreamHandle stream) override {
    call(allReduce_, source(in), target(out), count, type(dtype, "reduces no"), number(op), comm(handle),
         stream);
  }

  void reduce(DevicePtr in, DevicePtr out, size_t count, DType dtype, ReduceOp op, int root,
              CommHandle handle, StreamHandle stream) override {
    call(reduce_, source(in), target(out), count, type(dtype, "reduces no"), number(op), root, comm(handle),
         stream);
  }

  void reduceScatter(DevicePtr in, DevicePtr out, size_t outCount, DType dtype, ReduceOp op,
                     CommHandle handle, StreamHandle stream) override {
    call(reduceScatter_, source(in), target(out), outCount, type(dtype, "reduces no"), number(op),
         comm(handle), stream);
  }

  void broadcast(DevicePtr in, DevicePtr out, size_t count, DType dtype, int root, CommHandle handle,
                 StreamHandle stream) override {
    const Moved moved = move(dtype, count);
    call(broadcast_, source(in), target(out), moved.count, moved.type, root, comm(handle), stream);
  }

  void allGather(DevicePtr in, DevicePtr out, size_t inCount, DType dtype, CommHandle handle,
                 StreamHandle stream) override {
    const Moved moved = move(dtype, inCount);
    call(allGather_, source(in), target(out), moved.count, moved.type, comm(handle), stream);
  }

  void send(DevicePtr in, size_t count, DType dtype, int peer, CommHandle handle,
            StreamHandle stream) override {
    const Moved moved = move(dtype, count);
    call(send_, source(in), moved.count, moved.type, peer, comm(handle), stream);
  }

  void recv(DevicePtr out, size_t count, DType dtype, int peer, CommHandle handle,
            StreamHandle stream) override {
    const Moved moved = move(dtype, count);
    call(recv_, target(out), moved.count, moved.type, peer, comm(handle), stream);
  }

 private:
  struct Moved {
    size_t count;
    abi::DataType type;
  };

  std::string title() const { return std::string(name(flavour_)) + " " + versionText(); }

  Error unsupported(const std::string& what) const {
    return {ErrorCode::kUnsupported, what + ": unsupported by " + title() + " (" + library_->path() + ")"};
  }

  abi::DataType type(DType dtype, const char* verb) const {
    const Known known = dataType(dtype, flavour_);
    if (known.number < 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  std::string(name(flavour_)) + " " + verb + " " + nc::name(dtype) + " on devices");
    }
    if (version_ < known.since)
      throw unsupported(std::string(nc::name(dtype)) + " (since " + nccl::versionText(known.since) + ")");
    return known.number;
  }

  abi::RedOp number(ReduceOp op) const {
    const Known known = reduction(op);
    if (known.number < 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  std::string(name(flavour_)) + " has no reduction " + nc::name(op) + " on devices");
    }
    if (version_ < known.since)
      throw unsupported(std::string(nc::name(op)) + " (since " + nccl::versionText(known.since) + ")");
    return known.number;
  }

  Moved move(DType dtype, size_t count) const {
    if (dataType(dtype, flavour_).number >= 0) return {count, type(dtype, "moves no")};
    return {count * elementSize(dtype), abi::kUint8};
  }

  // A communicator that does not block answers that the call goes on; ready() tells its end.
  template <typename Signature, typename... Arguments>
  void call(const Symbol<Signature>& symbol, Arguments... arguments) {
    if (!symbol) throw unsupported(symbol.name);
    const abi::Result result = symbol.address(arguments...);
    if (result != abi::kSuccess && result != abi::kInProgress) throw failure(symbol.name, result, nullptr);
  }

  Error failure(const std::string& what, abi::Result result, abi::Comm which) const {
    std::string text = title() + ": " + what + ": " + resultName(result);
    if (getErrorString_) {
      const char* const said = getErrorString_.address(result);
      if (said != nullptr && *said != '\0') text += " (" + std::string(said) + ")";
    }
    if (getLastError_) {
      const char* const last = getLastError_.address(which);
      if (last != nullptr && *last != '\0') text += "; last error: " + trimmed(last);
    }
    const std::string todo = advice(result);
    return {ErrorCode::kDevice, todo.empty() ? text : text + "; " + todo};
  }

  // NCCL's text ends with a line break.
  static std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
  }

  Flavour flavour_;
  std::shared_ptr<SharedLibrary> library_;
  int version_ = 0;

  Symbol<fn::ncclGetVersion> getVersion_{*library_, "ncclGetVersion"};
  Symbol<fn::ncclGetUniqueId> getUniqueId_{*library_, "ncclGetUniqueId"};
  Symbol<fn::ncclGetErrorString> getErrorString_{*library_, "ncclGetErrorString"};
  Symbol<fn::ncclGetLastError> getLastError_{*library_, "ncclGetLastError"};
  Symbol<fn::ncclCommInitRank> commInitRank_{*library_, "ncclCommInitRank"};
  Symbol<fn::ncclCommInitRankConfig> commInitRankConfig_{*library_, "ncclCommInitRankConfig"};
  Symbol<fn::ncclCommGetAsyncError> commGetAsyncError_{*library_, "ncclCommGetAsyncError"};
  Symbol<fn::ncclCommFinalize> commFinalize_{*library_, "ncclCommFinalize"};
  Symbol<fn::ncclCommDestroy> commDestroy_{*library_, "ncclCommDestroy"};
  Symbol<fn::ncclCommAbort> commAbort_{*library_, "ncclCommAbort"};
  Symbol<fn::ncclGroupStart> groupStart_{*library_, "ncclGroupStart"};
  Symbol<fn::ncclGroupEnd> groupEnd_{*library_, "ncclGroupEnd"};
  Symbol<fn::ncclAllReduce> allReduce_{*library_, "ncclAllReduce"};
  Symbol<fn::ncclReduce> reduce_{*library_, "ncclReduce"};
  Symbol<fn::ncclReduceScatter> reduceScatter_{*library_, "ncclReduceScatter"};
  Symbol<fn::ncclBroadcast> broadcast_{*library_, "ncclBroadcast"};
  Symbol<fn::ncclAllGather> allGather_{*library_, "ncclAllGather"};
  Symbol<fn::ncclSend> send_{*library_, "ncclSend"};
  Symbol<fn::ncclRecv> recv_{*library_, "ncclRecv"};
};

}  // namespace

std::shared_ptr<NcclApi> loadNccl(Flavour flavour, const NcclOptions& options,
                                  std::vector<LoadAttempt>* attempts) {
  const bool nccl = flavour == Flavour::kNccl;
  LibraryQuery query;
  query.what = name(flavour);
  query.explicitPath = options.path;
  query.variables = {"NODE_COLLECTIVES_NCCL_PATH", "VLLM_NCCL_SO_PATH"};
  query.names = {nccl ? "libnccl.so.2" : "librccl.so.1"};
  query.files = nccl ? ncclPlaces() : rcclPlaces();
  query.symbol = "ncclGetVersion";
  return std::make_shared<LoadedNccl>(flavour, SharedLibrary::load(query, attempts));
}

}  // namespace nc::nccl
