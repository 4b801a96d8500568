// The peer that bench/votes.ts compares with: Gloo's own ring all-reduce over its own TCP transport, one
// process per rank on loopback, no Node. Prints one line of JSON: the call's median and 99th percentile in
// microseconds.
//
//   gloo_ring RANKS ITERATIONS
#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr int kWarmUp = 200;

struct Quantiles {
  double p50;
  double p99;
};

Quantiles run(int rank, int size, int iterations, const std::string& folder) {
  auto device = gloo::transport::tcp::CreateDevice("127.0.0.1");
  auto store = std::make_shared<gloo::rendezvous::FileStore>(folder);
  auto context = std::make_shared<gloo::rendezvous::Context>(rank, size);
#if __has_include(<gloo/common/store.h>)
  context->connectFullMesh(store, device);
#else
  context->connectFullMesh(*store, device);
#endif
  std::vector<double> micros;
  micros.reserve(static_cast<size_t>(iterations));
  int32_t value = 0;
  for (int i = 0; i < kWarmUp + iterations; ++i) {
    gloo::AllreduceOptions options(context);
    value = rank == i % size ? 1 : 0;
    options.setOutput(&value, 1);
    options.setReduceFunction(
        [](void* out, const void* a, const void* b, size_t n) { gloo::max<int32_t>(out, a, b, n); });
    const auto begin = std::chrono::steady_clock::now();
    gloo::allreduce(options);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (value != 1) std::abort();
    if (i >= kWarmUp) micros.push_back(took.count());
  }
  std::sort(micros.begin(), micros.end());
  return {micros[micros.size() / 2], micros[micros.size() * 99 / 100]};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: gloo_ring RANKS ITERATIONS\n");
    return 2;
  }
  const int size = std::atoi(argv[1]);
  const int iterations = std::atoi(argv[2]);
  std::string folder =
      std::string(std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp") + "/gloo-ring-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  std::vector<pid_t> children;
  for (int rank = 1; rank < size; ++rank) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      run(rank, size, iterations, folder);
      std::_Exit(0);
    }
    children.push_back(pid);
  }
  const Quantiles quantiles = run(0, size, iterations, folder);
  int status = 0;
  for (const pid_t pid : children) ::waitpid(pid, &status, 0);
  std::printf("{\"p50\":%.2f,\"p99\":%.2f}\n", quantiles.p50, quantiles.p99);
  return 0;
}
