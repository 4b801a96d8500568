// A point in time by which something must have ended. Every wait in the project takes one.
#pragma once

#include <algorithm>
#include <chrono>

namespace nc {

using Clock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;

class Deadline {
 public:
  // `limit` from now. Very large limits mean "no deadline" without overflowing the clock.
  static Deadline in(Millis limit) {
    // Compared in milliseconds: as nanoseconds, the largest limits would have overflown already.
    const Millis most = std::chrono::hours(24 * 365);
    return Deadline(Clock::now() + std::min(limit, most), limit);
  }
  static Deadline never() { return in(std::chrono::hours(24 * 365)); }

  Clock::time_point at() const { return at_; }
  Millis limit() const { return limit_; }  // what was asked for, for messages
  bool passed() const { return Clock::now() >= at_; }

  // Milliseconds left, rounded up and clamped to what poll(2) takes; 0 once passed.
  int pollTimeout() const {
    const auto left = at_ - Clock::now();
    if (left <= Clock::duration::zero()) return 0;
    const auto ms = std::chrono::ceil<Millis>(left).count();
    return static_cast<int>(std::min<decltype(ms)>(ms, 1'000'000'000));
  }

  // The earlier of the two.
  Deadline sooner(Millis limit) const {
    Deadline other = in(limit);
    return other.at_ < at_ ? other : *this;
  }

 private:
  Deadline(Clock::time_point at, Millis limit) : at_(at), limit_(limit) {}
  Clock::time_point at_;
  Millis limit_;
};

}  // namespace nc
