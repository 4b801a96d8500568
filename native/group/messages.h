// The sends and receives of a group that are under way. Those called one after the other, with no collective
// between them, run at the same time, so that two ranks may send each other more than the links hold.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "core/deadline.h"
#include "group/task.h"
#include "transport/mesh.h"

namespace nc::group {

// Belongs to the group's thread, between operations of the mesh. Once a method has thrown, the group has
// failed, and takeAll() has what is left.
class Messages {
 public:
  explicit Messages(transport::Mesh& mesh) : mesh_(mesh) {}
  ~Messages();
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  bool empty() const { return active_.empty(); }
  void add(std::unique_ptr<Task> task);
  // Waits for whatever comes first; true if it was `wakeFd`.
  bool wait(int wakeFd);
  // Those that have ended well, oldest first.
  std::vector<std::unique_ptr<Task>> takeDone();
  // Everything, with its memory taken back.
  std::vector<std::unique_ptr<Task>> takeAll();

 private:
  struct Active {
    std::unique_ptr<Task> task;
    transport::BufferState state;
    bool late = false;   // its deadline has passed, and it has been looked for once more
    size_t notices = 0;  // "still waiting" that have been said
  };
  bool done(Active& active);

  transport::Mesh& mesh_;
  std::list<Active> active_;  // a list: the mesh knows the states by their addresses
};

}  // namespace nc::group
