/**
 * `npm run test:soak`: 8 ranks, random operations and sizes, and again and again the next generation: the same ranks,
 * one less, one killed and replaced. Every result is checked; memory, descriptors, threads and the time of a vote must
 * not drift.
 */
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { TcpStore } from 'node-collectives';
import { median } from '../../bench/statistics.ts';
import { Crew, type Sailor } from './crew.ts';
import type { Held, Said } from './protocol.ts';
import { Random, seedOf } from './random.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    ranks: { type: 'string', default: '8' },
    steps: { type: 'string', default: '300' },
    seed: { type: 'string' },
  },
});
const size = Number(values.ranks);
const random = new Random(seedOf(values.seed));
const until = performance.now() + Number(values.minutes) * 60_000;
console.log(`soak: ${size} ranks, ${values.minutes} minutes, seed ${random.seed}`);

/** A watch that takes longer hangs. */
const limitMs = 120_000;

interface Watch {
  voteMicros: number;
  /** Of the process that has been there longest. */
  held: Held;
}

await using store = await TcpStore.listen();
await using crew = new Crew({ execArgv: ['--expose-gc'] });
const jobId = randomUUID();
const common = { masterAddr: '127.0.0.1', jobId, initTimeoutMs: 60_000, timeoutMs: 60_000 };
const seeds = () => random.whole(0, 2 ** 32 - 1);

async function heard<E extends Said['event']>(
  from: readonly Sailor[],
  event: E,
): Promise<Extract<Said, { event: E }>[]> {
  const said = await Promise.all(from.map((sailor) => sailor.next([event, 'ended'], limitMs)));
  for (const [rank, each] of said.entries()) {
    if (each.event === 'ended' && event !== 'ended')
      throw new Error(
        `rank ${rank}, waiting for '${event}': ${(each as Extract<Said, { event: 'ended' }>).error.message}`,
      );
  }
  return said as Extract<Said, { event: E }>[];
}

let hands = await crew.take(size);
for (const [rank, sailor] of hands.entries()) {
  const options = { ...common, rank, worldSize: size };
  sailor.send({ do: 'join', storePort: store.port, options, work: 'idle', seed: 0 });
}
await heard(hands, 'formed');

/** What drift is measured on is one process from beginning to end: another one has other descriptors and threads. */
const anyButFirst = () => random.whole(1, hands.length - 1);

/** The next generation: who is in it, in rank order. */
const changes: Record<string, () => Promise<Sailor[]>> = {
  'the same ranks': async () => {
    for (const sailor of hands) sailor.send({ do: 'reform', timeoutMs: limitMs });
    await heard(hands, 'reformed');
    return hands;
  },
  'one less': async () => {
    const gone = anyButFirst();
    const staying = hands.filter((_, rank) => rank !== gone);
    const ranks = hands.map((_, rank) => rank).filter((rank) => rank !== gone);
    for (const sailor of staying) sailor.send({ do: 'reform', timeoutMs: limitMs, ranks });
    await heard(staying, 'reformed');
    const left = hands[gone] as Sailor;
    left.send({ do: 'leave' });
    await heard([left], 'left');
    crew.giveBack(left);
    return staying;
  },
  'one killed, and made up to full size': async () => {
    const gone = anyButFirst();
    const dying = hands[gone] as Sailor;
    const staying = hands.filter((sailor) => sailor !== dying);
    dying.doomed = true;
    dying.child.kill('SIGKILL');
    await Promise.all(staying.map((sailor) => sailor.next(['knew'], limitMs)));
    (staying[0] as Sailor).send({ do: 'info' });
    const [info] = await heard([staying[0] as Sailor], 'info');
    const fresh = await crew.take(size - staying.length);
    for (const sailor of staying) sailor.send({ do: 'reform', timeoutMs: limitMs, worldSize: size });
    for (const [i, sailor] of fresh.entries()) {
      const options = { ...common, ...info?.next, rank: staying.length + i, worldSize: size };
      sailor.send({ do: 'join', storePort: 0, options, work: 'idle', seed: 0 });
    }
    await Promise.all([heard(fresh, 'formed'), heard(staying, 'reformed')]);
    crew.giveBack(dying);
    return [...staying, ...fresh];
  },
};

const watches: Watch[] = [];
const made = new Map<string, number>();
try {
  while (performance.now() < until) {
    const seed = seeds();
    for (const sailor of hands) sailor.send({ do: 'sail', steps: Number(values.steps), seed, scale: 20_000 });
    const sailed = await heard(hands, 'sailed');
    const [first] = sailed;
    if (first !== undefined && hands.length === size)
      watches.push({ voteMicros: first.voteMicros, held: first.held });
    const what = random.pick(
      hands.length < 3 ? ['one killed, and made up to full size'] : Object.keys(changes),
    );
    hands = (await changes[what]?.()) as Sailor[];
    made.set(what, (made.get(what) ?? 0) + 1);
  }
} catch (error) {
  console.log(`FAILED after ${watches.length} watches: ${(error as Error).message}`);
  process.exitCode = 1;
}

/** Medians of the second and the last quarter: the first is warming up. */
function drift(of: (watch: Watch) => number): [number, number] {
  const quarter = Math.max(1, Math.floor(watches.length / 4));
  return [watches.slice(quarter, 2 * quarter), watches.slice(-quarter)].map((part) =>
    median(part.map(of)),
  ) as [number, number];
}

const rows: [string, (watch: Watch) => number, (before: number, after: number) => boolean][] = [
  ['vote, µs', (watch) => watch.voteMicros, (before, after) => after < before * 1.5],
  ['resident, MiB', ({ held }) => held.resident, (before, after) => after < before * 1.1 + 8],
  ['descriptors', ({ held }) => held.descriptors, (before, after) => after <= before],
  ['threads', ({ held }) => held.threads, (before, after) => after <= before],
];
console.log(
  `${watches.length} watches at full size; ${[...made].map(([what, n]) => `${what}: ${n}`).join(', ')}\n`,
);
console.log('| of rank 0 | second quarter | last quarter |\n|---|---|---|');
for (const [name, of, holds] of rows) {
  const [before, after] = drift(of);
  const good = watches.length < 8 || holds(before, after);
  if (!good) process.exitCode = 1;
  console.log(`| ${name} | ${before.toFixed(1)} | ${after.toFixed(1)} |${good ? '' : ' DRIFTS'}`);
}
console.log(`\nseed ${random.seed}: ${process.exitCode ? 'FAILED' : 'every value right, no drift'}`);
