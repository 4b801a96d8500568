// Nothing waits on the event loop or on libuv's pool: while a rank waits for a late one, its process goes on;
// and an idle group does not keep its process alive.
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { meeting } from '../fixtures/lifecycle/groups.ts';
import { formPuppets, puppets } from '../fixtures/lifecycle/strings.ts';

interface Lag {
  p50: number;
  p99: number;
  max: number;
}

test('timers, files and name look-ups run on while a rank waits 3 s for a late one', async () => {
  const [early, late] = await formPuppets(2);
  const waits = early!.call<Lag & { files: number; names: number; ticks: number }>('whileWaiting');
  // Meanwhile the late rank measures what this machine does to a timer without any of it.
  const quiet = await late!.call<Lag>('idleLag', { ms: 3_000 });
  await late!.call('vote');
  const seen = await waits;
  console.log(
    `waiting: timer lag p50 ${seen.p50.toFixed(2)} ms, p99 ${seen.p99.toFixed(2)} ms, max ${seen.max.toFixed(2)} ms, ` +
      `${seen.files} files read, ${seen.names} names; not waiting: p50 ${quiet.p50.toFixed(2)} ms, ` +
      `p99 ${quiet.p99.toFixed(2)} ms, max ${quiet.max.toFixed(2)} ms`,
  );
  expect(seen.files).toBeGreaterThan(50);
  expect(seen.names).toBeGreaterThan(50);
  // On a machine that delays timers without our help, that is what there is to compare with.
  expect(seen.p99).toBeLessThan(Math.max(5, 2 * quiet.p99));
});

test('many waits at once leave the pool to others', async () => {
  const ranks = await puppets(2);
  const shared = await meeting(2, { groupName: 'first' });
  await Promise.all(ranks.map((each) => each.call('create', { options: { ...shared, rank: each.rank } })));
  // More than the four threads of libuv's pool.
  const votes = Array.from({ length: 16 }, () => ranks[0]!.call('vote'));
  const seen = await Promise.race([ranks[0]!.call<Lag>('idleLag', { ms: 300 }), Promise.all(votes)]);
  expect(seen).toHaveProperty('p99');
  for (const _ of votes) await ranks[1]!.call('vote', { value: true });
  expect(await Promise.all(votes)).toEqual(votes.map(() => true));
});

test('a process with an idle group ends by itself', async () => {
  const ranks = await formPuppets(2);
  await Promise.all(ranks.map((each) => each.call('vote')));
  for (const { process } of ranks) {
    // Commands come over stdin; without it only the group is left.
    process.child.stdin?.end();
    const began = performance.now();
    const [end] = await Promise.race([
      Promise.all([process.exited]),
      once(AbortSignal.timeout(10_000), 'abort'),
    ]);
    expect(end).toEqual({ code: 0, signal: null });
    expect(performance.now() - began).toBeLessThan(5_000);
  }
});
