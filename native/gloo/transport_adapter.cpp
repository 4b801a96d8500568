#include "gloo/transport_adapter.h"

#include <gloo/transport/address.h>
#include <gloo/transport/buffer.h>
#include <gloo/transport/context.h>
#include <gloo/transport/device.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/unbound_buffer.h>

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "gloo/compat.h"

namespace nc::gloo {
namespace {

using transport::BufferState;
using transport::Mesh;

[[noreturn]] void notNeeded(const char* what) {
  throw Error(ErrorCode::kInternal, std::string("Gloo asked its transport for ") + what);
}

class UnboundBuffer final : public ::gloo::transport::UnboundBuffer {
 public:
  UnboundBuffer(Mesh& mesh, void* data, size_t bytes)
      : ::gloo::transport::UnboundBuffer(data, bytes), mesh_(mesh) {}
  // Also while an error unwinds Gloo's frames: whatever is still posted must not outlive the memory.
  ~UnboundBuffer() override { mesh_.release(state_); }

  void send(int peer, uint64_t slot, size_t offset, size_t bytes) override {
    mesh_.send(state_, peer, slot, at(offset), length(offset, bytes));
  }
  void recv(int peer, uint64_t slot, size_t offset, size_t bytes) override {
    mesh_.recv(state_, {&peer, 1}, slot, at(offset), length(offset, bytes));
  }
  void recv(std::vector<int> peers, uint64_t slot, size_t offset, size_t bytes) override {
    mesh_.recv(state_, peers, slot, at(offset), length(offset, bytes));
  }

  bool waitRecv(int* rank, std::chrono::milliseconds timeout) override {
    const bool unset = timeout == ::gloo::transport::kUnsetTimeout;
    return done(unset ? mesh_.waitRecv(state_) : mesh_.waitRecv(state_, Deadline::in(timeout)), rank);
  }
  bool waitSend(int* rank, std::chrono::milliseconds timeout) override {
    const bool unset = timeout == ::gloo::transport::kUnsetTimeout;
    return done(unset ? mesh_.waitSend(state_) : mesh_.waitSend(state_, Deadline::in(timeout)), rank);
  }
  // Gloo means these for other threads; here there is none, so they only end the next wait.
  void abortWaitRecv() override { state_.abortRecv = true; }
  void abortWaitSend() override { state_.abortSend = true; }

 private:
  std::byte* at(size_t offset) const { return static_cast<std::byte*>(ptr) + offset; }
  size_t length(size_t offset, size_t bytes) const {
    if (offset > size || (bytes != kUnspecifiedByteCount && bytes > size - offset)) {
      throw Error(ErrorCode::kInternal, "Gloo went beyond the end of its buffer");
    }
    return bytes == kUnspecifiedByteCount ? size - offset : bytes;
  }
  static bool done(int peer, int* rank) {
    if (peer < 0) return false;
    if (rank != nullptr) *rank = peer;
    return true;
  }

  Mesh& mesh_;
  BufferState state_;
};

class Address final : public ::gloo::transport::Address {
 public:
  std::string str() const override { return "mesh"; }
  std::vector<char> bytes() const override { return {}; }
};

// Gloo's collectives look whether a pair exists and do nothing else with it.
class Pair final : public PairBase {
 public:
  const ::gloo::transport::Address& address() const override { return address_; }
  void connect(const std::vector<char>&) override {}
  void close() override {}
  void setSync(bool, bool) override {}
  std::unique_ptr<::gloo::transport::Buffer> createSendBuffer(int, void*, size_t) override {
    notNeeded("a buffer bound to a pair");
  }
  std::unique_ptr<::gloo::transport::Buffer> createRecvBuffer(int, void*, size_t) override {
    notNeeded("a buffer bound to a pair");
  }
  void send(::gloo::transport::UnboundBuffer*, uint64_t, size_t, size_t) override {
    notNeeded("a send on a pair");
  }
  void recv(::gloo::transport::UnboundBuffer*, uint64_t, size_t, size_t) override {
    notNeeded("a receive on a pair");
  }

 private:
  Address address_;
};

class TransportContext final : public ::gloo::transport::Context {
 public:
  explicit TransportContext(Mesh& mesh) : ::gloo::transport::Context(mesh.rank(), mesh.size()), mesh_(mesh) {
    pairs_.resize(static_cast<size_t>(size));
    for (int peer = 0; peer < size; ++peer) {
      if (peer != rank) createPair(peer);
    }
  }
  std::unique_ptr<::gloo::transport::Pair>& createPair(int peer) override {
    return pairs_[static_cast<size_t>(peer)] = std::make_unique<Pair>();
  }
  std::unique_ptr<::gloo::transport::UnboundBuffer> createUnboundBuffer(void* data, size_t bytes) override {
    return std::make_unique<UnboundBuffer>(mesh_, data, bytes);
  }

 private:
  Mesh& mesh_;
};

class Device final : public ::gloo::transport::Device {
 public:
  explicit Device(Mesh& mesh) : mesh_(mesh) {}
  std::string str() const override { return "mesh"; }
  const std::string& getPCIBusID() const override { return none_; }
  std::shared_ptr<::gloo::transport::Context> createContext(int, int) override {
    return std::make_shared<TransportContext>(mesh_);
  }

 private:
  Mesh& mesh_;
  std::string none_;
};

class Context final : public ::gloo::Context {
 public:
  explicit Context(Mesh& mesh) : ::gloo::Context(mesh.rank(), mesh.size()) {
    device_ = std::make_shared<Device>(mesh);
    transportContext_ = device_->createContext(rank, size);
  }
};

}  // namespace

std::shared_ptr<::gloo::Context> makeContext(transport::Mesh& mesh) {
  return std::make_shared<Context>(mesh);
}

}  // namespace nc::gloo
