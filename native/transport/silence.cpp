#include "transport/silence.h"

#include <algorithm>

namespace nc::transport {

namespace {

// Samples in the time until a rank is lost: how late that can be noticed, and the grain in which time counts.
constexpr int kSamples = 12;
constexpr Millis kShortest{5};

}  // namespace

Silence::Silence(Millis deadAfter, size_t size)
    : deadAfter_(deadAfter),
      interval_(std::max(deadAfter / kSamples, kShortest)),
      last_(Clock::now()),
      ranks_(size) {
  if (deadAfter_.count() > 0) next_ = last_ + interval_;
}

bool Silence::sample(Clock::time_point now) {
  if (now < next_) return false;
  // The thread had asked to be woken after `interval_`. What went beyond that it has not watched.
  counted_ = std::min(now - last_, interval_ + interval_ / 2);
  last_ = now;
  next_ = now + interval_;
  return true;
}

bool Silence::tooLong(int rank, uint64_t reads) {
  Rank& known = ranks_[static_cast<size_t>(rank)];
  known.quiet = known.reads == reads ? known.quiet + counted_ : Clock::duration{};
  known.reads = reads;
  return known.quiet >= deadAfter_;
}

}  // namespace nc::transport
