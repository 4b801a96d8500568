// Our store and PyTorch's, in both directions. Each function throws at the first difference and returns the
// number of checks that passed.
import { deepEqual, equal, ok, rejects } from 'node:assert/strict';
import { Python } from './python.mjs';

const text = (bytes) => Buffer.from(bytes).toString('latin1');

/** PyTorch's client, in a process of its own, against our server in this one. */
export async function torchClient(python, TcpStore) {
  const server = await TcpStore.listen({ operationTimeoutMs: 120_000 });
  const client = new Python(python, 'client.py', [server.host, String(server.port)]);
  try {
    const answering = server
      .get('from-python')
      .then(async (value) => [text(value), await server.set('from-node', 'welcome')]);
    answering.catch(() => {}); // looked at below, where the client came so far
    let passed = 0;
    for (let line = await client.line(); line !== 'done'; line = await client.line()) {
      ok(line.startsWith('ok '), line);
      passed++;
    }
    equal((await answering)[0], 'here I am');
    equal(text(await server.get('k')), 'hello world');
    equal(await client.end(), 0);
    return passed + 2;
  } finally {
    client.kill();
    await server.close();
  }
}

/** Our client against PyTorch's server of one kind; a text says why there is none. */
export async function torchServer(python, TcpStore, kind) {
  const server = new Python(python, 'server.py', [kind]);
  const open = [];
  const connect = async (address) => {
    const store = await TcpStore.connect(address);
    open.push(store);
    return store;
  };
  try {
    const [word, port, ...reason] = (await server.line()).split(' ');
    if (word !== 'port') return [port, ...reason].join(' ');
    equal(reason[0], kind);
    const address = { host: '127.0.0.1', port: Number(port), operationTimeoutMs: 60_000 };
    const store = await connect(address);
    const other = await connect(address);
    let passed = 0;
    const check = async (run) => {
      await run();
      passed++;
    };
    const checks = [
      async () => {
        await store.set('k', 'hello');
        equal(await server.call('get', 'k'), 'hello');
      },
      async () => {
        await server.call('set', 'py', 'from PyTorch');
        equal(text(await store.get('py')), 'from PyTorch');
      },
      async () => {
        await store.set('bytes', new Uint8Array([0, 255, 128]));
        equal(await server.call('get', 'bytes'), '\u0000\u00ff\u0080');
        await store.set('', 'x');
        equal(text(await store.get('')), 'x');
        await store.set('e', '');
        equal(text(await store.get('e')), '');
      },
      async () => deepEqual([await store.add('n', 5), await store.add('n', -63)], [5n, -58n]),
      async () => equal(await server.call('add', 'n', 8), -50),
      async () => equal(text(await store.get('n')), '-50'),
      async () => {
        equal(await store.check(['k', 'n']), true);
        equal(await store.check(['k', 'nope']), false);
        equal(await store.check([]), true);
      },
      () => store.wait(['k', 'n']),
      () => store.wait([]),
      async () => {
        equal(text(await store.compareSet('c', '', 'v1')), 'v1');
        equal(text(await store.compareSet('c', 'v1', 'v2')), 'v2');
        equal(text(await store.compareSet('c', 'zz', 'v3')), 'v2');
        equal(text(await store.compareSet('d', 'zz', 'v3')), 'zz');
        equal(await store.check(['d']), false);
      },
      async () => {
        await store.append('k', ' world');
        await store.append('ap', 'x');
        equal(await server.call('get', 'k'), 'hello world');
        equal(text(await store.get('ap')), 'x');
      },
      async () => {
        await store.multiSet(['m1', 'm2'], ['one', 'two2']);
        deepEqual((await store.multiGet(['m2', 'm1'])).map(text), ['two2', 'one']);
        deepEqual(await store.multiGet([]), []);
      },
      async () => {
        const before = await store.numKeys();
        equal(await store.deleteKey('m1'), true);
        equal(await store.deleteKey('m1'), false);
        equal(await store.numKeys(), before - 1);
        equal(await server.call('num_keys'), before - 1);
      },
      async () => {
        await store.prefix('p').prefix('q').set('k', 'v');
        equal(await server.call('p.q.get', 'k'), 'v');
        equal(await server.call('p.q.add', 'n', 3), 3);
        equal(await store.prefix('p').prefix('q').add('n', 1), 4n);
      },
      async () => {
        const big = Buffer.alloc(8 * 1024 * 1024, 'A');
        await store.set('big', big);
        ok(big.equals(await other.get('big')));
      },
      // Waits: fulfilled by either side, timed out, aborted; the store goes on meanwhile and afterwards.
      async () => {
        const late = [store.get('late1'), store.multiGet(['late1', 'late2']), store.wait(['late2', 'late3'])];
        equal(await store.add('n', 1), -49n);
        await server.call('set', 'late1', 'a');
        await other.append('late2', 'b');
        await other.add('late3', 1);
        const [one, both] = await Promise.all(late);
        deepEqual([one, ...both].map(text), ['a', 'a', 'b']);
      },
      async () => {
        const late = store.wait(['late4', 'late5']);
        await other.multiSet(['late4', 'late5'], ['', '']);
        await late;
      },
      async () => {
        // The legacy server does not wake a waiter for COMPARE_SET; asked again, it says that the key is
        // there.
        const late = store.wait(['late6'], { timeoutMs: kind === 'legacy' ? 500 : 60_000 });
        late.catch(() => {});
        await rejects(store.get('never', { timeoutMs: 300 }), { code: 'TIMEOUT' });
        await other.compareSet('late6', '', 'x');
        if (kind === 'legacy') await rejects(late, { code: 'TIMEOUT' });
        else await late;
        await store.wait(['late6']);
      },
      async () => {
        const began = performance.now();
        await rejects(store.wait(['nope', 'k'], { timeoutMs: 300 }), { code: 'TIMEOUT', op: 'store.wait' });
        await rejects(store.multiGet(['nope', 'k'], { timeoutMs: 300 }), { code: 'TIMEOUT' });
        ok(performance.now() - began < 5000);
        equal(text(await store.get('k')), 'hello world');
      },
      async () => {
        const control = new AbortController();
        const waiting = rejects(store.get('never', { signal: control.signal }), { code: 'ABORTED' });
        await store.check([]);
        control.abort();
        await waiting;
        equal(text(await store.get('k')), 'hello world');
      },
      async () => {
        // What has no answer closes this connection and no other.
        const wrong = await connect(address);
        await rejects(wrong.add('k', 1), { code: 'NETWORK', op: 'store.add' });
        equal(text(await store.get('py')), 'from PyTorch');
      },
      async () => {
        const waiting = rejects(store.get('never'), { code: 'NETWORK' });
        await store.check([]);
        equal(await server.end(), 0);
        await waiting;
        await rejects(store.numKeys(), { code: 'NETWORK' });
      },
    ];
    for (const one of checks) await check(one);
    return passed;
  } finally {
    for (const store of open) await store.close();
    server.kill();
  }
}
