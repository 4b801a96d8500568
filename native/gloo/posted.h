// What an algorithm has posted on the mesh, taken back should the operation end by an error.
#pragma once

#include "transport/mesh.h"

namespace nc::gloo {

class Posted {
 public:
  Posted(transport::Mesh& mesh, transport::BufferState& state) : mesh_(mesh), state_(state) {}
  Posted(const Posted&) = delete;
  Posted& operator=(const Posted&) = delete;
  ~Posted() {
    if (done_) return;
    mesh_.release(state_);
    state_.sent.clear();
    state_.received.clear();
  }
  // Everything that was posted has been waited for.
  void done() { done_ = true; }

 private:
  transport::Mesh& mesh_;
  transport::BufferState& state_;
  bool done_ = false;
};

}  // namespace nc::gloo
