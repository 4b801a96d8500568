import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { all, type RankProcess, startRank, startRanks } from '../helpers/ranks.ts';
import { freePorts, listen } from '../helpers/sockets.ts';
import { home, homeIn } from '../helpers/spread.ts';

const fixture = 'rendezvous/rank.mjs';
const warning = 'Address already in use. Retrying with a new port.';

/** Takes whole lists of connections down with the server. */
async function hold(server: Server, port: number): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  });
  await listen(server, port);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
}

const strangers = {
  'a silent listener': (port: number) => hold(createServer(), port),
  'an HTTP server': (port: number) =>
    hold(
      createHttpServer((_, response) => response.end('hello')),
      port,
    ),
  // The same name, size and kind of group, but of another job.
  "another job's store": async (port: number) => {
    const other = startRank(fixture, { name: 'other job', env: { NODE_COLLECTIVES_JOB_ID: 'other' } });
    for (const rank of [0, 1, 2, 3]) {
      other.send({ do: 'dp', id: rank, rank, size: 4, ip: home(), ports: [port] });
    }
    for (const _ of [0, 1, 2, 3]) await other.next('formed');
  },
};

const mine = { env: { NODE_COLLECTIVES_JOB_ID: 'mine' } };

/** All ranks of one group, one process each. */
async function dpRanks(size: number): Promise<RankProcess[]> {
  const ranks = startRanks(fixture, size, () => mine);
  await all(ranks, 'ready');
  return ranks;
}

/** All of them join one group on the first of these ports that they can have. */
function joinAll(
  ranks: readonly RankProcess[],
  how: { id: unknown; ports: number[]; at?: number; options: object },
): void {
  for (const [rank, process] of ranks.entries())
    process.send({ do: 'dp', rank, size: ranks.length, ip: home(), ...how });
}

describe('candidate ports held by strangers', () => {
  for (const [what, take] of Object.entries(strangers)) {
    it(`${what} on the first 1, 2, 3, 4: all ranks form on the next`, async () => {
      const ranks = await dpRanks(4);
      for (const taken of [1, 2, 3, 4]) {
        const ports = await freePorts(6);
        for (const port of ports.slice(0, taken)) await take(port);
        const at = Date.now() + 30;
        joinAll(ranks, { id: taken, ports, at, options: { initTimeoutMs: 20_000 } });
        for (const formed of await all(ranks, 'formed')) {
          expect(formed).toMatchObject({
            port: ports[taken],
            portIndex: taken,
            left: ports.slice(taken + 1),
          });
        }
        expect(
          ranks.map((rank) => rank.events.filter((e) => e.event === 'warning').map((e) => e['text'])),
        ).toEqual([Array(taken).fill(warning), [], [], []]);
        for (const rank of ranks) rank.events.length = 0;
        for (const [rank, process] of ranks.entries())
          process.send({ do: 'vote', id: taken, value: rank === taken - 1 });
        for (const { any } of await all(ranks, 'voted')) expect(any).toBe(true);
      }
    });
  }

  it('all 5 held: EADDRINUSE on rank 0, and every other rank says what it met, in its deadline', async () => {
    const ranks = await dpRanks(3);
    const ports = await freePorts(5);
    await strangers['a silent listener'](ports[0] as number);
    await strangers['an HTTP server'](ports[1] as number);
    await strangers["another job's store"](ports[2] as number);
    await strangers['an HTTP server'](ports[3] as number);
    await strangers['a silent listener'](ports[4] as number);
    joinAll(ranks, { id: 'g', ports, options: { initTimeoutMs: 1_500 } });
    const [zero, ...others] = await all(ranks, 'failed');
    expect(zero?.['error']).toMatchObject({ code: 'EADDRINUSE', name: 'AddressInUseError', rank: 0 });
    for (const port of ports) expect(zero?.['error'].message).toContain(homeIn(port));
    expect(zero?.['ms']).toBeLessThan(1_000);
    for (const { error, ms } of others) {
      expect(error).toMatchObject({ code: 'RENDEZVOUS_FAILED', name: 'RendezvousError' });
      expect(error.message).toMatch(new RegExp(`:${ports[0]}: .*silent`));
      expect(error.message).toMatch(new RegExp(`:${ports[1]}: .*no TCPStore; it said .*HTTP/1.1 400`));
      expect(error.message).toMatch(
        new RegExp(`:${ports[2]}: the store of group 'dp' of job 'other' \\(4 ranks`),
      );
      expect(error.message).toMatch(new RegExp(`:${ports[4]}: .*silent`));
      expect(ms).toBeGreaterThan(1_400);
      expect(ms).toBeLessThan(2_500);
    }
    expect(ranks[0]?.events.filter((e) => e.event === 'warning')).toHaveLength(5);
  });

  it('a port that its holder gives back while the ranks look: all agree all the same', async () => {
    const ranks = await dpRanks(4);
    for (let round = 0; round < 10; round += 1) {
      const ports = await freePorts(5);
      const holders = await Promise.all(ports.slice(0, 3).map((port) => listen(createServer(), port)));
      const at = Date.now() + 20;
      joinAll(ranks, { id: round, ports, at, options: { initTimeoutMs: 20_000 } });
      await all(ranks, 'joining');
      for (const holder of holders) {
        await setImmediate();
        holder.close();
      }
      const formed = await all(ranks, 'formed');
      expect(new Set(formed.map((e) => e['port'])).size).toBe(1);
      expect(new Set(formed.map((e) => JSON.stringify(e['left']))).size).toBe(1);
    }
  });
});

describe('many groups at once', () => {
  it('50 groups of 4 while others take and release their ports: none fails', async () => {
    const groups = 50;
    const size = 4;
    const processes = startRanks(fixture, 8);
    const churn = startRanks('rendezvous/churn.mjs', 2, (i) => ({ name: `churn ${i}` }));
    await all([...processes, ...churn], 'ready');
    // Neighbours share the first two candidates; the last is nobody else's, so that it is always possible.
    const pool = await freePorts(groups * 5);
    const ports = Array.from({ length: groups }, (_, g) => [
      ...pool.slice(10 * (g >> 1), 10 * (g >> 1) + 2),
      ...pool.slice(5 * g + 2, 5 * g + 5),
    ]);
    const last = new Set(ports.map((list) => list[4]));
    const contested = pool.filter((port) => !last.has(port));
    for (const [i, process] of churn.entries()) {
      process.send({
        ports: contested.filter((_, at) => at % churn.length === i),
        host: home(),
        seed: 7 + i,
      });
    }
    await all(churn, 'churning');
    const at = Date.now() + 200;
    const place = (group: number, rank: number) =>
      // Also over two hosts: rank 0 is on the first.
      processes[(2 * group + rank) % processes.length] as RankProcess;
    const each = <T>(act: (process: RankProcess, group: number, rank: number) => T): T[] =>
      Array.from({ length: groups * size }, (_, i) => act(place(i >> 2, i & 3), i >> 2, i & 3));
    each((process, g, rank) =>
      process.send({
        do: 'dp',
        id: `${g}`,
        rank,
        size,
        ip: home(),
        ports: ports[g],
        at,
        options: { groupName: `group-${g}`, initTimeoutMs: 30_000 },
      }),
    );
    const formed = await Promise.all(
      each(async (process, g) => {
        const failed = process.events.find((e) => e.event === 'failed');
        if (failed !== undefined) throw new Error(JSON.stringify(failed));
        return process.next('formed', 40_000, (e) => e['id'] === `${g}`);
      }),
    );
    for (let g = 0; g < groups; g += 1) {
      const ranks = formed.slice(4 * g, 4 * g + 4);
      expect(new Set(ranks.map((e) => e['port'])).size).toBe(1);
      expect(ports[g]).toContain(ranks[0]?.['port']);
      expect(new Set(ranks.map((e) => JSON.stringify(e['left']))).size).toBe(1);
    }
    const held = await Promise.all(
      churn.map((c) => {
        c.send({ stop: true });
        return c.next('stopped');
      }),
    );
    const index = formed.filter((e) => e['rank'] === 0).map((e) => e['portIndex'] as number);
    const moved = index.filter((i) => i > 0).length;
    const ms = formed.map((e) => e['ms'] as number).sort((a, b) => a - b);
    console.log(
      `50 groups of 4: ${moved} groups moved on from their first port; ` +
        `${held.reduce((n, e) => n + (e['taken'] as number), 0)} takings meanwhile; ` +
        `ms min/median/max ${ms[0]?.toFixed(0)}/${ms[100]?.toFixed(0)}/${ms.at(-1)?.toFixed(0)}`,
    );
    // Only rank `g mod 4` has work; then nobody.
    for (const value of [true, false]) {
      each((process, g, rank) => process.send({ do: 'vote', id: `${g}`, value: value && rank === g % 4 }));
      await Promise.all(
        each(async (process, g) => {
          const { any } = await process.next('voted', 20_000, (e) => e['id'] === `${g}`);
          expect(any).toBe(value);
        }),
      );
    }
  });
});
