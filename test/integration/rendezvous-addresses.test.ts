import { spawnSync } from 'node:child_process';
import { type AddressInfo, createServer } from 'node:net';
import { ProcessGroup, TcpStore, TimeoutError } from 'node-collectives';
import { describe, expect, it, onTestFinished } from 'vitest';
import { join, processes, vote } from '../helpers/meeting.ts';
import { registered } from '../helpers/rank-keys.ts';
import { all, type RankProcess, startRank, startRanks } from '../helpers/ranks.ts';
import { freePort, freePorts, listen, listeners } from '../helpers/sockets.ts';

const fixture = 'rendezvous/rank.mjs';

describe('addresses', () => {
  it('listens on 127.0.0.1 and nothing else', async () => {
    const ranks = await processes(3);
    const port = await freePort();
    join(ranks[0], 0, 3, port);
    join(ranks[1], 1, 3, port);
    await registered(port, [0, 1]);
    // While it forms there are the store's port and one of each rank.
    const forming = ranks.slice(0, 2).map((rank) => listeners(rank.pid));
    expect(forming[0]?.some((s) => s.port === port)).toBe(true);
    join(ranks[2], 2, 3, port);
    await all(ranks, 'formed');
    const standing = ranks.map((rank) => listeners(rank.pid));
    for (const { address } of [...forming, ...standing].flat()) expect(address).toBe('127.0.0.1');
    expect(standing).toEqual([[{ address: '127.0.0.1', port, state: 'listening' }], [], []]);
  });

  it('::1 as a value', async () => {
    const ranks = await processes(2);
    const port = await freePort('::1');
    for (const [rank, process] of ranks.entries()) join(process, rank, 2, port, { masterAddr: '::1' });
    await all(ranks, 'formed');
    expect(listeners(ranks[0]?.pid as number)).toEqual([{ address: '::1', port, state: 'listening' }]);
    ranks[1]?.send({ do: 'info', id: 'g' });
    const { info } = await (ranks[1] as RankProcess).next('info');
    expect(info).toMatchObject({ store: `[::1]:${port}`, port, portIndex: 0 });
    await vote(ranks);
  });

  it('localhost, also where the port is taken on 127.0.0.1', async () => {
    const ranks = await processes(3);
    const port = await freePort();
    for (const [rank, process] of ranks.entries()) join(process, rank, 3, port, { masterAddr: 'localhost' });
    await all(ranks, 'formed');
    expect(listeners(ranks[0]?.pid as number)).toEqual([{ address: '127.0.0.1', port, state: 'listening' }]);
    // The first port is taken on both loopback addresses: one port is used up, not two.
    const ports = await freePorts(2);
    for (const host of ['127.0.0.1', '::1']) {
      const server = await listen(createServer(), ports[0] as number, host);
      onTestFinished(() => void server.close());
    }
    for (const [rank, process] of ranks.entries()) {
      process.send({
        do: 'dp',
        id: 'dp',
        rank,
        size: 3,
        ip: 'localhost',
        ports,
        options: { initTimeoutMs: 20_000 },
      });
    }
    for (const formed of await all(ranks, 'formed')) {
      expect(formed).toMatchObject({ port: ports[1], portIndex: 1, left: [] });
    }
    expect(ranks[0]?.events.filter((e) => e.event === 'warning')).toHaveLength(1);
  });

  it('looks no name up when everything is on loopback', async () => {
    // The fixture reports every look-up of JavaScript's; strace, where there is one, those of native code.
    const strace = spawnSync('strace', ['-V']).error === undefined;
    const command = ['strace', '-f', '-qq', '-e', 'trace=connect,sendto,sendmmsg', process.execPath];
    const ranks = startRanks(fixture, 2, () => (strace ? { command } : {}));
    await all(ranks, 'ready');
    for (const masterAddr of ['127.0.0.1', 'localhost']) {
      const port = await freePort();
      for (const [rank, process] of ranks.entries())
        join(process, rank, 2, port, { id: masterAddr, masterAddr });
      await all(ranks, 'formed');
      await vote(ranks, masterAddr);
    }
    for (const { output, events } of ranks) {
      expect(events.filter((e) => e.event === 'lookup')).toEqual([]);
      if (strace) expect(output).toMatch(/connect\(.*inet_addr\("127\.0\.0\.1"\)/); // it does trace
      expect(output).not.toMatch(/htons\(53\)|nscd|systemd.resolve/);
    }
  });
});

describe('other ways to meet', () => {
  it('a listening descriptor handed over', async () => {
    const server = await listen(createServer(), 0);
    const { port } = server.address() as AddressInfo;
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    const zero = startRank(fixture, { name: 'rank 0', fds: [fd] });
    // Rank 0 has it now; were it open here as well, this process would take some of the connections.
    server.close();
    const [one, two] = await processes(2);
    await zero.next('ready');
    join(one, 1, 3, port);
    join(two, 2, 3, port);
    join(zero, 0, 3, port, { listenFd: 3 });
    const ranks = [zero, one, two] as RankProcess[];
    for (const formed of await all(ranks, 'formed')) expect(formed).toMatchObject({ port, portIndex: 0 });
    await vote(ranks);
  });

  it('port 0 and a coordination store, several times with the same name', async () => {
    const [host, ...ranks] = (await processes(4)) as [RankProcess, ...RankProcess[]];
    host.send({ do: 'listen' });
    const { port } = await host.next('listening');
    for (const process of ranks) process.send({ do: 'store', host: '127.0.0.1', port });
    await all(ranks, 'stored');
    const seen = new Set<number>();
    for (let round = 0; round < 3; round += 1) {
      // Rank 0 last, then first.
      const order = round === 0 ? [2, 1, 0] : [0, 1, 2];
      for (const rank of order) join(ranks[rank], rank, 3, 0, { id: round, useStore: true });
      const formed = await all(ranks, 'formed');
      expect(new Set(formed.map((e) => e['port'])).size).toBe(1);
      seen.add(formed[0]?.['port']);
      await vote(ranks, round);
      // The second time the first group still stands.
      if (round > 0) {
        for (const process of ranks) process.send({ do: 'close', id: round });
        await all(ranks, 'closed');
      }
    }
    expect(seen.size).toBeGreaterThan(1);
    await vote(ranks, 0);
    // A try that one rank never came to, because it had not started yet, does not put it out of step.
    for (const rank of [0, 1])
      join(ranks[rank], rank, 3, 0, { id: 'try', useStore: true, initTimeoutMs: 300 });
    await all(ranks.slice(0, 2), 'failed');
    // Rank 2 first: it finds the failed try, and goes on to the next.
    for (const rank of [2, 1, 0]) join(ranks[rank], rank, 3, 0, { id: 'again', useStore: true });
    await all(ranks, 'formed');
    await vote(ranks, 'again');
  });

  it('several ranks of one group in one process, and many groups at once', async () => {
    const ranks = await processes(2);
    const ports = await freePorts(20);
    const members = (g: number) =>
      [0, 1, 2, 3].map((rank) => ({ rank, process: ranks[(rank + g) & 1] as RankProcess }));
    for (const [g, port] of ports.entries()) {
      for (const { rank, process } of members(g)) {
        join(process, rank, 4, port, { id: `${g}.${rank}`, groupName: `g${g}` });
      }
    }
    const each = <T>(act: (id: string, process: RankProcess) => T) =>
      ports.flatMap((_, g) => members(g).map(({ rank, process }) => act(`${g}.${rank}`, process)));
    await Promise.all(each((id, process) => process.next('formed', 20_000, (e) => e['id'] === id)));
    each((id, process) => process.send({ do: 'sum', id }));
    for (const { sum } of await Promise.all(
      each((id, p) => p.next('summed', 20_000, (e) => e['id'] === id)),
    )) {
      expect(sum).toBe(6);
    }
  });

  it('ranks in worker threads of several processes', async () => {
    const port = await freePort();
    const threads = startRanks('rendezvous/threads.mjs', 2, (i) => ({ args: [`${port}`, `${i}`, '3', '6'] }));
    for (const { sums } of await all(threads, 'summed')) expect(sums).toEqual([15, 15, 15]);
    for (const { code } of await Promise.all(threads.map((t) => t.exited))) expect(code).toBe(0);
  });
});

describe('a rank 0 that never comes', () => {
  const options = { masterAddr: '127.0.0.1', rank: 1, worldSize: 2, initTimeoutMs: 200 };

  it('is what the others miss at its port', async () => {
    const error = await ProcessGroup.create({ ...options, masterPort: await freePort() }).catch((e) => e);
    expect(error).toMatchObject({ code: 'RENDEZVOUS_FAILED', rank: 1, op: 'join', peer: 0, missing: [0] });
  });

  it('is what they miss in a coordination store, also where the store has the last word', async () => {
    await using store = await TcpStore.listen();
    const impatient = {
      set: store.set.bind(store),
      add: store.add.bind(store),
      get: async (key: string) => {
        throw new TimeoutError(`store.get of '${key}'`, { op: 'store.get' });
      },
    };
    for (const each of [store, impatient]) {
      const error = await ProcessGroup.create({ ...options, store: each as TcpStore }).catch((e) => e);
      expect(error).toMatchObject({ code: 'TIMEOUT', rank: 1, op: 'join', peer: 0, missing: [0] });
    }
  });
});
