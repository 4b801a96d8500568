#include "group/messages.h"

#include <algorithm>
#include <utility>

namespace nc::group {

Messages::~Messages() {
  for (Active& active : active_) mesh_.release(active.state);
}

void Messages::add(std::unique_ptr<Task> task) {
  Active& active = active_.emplace_back();
  active.task = std::move(task);
  const Task& given = *active.task;
  const size_t bytes = given.stamp.count * elementSize(given.stamp.dtype);
  if (given.stamp.kind == OpKind::kRecv) {
    mesh_.recvMessage(active.state, given.stamp, given.tag, given.out, bytes);
  } else if (given.firstSent) {
    mesh_.checkReachable(given.stamp);
    active.state.sent.push_back(given.stamp.root);
  } else {
    mesh_.sendMessage(active.state, given.stamp, given.tag, given.in, bytes);
  }
}

bool Messages::done(Active& active) {
  if (active.task->stamp.kind == OpKind::kRecv) return !active.state.received.empty();
  if (active.state.sent.empty()) return false;
  if (!active.state.unread) return true;
  // The link has ended. If the rank left in good order that is all there is to know, else reading will tell.
  mesh_.checkReachable(active.task->stamp);
  return false;
}

bool Messages::wait(int wakeFd) {
  const auto& noticeAfter = mesh_.limits().noticeAfter;
  auto until = Clock::time_point::max();
  for (Active& active : active_) {
    const Task& task = *active.task;
    const auto now = Clock::now();
    if (active.late) mesh_.failLateMessage(task.stamp, task.deadline);
    active.late = now >= task.deadline.at();
    until = std::min(until, task.deadline.at());
    if (active.notices < noticeAfter.size() && now - task.called >= noticeAfter[active.notices]) {
      ++active.notices;
      const auto waited = std::chrono::duration_cast<Millis>(now - task.called);
      if (mesh_.onWaiting) mesh_.onWaiting(task.stamp, waited, {task.stamp.root});
    }
    if (active.notices < noticeAfter.size()) {
      until = std::min<Clock::time_point>(until, task.called + noticeAfter[active.notices]);
    }
  }
  return mesh_.serveMessages(active_.front().task->stamp, until, wakeFd);
}

std::vector<std::unique_ptr<Task>> Messages::takeDone() {
  std::vector<std::unique_ptr<Task>> out;
  for (auto at = active_.begin(); at != active_.end();) {
    if (done(*at)) {
      out.push_back(std::move(at->task));
      at = active_.erase(at);
    } else {
      ++at;
    }
  }
  return out;
}

std::vector<std::unique_ptr<Task>> Messages::takeAll() {
  std::vector<std::unique_ptr<Task>> out;
  for (Active& active : active_) {
    mesh_.release(active.state);
    out.push_back(std::move(active.task));
  }
  active_.clear();
  return out;
}

}  // namespace nc::group
