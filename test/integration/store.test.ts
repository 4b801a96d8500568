import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, connect as netConnect, type Server } from 'node:net';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import {
  AbortedError,
  AddressInUseError,
  AddressUnavailableError,
  ClosedError,
  InvalidArgumentError,
  NetworkError,
  ProtocolError,
  TimeoutError,
} from '../../src/errors.ts';
import { TcpStore } from '../../src/store/tcp-store.ts';

const open: TcpStore[] = [];
const listen: typeof TcpStore.listen = async (options) => kept(await TcpStore.listen(options));
const connect: typeof TcpStore.connect = async (options) => kept(await TcpStore.connect(options));
function kept(store: TcpStore): TcpStore {
  open.push(store);
  return store;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((store) => store.close()));
});

/** For the programs of other processes and workers: what `npm run build:ts` made. */
const compiled = JSON.stringify(new URL('../../build/ts/src/store/tcp-store.js', import.meta.url).href);

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.fail('no error'),
    (error: unknown) => error as Error & Record<string, unknown>,
  );

/** A kernel-chosen port that nobody listens on any more. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

describe('TcpStore', () => {
  it('does every operation', async () => {
    const server = await listen();
    const store = await connect({ host: server.host, port: server.port });
    await store.set('k', 'hello');
    expect(text(await server.get('k'))).toBe('hello');
    await store.set('bytes', new Uint8Array([0, 255, 128]));
    expect(await store.get('bytes')).toEqual(new Uint8Array([0, 255, 128]));
    await store.set('empty', '');
    expect(await store.get('empty')).toEqual(new Uint8Array());
    expect(await store.add('n', 5)).toBe(5n);
    expect(await store.add('n', -(2n ** 40n))).toBe(5n - 2n ** 40n);
    expect(text(await store.get('n'))).toBe(String(5n - 2n ** 40n));
    expect(await store.check(['k', 'n'])).toBe(true);
    expect(await store.check(['k', 'none'])).toBe(false);
    expect(await store.check([])).toBe(true);
    await store.wait(['k', 'n']);
    await store.wait([]);
    expect(text(await store.compareSet('c', '', 'v1'))).toBe('v1');
    expect(text(await store.compareSet('c', 'v1', 'v2'))).toBe('v2');
    expect(text(await store.compareSet('c', 'zz', 'v3'))).toBe('v2');
    expect(text(await store.compareSet('absent', 'zz', 'v3'))).toBe('zz');
    await store.append('k', ' world');
    await store.multiSet(['m1', 'm2'], ['one', Buffer.from('two')]);
    expect((await store.multiGet(['m2', 'k', 'm1'])).map(text)).toEqual(['two', 'hello world', 'one']);
    expect(await store.multiGet([])).toEqual([]);
    expect(await store.numKeys()).toBe(7);
    expect(await store.deleteKey('m1')).toBe(true);
    expect(await store.deleteKey('m1')).toBe(false);
    expect(await server.numKeys()).toBe(6);
    const big = Buffer.alloc(8 * 1024 * 1024, 'x');
    await store.set('big', big);
    expect(big.equals(await store.get('big'))).toBe(true);
  });

  it('nests prefixes and shares the connection', async () => {
    const store = await listen();
    const view = store.prefix('p').prefix('q');
    await view.set('k', 'v');
    expect(text(await store.get('p/q/k'))).toBe('v');
    expect(await view.numKeys()).toBe(1);
    await view.close();
    expect(store.closed).toBe(true);
  });

  it('a pending get holds up nothing, and ends when the key comes', async () => {
    const store = await listen();
    const gets = Array.from({ length: 20 }, (_, i) => store.get(`late${i}`));
    const both = store.multiGet(['late0', 'late19']);
    const waits = store.wait(['late3', 'late4']);
    expect(await store.add('n', 1)).toBe(1n);
    await Promise.all(gets.map((_, i) => store.set(`late${i}`, String(i))));
    expect((await Promise.all(gets)).map(text)).toEqual(gets.map((_, i) => String(i)));
    expect((await both).map(text)).toEqual(['0', '19']);
    await waits;
  });

  it('reads its own writes without awaiting them', async () => {
    const store = await listen();
    await store.set('k', 'old');
    for (let i = 0; i < 100; i++) {
      const writing = store.set('k', String(i));
      expect(text(await store.get('k'))).toBe(String(i));
      await writing;
    }
  });

  it('time-outs name the keys and leave the store usable', async () => {
    const store = await listen({ operationTimeoutMs: 40 });
    const began = performance.now();
    const error = await failure(store.get('never', { timeoutMs: 60 }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error.op).toBe('store.get');
    expect(error.address).toBe(`${store.host}:${store.port}`);
    expect(error.message).toContain("'/never'");
    expect(performance.now() - began).toBeGreaterThan(55);
    expect(await failure(store.wait(['never', 'too']))).toBeInstanceOf(TimeoutError);
    expect(await failure(store.multiGet(['never']))).toBeInstanceOf(TimeoutError);
    expect(await store.add('n', 1)).toBe(1n);
  });

  it('an abort ends a wait at once, with its reason as cause', async () => {
    const store = await listen();
    const control = new AbortController();
    const waiting = failure(store.get('never', { signal: control.signal }));
    const other = failure(store.wait(['never'], { signal: control.signal }));
    await store.set('k', '');
    const reason = new Error('enough');
    control.abort(reason);
    for (const error of await Promise.all([waiting, other])) {
      expect(error).toBeInstanceOf(AbortedError);
      expect(error.cause).toBe(reason);
    }
    expect(await failure(store.set('k', 'v', { signal: control.signal }))).toBeInstanceOf(AbortedError);
    expect(text(await store.get('k'))).toBe('');
  });

  it('close ends what is pending and is idempotent', async () => {
    const store = await listen();
    const pending = [store.get('never'), store.wait(['never']), store.multiGet(['never'])].map(failure);
    await store.check([]);
    await Promise.all([store.close(), store.close()]);
    for (const error of await Promise.all(pending)) expect(error).toBeInstanceOf(ClosedError);
    const after = await failure(store.get('k'));
    expect(after).toBeInstanceOf(ClosedError);
    expect(after.op).toBe('store.get');
    await store.close();
    let inside: TcpStore;
    {
      await using scoped = await TcpStore.listen();
      inside = scoped;
    }
    expect(inside.closed).toBe(true);
  });

  it('a lost server is a NetworkError, also for who waits', async () => {
    const server = await listen();
    const store = await connect({ host: server.host, port: server.port });
    const waiting = failure(store.get('never'));
    await store.check([]);
    await server.close();
    expect(await waiting).toBeInstanceOf(NetworkError);
    expect(await failure(store.add('n', 1))).toBeInstanceOf(NetworkError);
    expect((await failure(store.set('k', 'v'))).message).toContain('/k');
  });

  it('a server that is gone before the wait has its connection is noticed too', async () => {
    const server = await listen();
    const store = await connect({ host: server.host, port: server.port });
    const waiting = failure(store.get('never'));
    const other = failure(store.get('never', { timeoutMs: 50 }));
    await server.close(); // whether the waits had their connections by now is open
    expect(await waiting).toBeInstanceOf(NetworkError);
    expect(['NETWORK', 'TIMEOUT']).toContain((await other).code);
  });

  it('refuses what the server cannot do, and wrong arguments before that', async () => {
    const server = await listen();
    const store = await connect({ host: server.host, port: server.port });
    for (const call of [
      () => store.get(7 as never),
      () => store.set('k', 7 as never),
      () => store.multiSet(['a'], []),
      () => store.add('k', 1.5),
      () => store.get('k', { timeoutMs: -1 }),
      () => store.get('k', { signal: {} as never }),
      () => TcpStore.connect({ host: 'localhost', port: 0 }),
      () => TcpStore.connect(undefined as never),
      () => TcpStore.listen({ listenFd: 3, port: 1 }),
    ]) {
      expect(await failure(call())).toBeInstanceOf(InvalidArgumentError);
    }
    await store.set('text', 'abc');
    expect(await failure(store.add('text', 1))).toBeInstanceOf(NetworkError);
    expect(await server.add('n', 1)).toBe(1n);
  });

  it('says what stands in the way of listening', async () => {
    const store = await listen();
    const taken = await failure(TcpStore.listen({ port: store.port }));
    expect(taken).toBeInstanceOf(AddressInUseError);
    expect(taken.code).toBe('EADDRINUSE');
    expect(await failure(TcpStore.listen({ host: '192.0.2.1', allowUnauthenticated: true }))).toBeInstanceOf(
      AddressUnavailableError,
    );
    expect(await failure(TcpStore.listen({ host: 'no-such-host.invalid' }))).toBeInstanceOf(NetworkError);
    const notOpen = await failure(TcpStore.listen({ listenFd: 9999 }));
    expect(notOpen).toBeInstanceOf(InvalidArgumentError);
    expect(notOpen.message).toContain('listenFd must be a listening TCP socket, but descriptor 9999 is none');
  });

  it('takes over a listening descriptor', async () => {
    const server: Server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    // In a process of its own, as a launcher would hand the descriptor on.
    const script = `
      import { TcpStore } from ${compiled};
      const store = await TcpStore.listen({ listenFd: 3 });
      await store.set('port', String(store.port));
      process.stdin.resume();`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['pipe', 'inherit', 'inherit', (server as unknown as { _handle: { fd: number } })._handle.fd],
    });
    server.close();
    const store = await connect({ host: '127.0.0.1', port });
    expect(text(await store.get('port'))).toBe(String(port));
    const exited = once(child, 'exit');
    child.kill();
    await exited;
  });

  it('waits for a server that comes later, within its time', async () => {
    const port = await freePort();
    expect(await failure(TcpStore.connect({ host: '127.0.0.1', port, timeoutMs: 50 }))).toBeInstanceOf(
      TimeoutError,
    );
    const connecting = connect({ host: 'localhost', port, timeoutMs: 20_000 });
    const server = await listen({ port });
    await server.set('k', 'v');
    expect(text(await (await connecting).get('k'))).toBe('v');
    const control = new AbortController();
    const aborted = failure(
      TcpStore.connect({ host: '127.0.0.1', port: await freePort(), signal: control.signal }),
    );
    control.abort();
    expect(await aborted).toBeInstanceOf(AbortedError);
  });

  it('a start that was aborted leaves its port free', async () => {
    const port = await freePort();
    const signal = AbortSignal.abort(new Error('no more'));
    expect(await failure(TcpStore.listen({ port, signal }))).toBeInstanceOf(AbortedError);
    await listen({ port, timeoutMs: 20_000 });
  });

  it('tells a stranger from a store', async () => {
    const http = createServer((socket) => {
      socket.on('error', () => {}); // the client may close before it has read all
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    }).listen(0, '127.0.0.1');
    await once(http, 'listening');
    const { port } = http.address() as { port: number };
    expect(await failure(TcpStore.connect({ host: '127.0.0.1', port }))).toBeInstanceOf(ProtocolError);
    http.close();
  });

  it('drops strangers and serves the others', async () => {
    const store = await listen();
    const strangers = Array.from({ length: 300 }, () => {
      const socket = netConnect(store.port, store.host, () => socket.write('GET / HTTP/1.0\r\n\r\n'));
      socket.on('error', () => {});
      socket.resume();
      return once(socket, 'close');
    });
    expect(await store.add('n', 1)).toBe(1n);
    await Promise.all(strangers);
  });

  it('serves while the JavaScript thread is busy, and leaves it alone while it waits', async () => {
    const server = await listen();
    const script = `
      import { TcpStore } from ${compiled};
      const store = await TcpStore.connect({ host: '127.0.0.1', port: ${server.port} });
      console.log(await store.add('n', 1));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    // Blocks this thread until the child has connected and added: only a native thread can have answered.
    const deadline = Date.now() + 20_000;
    while (Date.now() < deadline && !childHasEnded(child.pid as number)) Atomics.wait(int32, 0, 0, 5);
    expect(childHasEnded(child.pid as number)).toBe(true);
    expect(await server.check(['n'])).toBe(true);
    expect(text(await server.get('n'))).toBe('1');
    await exited;
  });

  it('does not keep the process alive, a pending operation does', async () => {
    const run = (body: string) =>
      promisify(execFile)(
        process.execPath,
        ['--input-type=module', '-e', `import { TcpStore } from ${compiled};${body}`],
        { timeout: 20_000 },
      );
    await run('const s = await TcpStore.listen(); await s.set("k", "v");');
    const { stdout } = await run(`
      const s = await TcpStore.listen();
      s.get('never', { timeoutMs: 100 }).catch((error) => console.log(error.code));`);
    expect(stdout.trim()).toBe('TIMEOUT');
    await run('const s = await TcpStore.listen(); s.get("never"); await s.check([]); process.exit(0);');
    await run('const s = await TcpStore.listen(); s.get("never").catch(() => {}); process.exit(0);');
    await expect(
      run('const s = await TcpStore.listen(); s.get("never"); await s.check([]); throw new Error("x");'),
    ).rejects.toMatchObject({ code: 1 });
  });

  it('ends with its worker, in whatever state', async () => {
    for (const last of [
      'process.exit(0)',
      'throw new Error("x")',
      'parentPort.postMessage("terminate")',
      '',
    ]) {
      const worker = new Worker(
        `import { TcpStore } from ${compiled};
         import { parentPort } from 'node:worker_threads';
         const store = await TcpStore.listen();
         const other = await TcpStore.connect({ host: store.host, port: store.port });
         other.get('never', { timeoutMs: ${last === '' ? 50 : 60_000} }).catch(() => {});
         await other.add('n', 1);
         ${last};`,
        { eval: true, execArgv: ['--input-type=module'] },
      );
      worker.on('error', () => {});
      worker.on('message', () => void worker.terminate());
      await new Promise((ended) => worker.on('exit', ended));
    }
  });

  it('gives back threads and descriptors', async () => {
    const count = () => ({
      fds: readdirSync('/proc/self/fd').length,
      threads: Number(/Threads:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]),
    });
    const round = async () => {
      await using store = await TcpStore.listen();
      const pending = [store.get('a'), store.get('b'), store.wait(['c'])].map(failure);
      await store.set('k', 'v');
      await store.close();
      await Promise.all(pending);
    };
    for (let i = 0; i < 5; i++) await round();
    const before = count();
    for (let i = 0; i < 100; i++) await round();
    const after = count();
    expect(after.threads).toBeLessThanOrEqual(before.threads);
    expect(after.fds).toBeLessThanOrEqual(before.fds);
  });
});

const int32 = new Int32Array(new SharedArrayBuffer(4));

/** Ended and not yet reaped, which only this (blocked) thread could do. */
function childHasEnded(pid: number): boolean {
  return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
}
