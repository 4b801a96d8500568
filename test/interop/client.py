# PyTorch's client against a server of ours: python -c CODE HOST PORT. Prints "ok NAME" for each check, ends with
# "done". The other side answers the key `from-node` once it sees `from-python`.
import sys
import threading
import time
from datetime import timedelta

import torch.distributed as dist

host, port = sys.argv[1], int(sys.argv[2])


def connect(**more):
    options = dict(is_master=False, wait_for_workers=False, timeout=timedelta(seconds=30), use_libuv=False)
    return dist.TCPStore(host, port, **{**options, **more})


def ok(name, fine=True, seen=None):
    if not fine:
        raise AssertionError(f"{name}: {seen!r}")
    print("ok", name, flush=True)


def same(name, seen, wanted):
    ok(name, seen == wanted, seen)


def fails(name, kind, body):
    began = time.monotonic()
    try:
        body()
    except kind as error:
        ok(name)
        return time.monotonic() - began, str(error)
    raise AssertionError(f"{name}: no error")


store = connect()
store.set("k", "hello")
same("set and get", store.get("k"), b"hello")
store.set("e", "")
same("an empty value", store.get("e"), b"")
store.set("", "x")
same("an empty key", store.get(""), b"x")
store.set("b", bytes([0, 255, 128]))
same("bytes", store.get("b"), bytes([0, 255, 128]))
same("add", [store.add("n", 5), store.add("n", 37), store.add("n", -100)], [5, 42, -58])
same("get of a counter", store.get("n"), b"-58")
same("check", [store.check(["k", "n"]), store.check(["k", "nope"]), store.check([])], [True, False, True])
store.wait(["k", "n"])
ok("wait, all there")
took, text = fails("wait that times out", dist.DistStoreError, lambda: store.wait(["nope"], timedelta(milliseconds=300)))
ok("after its time", 0.25 < took < 5, took)
same("the connection is usable after a time-out", store.get("k"), b"hello")
same("compare_set, absent", store.compare_set("c", "", "v1"), b"v1")
same("compare_set, equal", store.compare_set("c", "v1", "v2"), b"v2")
same("compare_set, different", store.compare_set("c", "zz", "v3"), b"v2")
same("compare_set, absent and expected", store.compare_set("d", "zz", "v3"), b"zz")
same("which made nothing", store.check(["d"]), False)
store.append("k", " world")
store.append("ap", "x")
same("append", [store.get("k"), store.get("ap")], [b"hello world", b"x"])
store.multi_set(["m1", "m2"], ["one", "two2"])
same("multi_set and multi_get", store.multi_get(["m2", "m1"]), [b"two2", b"one"])
before = store.num_keys()
same("delete_key", [store.delete_key("m1"), store.delete_key("m1")], [True, False])
same("num_keys", store.num_keys(), before - 1)
fails("multi_get that times out", dist.DistStoreError,
      lambda: connect(timeout=timedelta(milliseconds=300)).multi_get(["k", "missing"]))
fails("get that times out", dist.DistStoreError, lambda: connect(timeout=timedelta(milliseconds=300)).get("missing"))

view = dist.PrefixStore("q", dist.PrefixStore("p", store))
view.set("k", "v")
same("PrefixStore", [view.get("k"), store.get("p/q/k")], [b"v", b"v"])
same("add through a PrefixStore", view.add("n", 1), 1)
same("num_keys through a PrefixStore", view.num_keys(), store.num_keys())

big = b"A" * (8 * 1024 * 1024)
store.set("big", big)
ok("8 MiB", store.get("big") == big)
fails("one byte more closes", dist.DistNetworkError, lambda: (lambda s: (s.set("big", big + b"A"), s.get("big")))(connect()))
fails("add to a text closes", dist.DistNetworkError, lambda: connect().add("k", 1))
same("and concerns nobody else", store.get("n"), b"-58")

second = connect()
makers = {
    "set": lambda: second.set("late-set", "1"),
    "add": lambda: second.add("late-add", 1),
    "append": lambda: second.append("late-append", "1"),
    "multi_set": lambda: second.multi_set(["late-multi_set", "other"], ["1", "2"]),
    "compare_set": lambda: second.compare_set("late-compare_set", "", "1"),
}
for name, make in makers.items():
    failed = []

    def waiting():
        try:
            store.wait(["late-" + name], timedelta(seconds=20))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=waiting)
    thread.start()
    time.sleep(0.05)  # most likely it waits by now; both orders must work
    make()
    thread.join()
    ok("wait ended by " + name, not failed, failed)

store.set("from-python", "here I am")
same("a key set by Node ends a get", store.get("from-node"), b"welcome")

worker = connect(world_size=2, wait_for_workers=True)
same("a worker of a world of 2 is counted", worker.num_keys(), store.num_keys())
print("done", flush=True)
