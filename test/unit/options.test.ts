// What ProcessGroup.create() refuses before anything is opened: each message names the option and what it should be.
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { InvalidArgumentError, ProcessGroup } from 'node-collectives';
import { expect, onTestFinished, test, vi } from 'vitest';

const good = { masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1 };

test.each([
  [{ timeout: 5 }, "there is no option 'timeout'; did you mean timeoutMs?"],
  [{ colour: 'red' }, "there is no option 'colour'; there are masterAddr, masterPort"],
  [{ masterAddr: 'tcp://127.0.0.1' }, 'masterAddr must be an address or host name, without scheme'],
  [{ masterAddr: '127.0.0.1:29500' }, 'without scheme, brackets or port'],
  [{ masterAddr: '[::1]' }, 'without scheme, brackets or port'],
  [{ masterPort: 70_000 }, 'masterPort must be a whole number from 0 to 65535, but is 70000'],
  [{ masterPort: [] }, 'at least one candidate, but is an array of 0'],
  [{ masterPorts: [1] }, 'masterPorts must be left out where masterPort is given'],
  [{ rank: Number.NaN }, 'rank must be a whole number from 0 to 0, but is NaN'],
  [{ rank: 1, worldSize: 2 }, 'give a port (VLLM_DP_MASTER_PORT'],
  [{ store: {} }, 'store must be a TcpStore, or an object with set, get and add'],
  [{ store: 'redis' }, "but is 'redis'"],
  [{ settings: 'x' }, 'settings must be an object of names and texts'],
  [{ settings: { a: 1 } }, 'settings.a must be a text, but is 1'],
  [{ settings: { 'a=b': 'c' } }, "a name in settings must be some text without '='"],
  [{ signal: new AbortController() }, 'signal must be an AbortSignal, but is an object of AbortController'],
  [{ secret: '' }, 'secret is empty'],
  [{ secret: 'x'.repeat(15) }, 'secret has 15 bytes, 16 are the least'],
  [{ secret: `${'x'.repeat(20)}\0` }, 'secret must not contain a zero byte'],
  [{ secret: 5 }, 'secret must be a text, or null for none, it is of type number'],
  [{ allowUnauthenticated: 'yes' }, 'allowUnauthenticated must be true or false'],
  [{ masterAddr: '192.0.2.1' }, 'allowUnauthenticated: true'],
  [{ masterAddr: '0.0.0.0' }, 'secret (option secret, or NODE_COLLECTIVES_SECRET)'],
  [{ masterAddr: '::' }, 'other hosts may reach ::'],
  [{ masterAddr: '192.0.2.1', rank: 1, worldSize: 2, masterPort: 9, secret: null }, 'allowUnauthenticated'],
  [{ listenFd: 5, rank: 1, worldSize: 2, masterPort: 9 }, 'listenFd must be given on rank 0 only'],
])('%j is refused', async (options, text) => {
  const created = ProcessGroup.create({ ...good, ...options } as never);
  await expect(created).rejects.toThrow(InvalidArgumentError);
  await expect(created).rejects.toThrow(text);
});

test('rank 0 is told that the launcher holds its port', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  vi.stubEnv('MASTER_ADDR', '127.0.0.1');
  vi.stubEnv('MASTER_PORT', String(port));
  vi.stubEnv('NODE_COLLECTIVES_LISTEN_FD', String(fd));
  await expect(ProcessGroup.create({ ...good, masterPort: port })).rejects.toThrow(
    `the launcher holds port ${port} open for this rank; pass it on with \`listenFd: listenFdFromEnvironment()\``,
  );
});
