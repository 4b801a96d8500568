import { randomBytes } from 'node:crypto';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { storeGreeting } from '../helpers/rank-keys.ts';
import { all, type RankProcess, startRanks } from '../helpers/ranks.ts';
import { freePort, listen, listeners } from '../helpers/sockets.ts';

/** A connection that is made and stays until the test ends or the other side is tired of it. */
function visit(port: number): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket));
    socket.on('error', () => resolve(socket));
    socket.resume();
    onTestFinished(() => void socket.destroy());
  });
}

const secret = 'a secret of the tests';

// The first eight bytes of a greeting, with a secret; what follows is made up.
const greeting = Buffer.concat([
  Buffer.from('NCSEC\r\n\x01', 'latin1'),
  Buffer.from([2, 1, 0, 0]),
  randomBytes(72),
]);

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
  greeting,
  greeting.subarray(0, 20),
  Buffer.concat([greeting, randomBytes(32)]),
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
  // A rank that still waits for others does not look at its port, whose queue takes some of them.
  '2,000 who are silent': (port) =>
    Promise.all(Array.from({ length: 2_000 }, () => visit(port)).slice(0, 800)),
  '300 who begin a handshake and stop': (port) =>
    Promise.all(Array.from({ length: 300 }, async () => (await visit(port)).write(greeting))),
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

function joinAs(ranks: readonly RankProcess[], rank: number, port: number, access: object): void {
  const options = { masterAddr: '127.0.0.1', masterPort: port, rank, worldSize: ranks.length };
  ranks[rank]?.send({ do: 'join', id: 'g', rank, options: { ...options, initTimeoutMs: 20_000, ...access } });
}

async function voteAll(ranks: readonly RankProcess[]): Promise<void> {
  for (const process of ranks) process.send({ do: 'vote', id: 'g', value: true });
  for (const { any } of await all(ranks, 'voted')) expect(any).toBe(true);
}

describe.each([
  ['without a secret', {}],
  ['with a secret', { secret }],
])('strangers at every listening port while a group forms %s', (_how, access) => {
  for (const [what, come] of Object.entries(strangers)) {
    it(`${what}: it forms all the same`, async () => {
      const ranks: RankProcess[] = startRanks('rendezvous/rank.mjs', 4);
      await all(ranks, 'ready');
      const port = await freePort();
      const join = (rank: number) => joinAs(ranks, rank, port, access);
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
    const group = ranks.slice(0, 2);
    for (const rank of [0, 1]) joinAs(group, rank, port, access);
    await all(group, 'formed');
    for (const come of Object.values(strangers)) {
      await come(port);
      await voteAll(group);
    }
    const options = {
      masterAddr: '127.0.0.1',
      masterPort: port,
      rank: 1,
      worldSize: 2,
      initTimeoutMs: 20_000,
    };
    ranks[2]?.send({ do: 'join', id: 'g', rank: 1, options: { ...options, ...access } });
    expect((await ranks[2]?.next('failed'))?.['error']).toMatchObject({ code: 'RANK_TAKEN', peer: 1 });
  });
});

describe('what somebody recorded', () => {
  /** Passes on what comes for a port, and keeps what each caller said. */
  async function recorder(to: number): Promise<{ port: number; said: Buffer[]; server: Server }> {
    const said: Buffer[] = [];
    const server = createServer((caller) => {
      const at = said.push(Buffer.alloc(0)) - 1;
      const onward = connect(to, '127.0.0.1');
      caller.on('data', (bytes) => {
        said[at] = Buffer.concat([said[at] as Buffer, bytes]);
        onward.write(bytes);
      });
      onward.on('data', (bytes) => caller.write(bytes));
      for (const [one, other] of [
        [caller, onward],
        [onward, caller],
      ] as const)
        one.on('error', () => {}).on('close', () => other.destroy());
    });
    const port = await freePort();
    await listen(server, port);
    onTestFinished(() => void server.close());
    return { port, said, server };
  }

  it('of a true member is of no use at any port, before, while and after a group forms', async () => {
    const first = startRanks('rendezvous/rank.mjs', 2);
    await all(first, 'ready');
    const port = await freePort();
    const { port: through, said } = await recorder(port);
    joinAs(first, 0, port, { secret });
    joinAs(first, 1, through, { secret });
    await all(first, 'formed');
    // Greeting, proof and all the requests of rank 1: registering, being ready.
    const recorded = said.find((bytes) => bytes.includes('node-collectives/rank/1')) as Buffer;
    expect(recorded.length).toBeGreaterThan(116);
    const replay = async (at: number, looksAtIt: boolean) => {
      const calls = await Promise.all(
        [recorded, recorded.subarray(0, 84), recorded.subarray(84)].map(async (bytes) => {
          const call = await visit(at);
          call.write(bytes);
          return call;
        }),
      );
      const all = await visit(at);
      all.write(recorded.subarray(0, 84)); // and, as a caller would, the rest once there is an answer
      all.once('data', () => all.write(recorded.subarray(84)));
      if (looksAtIt) await Promise.all([calls[0] as Socket, all].map((call) => closed(call)));
    };
    // To the very group, which stands.
    await replay(port, true);
    await voteAll(first);
    for (const process of first) process.send({ do: 'close', id: 'g' });
    await all(first, 'closed');

    const later = startRanks('rendezvous/rank.mjs', 3);
    await all(later, 'ready');
    joinAs(later, 0, port, { secret });
    for (const at of await listening(later[0] as RankProcess, 2)) await replay(at, at === port);
    joinAs(later, 1, port, { secret });
    const [second] = await listening(later[1] as RankProcess, 1);
    await replay(second as number, false);
    joinAs(later, 2, port, { secret });
    await all(later, 'formed');
    await replay(port, true);
    await voteAll(later);
  });
});

/** Resolves once the other side has hung up. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}

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
