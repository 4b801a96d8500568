// The data-parallel group's set-up as far as it needs no other process.
import { type AddressInfo, createServer } from 'node:net';
import {
  AddressInUseError,
  addressInUseWarning,
  type DpGroupConfig,
  dpConfigFromEnv,
  hasUnfinishedDp,
  hasUnfinishedDpSync,
  InvalidArgumentError,
  maxInitAttempts,
  type ProcessGroup,
  statelessInitDpGroup,
  syncDpState,
  syncDpStateSync,
  syncKvCacheMemorySize,
  syncKvCacheMemorySizeSync,
} from 'node-collectives';
import { describe, expect, test, vi } from 'vitest';
import { freePorts } from '../helpers/sockets.ts';

describe('dpConfigFromEnv', () => {
  test('reads what the launcher sets', () => {
    const config = dpConfigFromEnv({
      VLLM_DP_SIZE: '4',
      VLLM_DP_RANK: '3',
      VLLM_DP_RANK_LOCAL: '1',
      VLLM_DP_MASTER_IP: '10.0.0.1',
      VLLM_DP_MASTER_PORT: '29500',
    });
    expect(config).toMatchObject({
      dataParallelSize: 4,
      dataParallelRank: 3,
      dataParallelRankLocal: 1,
      dataParallelMasterIp: '10.0.0.1',
      dataParallelMasterPort: 29500,
    });
  });

  test('an empty environment is a group of one', () => {
    expect(dpConfigFromEnv({})).toMatchObject({
      dataParallelSize: 1,
      dataParallelRank: 0,
      dataParallelRankLocal: 0,
    });
    expect(dpConfigFromEnv({ VLLM_DP_SIZE: ' ' }).dataParallelSize).toBe(1);
  });

  test.each(['four', '1.5', '1e3', '0x10', '4 4'])("'%s' is no number", (text) => {
    try {
      dpConfigFromEnv({ VLLM_DP_SIZE: text });
    } catch (error) {
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect((error as Error).message).toContain('VLLM_DP_SIZE');
      return;
    }
    throw new Error('it was taken');
  });

  test('looking at ports does not use them up, taking does', () => {
    const config = dpConfigFromEnv({ VLLM_DP_MASTER_PORT: '100' });
    expect(config.peekDpInitPorts(3)).toEqual([100, 101, 102]);
    expect(config.getNextDpInitPort()).toBe(100);
    expect(config.peekDpInitPorts(2)).toEqual([101, 102]);
  });

  test('there are no ports beyond the last', () => {
    expect(dpConfigFromEnv({ VLLM_DP_MASTER_PORT: '65534' }).peekDpInitPorts(5)).toEqual([65534, 65535]);
  });

  test.each(['-1', '65536'])("'%s' is no port", (text) => {
    expect(() => dpConfigFromEnv({ VLLM_DP_MASTER_PORT: text })).toThrow(
      `VLLM_DP_MASTER_PORT must be a port from 0 to 65535, but is ${text}`,
    );
  });

  test('the launcher hands its descriptor to the first group only', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    const config = dpConfigFromEnv({ NODE_COLLECTIVES_LISTEN_FD: String(fd) });
    expect([config.takeListenFd(), config.takeListenFd()]).toEqual([fd, undefined]);
    const { port } = server.address() as AddressInfo;
    const named = dpConfigFromEnv({
      NODE_COLLECTIVES_LISTEN_FD: String(fd),
      VLLM_DP_MASTER_PORT: String(port),
    });
    expect([named.holdsPort(port + 1), named.holdsPort(port)]).toEqual([false, true]);
    expect([named.handOver(port), named.handOver(port), named.holdsPort(port)]).toEqual([
      fd,
      undefined,
      false,
    ]);
    expect(dpConfigFromEnv({}).takeListenFd()).toBe(undefined);
    server.close();
  });

  test('a descriptor that does not listen is refused', () => {
    expect(() => dpConfigFromEnv({ NODE_COLLECTIVES_LISTEN_FD: '0' }).takeListenFd()).toThrow(
      InvalidArgumentError,
    );
  });
});

const values: [string, () => unknown][] = [];
const group = {} as ProcessGroup; // no ProcessGroup: refused first
for (const [name, call] of Object.entries({
  hasUnfinishedDp: () => hasUnfinishedDp(group, true),
  hasUnfinishedDpSync: () => hasUnfinishedDpSync(group, true),
  syncKvCacheMemorySize: () => syncKvCacheMemorySize(group, 1n),
  syncKvCacheMemorySizeSync: () => syncKvCacheMemorySizeSync(group, 1n),
  syncDpState: () => syncDpState(group, { hasUnfinished: true, pendingPause: false }),
  syncDpStateSync: () => syncDpStateSync(group, { hasUnfinished: true, pendingPause: false }),
})) {
  values.push([name, call]);
}

test.each(values)('%s takes a ProcessGroup only', async (name, call) => {
  const error = await (async () => call())().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect((error as Error).message).toBe(`${name}: group must be a ProcessGroup, but is an object of Object`);
});

/** A configuration over given ports, which notes what was used up. */
function configOf(candidates: number[], dataParallelRank = 0, dataParallelSize = 1, more: object = {}) {
  const used: number[] = [];
  const config: DpGroupConfig = {
    dataParallelMasterIp: '127.0.0.1',
    dataParallelRank,
    dataParallelSize,
    getNextDpInitPort: () => {
      const port = candidates[used.length] as number;
      used.push(port);
      return port;
    },
    peekDpInitPorts: (count) => candidates.slice(used.length, used.length + count),
    ...more,
  };
  return { config, used };
}

describe('statelessInitDpGroup', () => {
  test.each([undefined, null, {}, { peekDpInitPorts: () => [] }])(
    'configuration %j is refused',
    async (config) => {
      const error = await statelessInitDpGroup(config as never).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect((error as Error).message).toContain('config must be a parallel configuration');
    },
  );

  test.each([
    [null, 'options must be an object, but is null'],
    [{ onWarning: 'x' }, "onWarning must be a function, but is 'x'"],
  ])('refuses options %j', async (options, text) => {
    await expect(statelessInitDpGroup(dpConfigFromEnv({}), options as never)).rejects.toThrow(text);
  });

  test('takes the first port, and uses up that one', async () => {
    const candidates = await freePorts(5);
    const { config, used } = configOf(candidates);
    await using group = await statelessInitDpGroup(config);
    expect(group.info()).toMatchObject({ port: candidates[0], portIndex: 0, size: 1, groupName: 'dp' });
    expect(used).toEqual(candidates.slice(0, 1));
  });

  // Rank 0 uses ports up as it tries them, the others once a group stands: what only rank 0 got wrong must not count.
  describe('a wrong argument uses no port up', () => {
    const handOver = vi.fn();
    const wrong: [string, ReturnType<typeof configOf>, object][] = [
      ['of rank 0 among others', configOf([1, 2, 3, 4, 5], 0, 2), { timeoutMs: -1 }],
      ['found after the address', configOf([1, 2, 3, 4, 5], 0, 2, { dataParallelMasterIp: '192.0.2.1' }), {}],
      ['found by the native side', configOf([1, 2, 3, 4, 5], 0, 2), { listenFd: 0 }],
      ['of a group of one that chooses', configOf([0, 0, 0, 0, 0]), { settings: { a: 1 } }],
      ['where a port is held', configOf([1, 2], 0, 2, { holdsPort: () => true, handOver }), { device: -1 }],
    ];
    test.each(wrong)('%s', async (_, { config, used }, options) => {
      await expect(statelessInitDpGroup(config, options)).rejects.toThrow(InvalidArgumentError);
      expect(used).toEqual([]);
      expect(handOver).not.toHaveBeenCalled();
    });

    test('so that the corrected call meets the other ranks, and all have used up the same', async () => {
      const candidates = await freePorts(12);
      const ranks = [configOf(candidates, 0, 2), configOf(candidates, 1, 2)] as const;
      for (let i = 0; i <= maxInitAttempts; i += 1) {
        await expect(statelessInitDpGroup(ranks[0].config, { heartbeatMs: 0 })).rejects.toThrow(
          'heartbeatMs',
        );
      }
      const groups = await Promise.all(
        ranks.map(({ config }) => statelessInitDpGroup(config, { initTimeoutMs: 10_000 })),
      );
      expect(groups.map((group) => group.info().port)).toEqual([candidates[0], candidates[0]]);
      expect(ranks.map(({ used }) => used)).toEqual([[candidates[0]], [candidates[0]]]);
      await Promise.all(groups.map((group) => group.close()));
    });
  });

  test('a port that is taken costs a warning and the next one; all of them, EADDRINUSE', async () => {
    const held = await Promise.all(
      Array.from(
        { length: maxInitAttempts },
        () =>
          new Promise<ReturnType<typeof createServer>>((resolve) => {
            const server = createServer().listen(0, '127.0.0.1', () => resolve(server));
          }),
      ),
    );
    const taken = held.map((server) => (server.address() as { port: number }).port);
    try {
      const [free] = await freePorts(1);
      const some = configOf([taken[0]!, taken[1]!, free!, ...(await freePorts(2))]);
      const warnings: string[] = [];
      const group = await statelessInitDpGroup(some.config, { onWarning: (text) => warnings.push(text) });
      expect(warnings).toEqual([addressInUseWarning, addressInUseWarning]);
      expect(group.info()).toMatchObject({ port: free, portIndex: 2 });
      expect(some.used).toEqual([taken[0], taken[1], free]);
      await group.close();

      const none = configOf(taken);
      warnings.length = 0;
      const error = await statelessInitDpGroup(none.config, {
        onWarning: (text) => warnings.push(text),
      }).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(AddressInUseError);
      expect(error).toMatchObject({ code: 'EADDRINUSE', errno: 'EADDRINUSE' });
      expect(warnings.length).toBe(maxInitAttempts);
      expect(none.used).toEqual(taken);
    } finally {
      for (const server of held) server.close();
    }
  });
});
