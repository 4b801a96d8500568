import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { storeGreeting } from '../helpers/rank-keys.ts';
import { all, type RankProcess, startRanks } from '../helpers/ranks.ts';
import { freePort, listeners } from '../helpers/sockets.ts';

/** A connection that is made and stays until the test ends or the other side is tired of it. */
function visit(port: number): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket));
    socket.on('error', () => resolve(socket));
    socket.resume();
    onTestFinished(() => void socket.destroy());
  });
}

// A hello of the mesh has 48 bytes; VALIDATE of the store is 5 bytes that start with 0.
const garbage = [
  randomBytes(48),
  randomBytes(4096),
  Buffer.alloc(48),
  Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  Buffer.from([0, 0, 0, 0]),
  Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
  Buffer.from([1, 0, 0, 0]),
  Buffer.alloc(256 * 1024, 0xff),
];

const strangers: Record<string, (port: number) => Promise<unknown>> = {
  'who talk nonsense': (port) => Promise.all(garbage.map(async (bytes) => (await visit(port)).write(bytes))),
  'who talk nonsense and hang up': (port) =>
    Promise.all(garbage.map(async (bytes) => (await visit(port)).end(bytes))),
  'who are silent': (port) => Promise.all(Array.from({ length: 20 }, () => visit(port))),
  'who connect and reset': (port) =>
    Promise.all(Array.from({ length: 50 }, async () => (await visit(port)).resetAndDestroy())),
  'who greet the store correctly': (port) =>
    Promise.all(Array.from({ length: 10 }, async () => (await visit(port)).write(storeGreeting))),
  '500 of them': (port) => Promise.all(Array.from({ length: 500 }, () => visit(port))),
  '1,000 of them who talk nonsense': (port) =>
    Promise.all(
      Array.from({ length: 1_000 }, async (_, i) =>
        (await visit(port)).end(garbage[i % garbage.length] as Buffer),
      ),
    ),
  'who say one byte of a greeting every second': async (port) => {
    const sockets = await Promise.all(Array.from({ length: 20 }, () => visit(port)));
    let said = 0;
    const say = () => {
      const at = said % storeGreeting.length;
      for (const socket of sockets) socket.write(storeGreeting.subarray(at, at + 1));
      said += 1;
    };
    say();
    const timer = setInterval(say, 1_000);
    onTestFinished(() => clearInterval(timer));
  },
};

describe('strangers at every listening port while a group forms', () => {
  for (const [what, come] of Object.entries(strangers)) {
    it(`${what}: it forms all the same`, async () => {
      const ranks: RankProcess[] = startRanks('rendezvous/rank.mjs', 4);
      await all(ranks, 'ready');
      const port = await freePort();
      const join = (rank: number) =>
        ranks[rank]?.send({
          do: 'join',
          id: 'g',
          rank,
          options: { masterAddr: '127.0.0.1', masterPort: port, rank, worldSize: 4, initTimeoutMs: 20_000 },
        });
      for (const rank of [0, 1, 2]) join(rank);
      const found = await Promise.all(
        [2, 1, 1].map((count, rank) => listening(ranks[rank] as RankProcess, count)),
      );
      await Promise.all(found.flat().map(come));
      // The last rank comes while they are there, and more come while it does.
      const more = found.flat().map(come);
      join(3);
      const formed = await all(ranks, 'formed');
      await Promise.all(more);
      expect(formed[3]?.['ms']).toBeLessThan(5_000);
      for (const [rank, process] of ranks.entries()) process.send({ do: 'vote', id: 'g', value: rank === 3 });
      for (const { any } of await all(ranks, 'voted')) expect(any).toBe(true);
    });
  }

  it('at the store of a group that stands: it votes on, and others are still turned away', async () => {
    const ranks = startRanks('rendezvous/rank.mjs', 3);
    await all(ranks, 'ready');
    const port = await freePort();
    const options = { masterAddr: '127.0.0.1', masterPort: port, worldSize: 2, initTimeoutMs: 20_000 };
    for (const rank of [0, 1])
      ranks[rank]?.send({ do: 'join', id: 'g', rank, options: { ...options, rank } });
    await all(ranks.slice(0, 2), 'formed');
    for (const come of Object.values(strangers)) {
      await come(port);
      for (const process of ranks.slice(0, 2)) process.send({ do: 'vote', id: 'g', value: true });
      for (const { any } of await all(ranks.slice(0, 2), 'voted')) expect(any).toBe(true);
    }
    ranks[2]?.send({ do: 'join', id: 'g', rank: 1, options: { ...options, rank: 1 } });
    expect((await ranks[2]?.next('failed'))?.['error']).toMatchObject({ code: 'RANK_TAKEN', peer: 1 });
  });
});

/** The ports of a rank, once it has `count`. */
async function listening(rank: RankProcess, count: number): Promise<number[]> {
  const until = performance.now() + 10_000;
  for (;;) {
    const ports = listeners(rank.pid).map((socket) => socket.port);
    if (ports.length >= count) return ports;
    if (performance.now() > until) throw new Error(`${rank.name} listens on ${ports} only`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
