import { randomBytes } from 'node:crypto';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { storeGreeting } from '../helpers/rank-keys.ts';
import { all, type RankProcess, startRank, startRanks } from '../helpers/ranks.ts';
import { freePort, listen, listeners } from '../helpers/sockets.ts';
import { home, overHosts } from '../helpers/spread.ts';

/** Where somebody listens. */
interface Place {
  address: string;
  port: number;
}

/** A connection that is made and stays until the test ends or the other side is tired of it. */
function visit({ address, port }: Place): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(port, address, () => resolve(socket));
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

const strangers: Record<string, (at: Place) => Promise<unknown>> = {
  'who talk nonsense': (at) => Promise.all(garbage.map(async (bytes) => (await visit(at)).write(bytes))),
  'who talk nonsense and hang up': (at) =>
    Promise.all(garbage.map(async (bytes) => (await visit(at)).end(bytes))),
  'who are silent': (at) => Promise.all(Array.from({ length: 20 }, () => visit(at))),
  'who connect and reset': (at) =>
    Promise.all(Array.from({ length: 50 }, async () => (await visit(at)).resetAndDestroy())),
  'who greet the store correctly': (at) =>
    Promise.all(Array.from({ length: 10 }, async () => (await visit(at)).write(storeGreeting))),
  // A rank that still waits for others does not look at its port, whose queue takes some of them.
  '2,000 who are silent': (at) => Promise.all(Array.from({ length: 2_000 }, () => visit(at)).slice(0, 800)),
  '300 who begin a handshake and stop': (at) =>
    Promise.all(Array.from({ length: 300 }, async () => (await visit(at)).write(greeting))),
  '1,000 of them who talk nonsense': (at) =>
    Promise.all(
      Array.from({ length: 1_000 }, async (_, i) =>
        (await visit(at)).end(garbage[i % garbage.length] as Buffer),
      ),
    ),
  'who say one byte of a greeting every second': async (at) => {
    const sockets = await Promise.all(Array.from({ length: 20 }, () => visit(at)));
    let said = 0;
    const say = () => {
      const next = said % storeGreeting.length;
      for (const socket of sockets) socket.write(storeGreeting.subarray(next, next + 1));
      said += 1;
    };
    say();
    const timer = setInterval(say, 1_000);
    onTestFinished(() => clearInterval(timer));
  },
};

/** Of each kind some, together fewer than the queue takes of a port that is not looked at yet. */
const someOfEach = Object.entries(strangers)
  .filter(([what]) => !/\d,000/.test(what))
  .map(([, come]) => come);

function joinAs(ranks: readonly RankProcess[], rank: number, port: number, access: object): void {
  const options = { masterAddr: home(), masterPort: port, rank, worldSize: ranks.length };
  ranks[rank]?.send({ do: 'join', id: 'g', rank, options: { ...options, initTimeoutMs: 20_000, ...access } });
}

async function voteAll(ranks: readonly RankProcess[]): Promise<void> {
  for (const process of ranks) process.send({ do: 'vote', id: 'g', value: true });
  for (const { any } of await all(ranks, 'voted')) expect(any).toBe(true);
}

describe.each<[string, { secret?: string }]>([
  // Between hosts groups have one.
  ...(overHosts ? [] : [['without a secret', {}] as [string, object]]),
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
      await come({ address: home(), port });
      await voteAll(group);
    }
    const options = {
      masterAddr: home(),
      masterPort: port,
      rank: 1,
      worldSize: 2,
      initTimeoutMs: 20_000,
    };
    ranks[2]?.send({ do: 'join', id: 'g', rank: 1, options: { ...options, ...access } });
    expect((await ranks[2]?.next('failed'))?.['error']).toMatchObject({ code: 'RANK_TAKEN', peer: 1 });
  });

  it('while a group is formed again without rank 0: it forms all the same', async () => {
    const ranks = startRanks('rendezvous/rank.mjs', 4);
    await all(ranks, 'ready');
    const port = await freePort();
    for (const rank of [0, 1, 2, 3]) joinAs(ranks, rank, port, access);
    await all(ranks, 'formed');
    // Where it may be formed again is bound on every rank, and nobody listens there yet.
    ranks[0]?.send({ do: 'info', id: 'g' });
    const { members } = (await (ranks[0] as RankProcess).next('info'))['info'];
    for (const { reformAt } of members as { reformAt: string }[]) {
      const { hostname, port: held } = new URL(`tcp://${reformAt}`);
      expect(await whyRefused({ address: hostname, port: Number(held) })).toBe('ECONNREFUSED');
    }
    const survivors = ranks.slice(1);
    for (const process of survivors) process.send({ do: 'vote', id: 'g', value: false });
    ranks[0]?.kill();
    await all(survivors, 'voteFailed');
    for (const process of survivors.slice(0, 2)) process.send({ do: 'reform', id: 'g' });
    const found = await Promise.all([2, 1].map((count, i) => listening(survivors[i] as RankProcess, count)));
    for (const come of someOfEach) await Promise.all(found.flat().map(come));
    const more = someOfEach.flatMap((come) => found.flat().map(come));
    survivors[2]?.send({ do: 'reform', id: 'g' });
    const reformed = await all(survivors, 'reformed');
    await Promise.all(more);
    expect(reformed[2]?.['ms']).toBeLessThan(5_000);
    await voteAll(survivors);
  });
});

// A launcher serves one host.
it.skipIf(overHosts)(
  'at the port that `launch` holds, before rank 0 comes to it: the job forms',
  async () => {
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    const program = fileURLToPath(new URL('../fixtures/rendezvous/launched.mjs', import.meta.url));
    const job = startRank('rendezvous/launched.mjs', {
      command: [
        process.execPath,
        main,
        'launch',
        '--nproc',
        '3',
        '--no-prefix',
        '--',
        process.execPath,
        program,
      ],
      name: 'launch',
    });
    const [started] = await Promise.all([1, 2, 3].map(() => job.next('started')));
    const place = { address: '127.0.0.1', port: started?.['port'] as number };
    for (const come of someOfEach) await come(place);
    // The launcher passes it on to the ranks, which form their group now.
    job.kill('SIGUSR1');
    const more = someOfEach.map((come) => come(place));
    for (const { any, ms } of await Promise.all([1, 2, 3].map(() => job.next('voted')))) {
      expect(any).toBe(true);
      expect(ms).toBeLessThan(5_000);
    }
    await Promise.all(more);
    expect(await job.exited).toEqual({ code: 0, signal: null });
  },
);

describe('what somebody recorded', () => {
  /** Passes on what comes for a port, and keeps what each caller said. */
  async function recorder(to: number): Promise<{ port: number; said: Buffer[]; server: Server }> {
    const said: Buffer[] = [];
    const server = createServer((caller) => {
      const at = said.push(Buffer.alloc(0)) - 1;
      const onward = connect(to, home());
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
    const replay = async (at: Place, looksAtIt: boolean) => {
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
    await replay({ address: home(), port }, true);
    await voteAll(first);
    for (const process of first) process.send({ do: 'close', id: 'g' });
    await all(first, 'closed');

    const later = startRanks('rendezvous/rank.mjs', 3);
    await all(later, 'ready');
    joinAs(later, 0, port, { secret });
    for (const at of await listening(later[0] as RankProcess, 2)) await replay(at, at.port === port);
    joinAs(later, 1, port, { secret });
    const [second] = await listening(later[1] as RankProcess, 1);
    await replay(second as Place, false);
    joinAs(later, 2, port, { secret });
    await all(later, 'formed');
    await replay({ address: home(), port }, true);
    await voteAll(later);
  });
});

/** Why nobody is reached there. */
function whyRefused({ address, port }: Place): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, address, () => {
      socket.destroy();
      reject(new Error(`somebody listens at ${address}, port ${port}`));
    });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? 'no code'));
  });
}

/** Resolves once the other side has hung up. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}

/** Where a rank listens, once it does so in `count` places. */
async function listening(rank: RankProcess, count: number): Promise<Place[]> {
  const until = performance.now() + 10_000;
  for (;;) {
    const places = listeners(rank.pid);
    if (places.length >= count) return places;
    if (performance.now() > until) throw new Error(`${rank.name} listens on ${JSON.stringify(places)} only`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
