# A TCPStore server of PyTorch: python -c CODE libuv|legacy. Prints its port, or "none REASON" if the build has
# no such server. Then does what comes as JSON lines on standard input on its own store ([method, arguments]) and
# prints results as JSON; ends with its input.
import json
import sys
from datetime import timedelta

import torch.distributed as dist

try:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False,
                          timeout=timedelta(seconds=30), use_libuv=sys.argv[1] == "libuv")
except Exception as error:
    print("none", str(error).splitlines()[0], flush=True)
    sys.exit(0)
print("port", store.port, "libuv" if getattr(store, "libuvBackend", False) else "legacy", flush=True)


def plain(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


for line in sys.stdin:
    path, arguments = json.loads(line)
    target = store
    *prefixes, method = path.split(".")
    for prefix in prefixes:
        target = dist.PrefixStore(prefix, target)
    print(json.dumps(plain(getattr(target, method)(*arguments))), flush=True)
