// Ranks that are stopped are found by their silence; ranks that are busy, or paused together with everybody, are not.
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import type { ProcessGroup } from 'node-collectives';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Busy, busyInJavaScript, busyInReduction } from '../fixtures/lifecycle/busy.ts';
import { closeAll, createHere, failureOf, formHere, meeting } from '../fixtures/lifecycle/groups.ts';
import { formPuppets, type Puppet } from '../fixtures/lifecycle/strings.ts';
import { testBackend } from '../helpers/ranks.ts';
import { overHosts } from '../helpers/spread.ts';
import { whyNoThreadIsHeld } from '../helpers/threads.ts';

const heartbeatMs = 100;
const deadAfterMs = 1_000;
const limits = { heartbeatMs, deadAfterMs };
const graceMs = 500;

// What takes as long as it says goes on beside the other tests of this file, and is looked at last: together they take
// little more than 30 s. What is busy leaves the processors to others.
const busyMs = 30_000;
const reducingMs = 8_000;
// Once is enough: heartbeats are the same on devices, and over hosts the shorter of the two shows that they pass.
const onDevices = testBackend && 'groups with devices have the same heartbeats';
const whyNotLong = onDevices ?? (overHosts ? 'it is long, and the same on one host' : undefined);
const whyNotHeld = onDevices ?? whyNoThreadIsHeld();
if (whyNotHeld !== undefined) console.log(`a long reduction: skipped, ${whyNotHeld}`);
let busy: Promise<Busy> | undefined;
let reducing: Promise<Busy> | undefined;
beforeAll(() => {
  if (whyNotLong === undefined) busy = busyInJavaScript(busyMs);
  if (whyNotHeld === undefined) reducing = busyInReduction(reducingMs);
  // Whoever looks hears of it.
  for (const each of [busy, reducing]) each?.catch(() => {});
});

/** What each of these ranks is told of a loss that it does not see in a call. */
const told = (ranks: readonly Puppet[]) => Promise.all(ranks.map((each) => each.process.next('failed')));

describe('SIGSTOP', () => {
  test.each([
    ['voting', 3, 2],
    ['idle', 3, 2],
    ['idle, and it is rank 0', 3, 0],
    ['voting, and it is rank 0', 4, 0],
  ])('of one rank, %s: all others name it in time', async (what, size, who) => {
    const ranks = await formPuppets(size, limits);
    const victim = ranks[who]!;
    const others = ranks.filter((each) => each !== victim);
    if (what.startsWith('voting')) {
      for (const each of ranks) each.answer({ do: 'loop' }).catch(() => {});
      await Promise.all(ranks.map((each) => each.process.next('looping')));
    }
    victim.process.kill('SIGSTOP');
    const stopped = performance.now();
    await told(others);
    const ms = performance.now() - stopped;
    expect(ms).toBeLessThan(deadAfterMs + graceMs);
    // Its last sign of life may be a heartbeat old.
    expect(ms).toBeGreaterThan(deadAfterMs - heartbeatMs - 50);
    const errors = await Promise.all(others.map((each) => each.failure('barrier')));
    for (const [i, { error }] of errors.entries()) {
      expect(error).toMatchObject({
        name: 'RankLostError',
        rank: who,
        host: hostname(),
        pid: victim.process.pid,
      });
      expect(others.map(({ rank }) => rank)).toContain(error.detectedBy);
      expect(error.consequence).toBe(error.detectedBy !== others[i]!.rank);
      expect(error.message).toMatch(/nothing has come from it for 1000 ms/);
    }
    // Back again, it is told that it was given up, and accuses nobody.
    victim.process.kill('SIGCONT');
    const { error } = await victim.failure('barrier');
    expect(error).toMatchObject({ code: 'RANK_LOST', rank: who, consequence: true });
  });

  test('of all ranks at once, for longer than that: nobody is lost', async () => {
    const ranks = await formPuppets(3, limits);
    for (const each of ranks) each.process.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 2 * deadAfterMs)); // the time itself is what is tested
    for (const each of ranks) each.process.kill('SIGCONT');
    expect(await Promise.all(ranks.map((each) => each.call('vote', { value: each.rank === 1 })))).toEqual(
      ranks.map(() => true),
    );
  });
});

test('a rank whose JavaScript is busy for five times that long is alive', async () => {
  const ranks = await formPuppets(3, limits);
  const busy = ranks[1]!.call('busy', { ms: 5 * deadAfterMs });
  const votes = [0, 2].map((rank) => ranks[rank]!.call('vote', { value: true }));
  await busy;
  expect(await ranks[1]!.call('vote')).toBe(true);
  expect(await Promise.all(votes)).toEqual([true, true]);
});

test('survivors that leave at once are not named by one that looks later', async () => {
  const ranks = await formPuppets(4, { heartbeatMs: 2_000, deadAfterMs: 20_000 });
  for (const each of ranks) each.answer({ do: each.rank < 2 ? 'leave' : 'loop' }).catch(() => {});
  await Promise.all(ranks.map((each) => each.process.next('looping')));
  const late = ranks[2]!;
  // It sees nothing until it is all over.
  late.process.kill('SIGSTOP');
  ranks[3]!.process.kill('SIGKILL');
  for (const rank of [0, 1]) {
    const { error } = await ranks[rank]!.process.next('left');
    expect(error).toMatchObject({ code: 'RANK_LOST', rank: 3 });
    await ranks[rank]!.process.exited;
  }
  late.process.kill('SIGCONT');
  const { error } = await late.failure('barrier');
  expect(error).toMatchObject({ code: 'RANK_LOST', rank: 3, pid: ranks[3]!.process.pid });
});

test('heartbeats of a group with a secret are signed like all it says', async () => {
  const groups = await formHere(2, { ...limits, secret: 'sixteen bytes or more' });
  // Nothing else is said for so long, which is what is tested; one that is not signed ends the group.
  await new Promise((resolve) => setTimeout(resolve, 5 * heartbeatMs));
  await Promise.all(groups.map((group) => group.barrier()));
  await closeAll(groups);
});

describe('settings', () => {
  test('heartbeats and their limit are in info(), 500 and 3,000 ms by default', async () => {
    const [one] = await formHere(1);
    expect(one!.info()).toMatchObject({ heartbeatMs: 500, deadAfterMs: 3_000 });
    const [slow] = await formHere(1, { heartbeatMs: 5_000 });
    expect(slow!.info()).toMatchObject({ heartbeatMs: 5_000, deadAfterMs: 10_000 });
    await closeAll([one!, slow!]);
  });

  test.each([
    [{ heartbeatMs: 0 }, 'heartbeatMs'],
    [{ heartbeatMs: 1.5 }, 'heartbeatMs'],
    [{ heartbeatMs: Number.POSITIVE_INFINITY }, 'heartbeatMs'],
    [{ heartbeatMs: '5' as never }, 'heartbeatMs'],
    [{ deadAfterMs: 999 }, 'deadAfterMs'],
    [{ heartbeatMs: 100, deadAfterMs: Number.NaN }, 'deadAfterMs'],
  ])('%o is refused by name', async (wrong, name) => {
    const shared = await meeting(1, wrong);
    const { error } = await failureOf(createHere(shared, 0));
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error.message).toContain(`create: ${name} must be a whole number from`);
  });

  test('ranks that differ in them form no group', async () => {
    const shared = await meeting(2);
    const failed = await Promise.all(
      [0, 1].map((rank) => failureOf(createHere(shared, rank, { deadAfterMs: rank === 0 ? 3_000 : 4_000 }))),
    );
    for (const { error } of failed) {
      expect(error).toMatchObject({ code: 'GROUP_MISMATCH' });
      expect(error.message).toMatch(/deadAfterMs is 3000 on rank 0 .* and 4000 on rank 1/);
    }
  });
});

describe('AbortSignal', () => {
  const options = (signal: AbortSignal) => ({ signal });

  test.each<[string, (group: ProcessGroup, signal: AbortSignal) => Promise<unknown>]>([
    ['a barrier', (group, signal) => group.barrier(options(signal))],
    ['an all-reduce', (group, signal) => group.allReduce(new Float32Array(100_000), options(signal))],
    ['a vote', (group, signal) => group.vote('max', [1], options(signal))],
  ])('of %s: this rank fails at once, the others soon, with its reason', async (_, call) => {
    const groups = await formHere(3);
    const abort = new AbortController();
    const pending = [
      failureOf(call(groups[1]!, abort.signal)),
      failureOf(call(groups[0]!, new AbortController().signal)),
    ];
    const began = performance.now();
    abort.abort(new Error('too slow'));
    // The third rank calls only now: with its call, what the others wait for would have been complete.
    const ended = [...(await Promise.all(pending)), await failureOf(groups[2]!.barrier())];
    expect(performance.now() - began).toBeLessThan(200);
    for (const [i, { error }] of ended.entries()) {
      expect(error).toMatchObject({ code: 'ABORTED', peer: 1, detectedBy: 1 });
      expect(error.consequence ?? false).toBe(i !== 0);
      expect(error.message).toBe('aborted by rank 1: too slow');
    }
    await closeAll(groups);
  });

  test('that has fired before the call sends nothing and aborts the group', async () => {
    const groups = await formHere(2);
    const { error } = await failureOf(groups[0]!.barrier({ signal: AbortSignal.abort('no') }));
    expect(error).toMatchObject({ name: 'AbortedError', rank: 0, peer: 0, op: 'barrier' });
    expect(groups[0]!.stats()).toMatchObject({ done: 0, queued: 0, running: 0 });
    expect(groups[0]!.info().state).toBe('failed');
    expect((await failureOf(groups[1]!.barrier())).error.message).toBe('aborted by rank 0: no');
    await closeAll(groups);
  });

  test('that fires after its call has ended changes nothing', async () => {
    const groups = await formHere(2);
    const abort = new AbortController();
    await Promise.all(groups.map((group) => group.barrier({ signal: abort.signal })));
    abort.abort();
    await Promise.all(groups.map((group) => group.barrier()));
    await closeAll(groups);
  });

  test('of the group works for its whole life', async () => {
    const abort = new AbortController();
    const shared = await meeting(2);
    const groups = await Promise.all(
      [0, 1].map((rank) => createHere(shared, rank, rank === 1 ? { signal: abort.signal } : {})),
    );
    await Promise.all(groups.map((group) => group.barrier()));
    const pending = failureOf(groups[0]!.barrier());
    abort.abort(new Error('the engine shuts down'));
    expect((await pending).error.message).toBe('aborted by rank 1: the engine shuts down');
    expect((await failureOf(groups[1]!.barrier())).error).toMatchObject({ code: 'ABORTED', rank: 1 });
    await closeAll(groups);
  });

  test('of close() ends what close() waits for', async () => {
    const groups = await formHere(2);
    const pending = failureOf(groups[0]!.barrier());
    const abort = new AbortController();
    const closing = groups[0]!.close({ signal: abort.signal });
    abort.abort('now');
    await closing;
    expect((await pending).error.message).toBe('aborted by rank 0: now');
    await closeAll(groups);
  });

  test('anything else is refused, and the group goes on', async () => {
    const groups = await formHere(2);
    const { error } = await failureOf(groups[0]!.barrier({ signal: 'stop' as never }));
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error.message).toBe("barrier: signal must be an AbortSignal, but is 'stop'");
    await Promise.all(groups.map((group) => group.barrier()));
    await closeAll(groups);
  });

  test('abort() in the middle of large messages to a rank that does not take them', async () => {
    // The other rank is stopped: its links are full, and it would not be missed for long.
    const ranks = await formPuppets(2, { heartbeatMs: 2_000, deadAfterMs: 20_000 });
    ranks[1]!.process.kill('SIGSTOP');
    const pending = ranks[0]!.answer({ do: 'loopOf', method: 'broadcast', length: 30_000_000 });
    const { ms } = await ranks[0]!.answer({ do: 'abort', reason: 'enough' });
    expect(ms).toBeLessThan(50);
    expect((await pending).error?.message).toBe('aborted by rank 0: enough');
    ranks[1]!.process.kill('SIGCONT');
  });
});

describe('with the usual limits', () => {
  const usual = { heartbeatMs: 500, deadAfterMs: 3_000 };

  test.skipIf(whyNotHeld !== undefined)(
    `a rank that is inside a long reduction for ${reducingMs / 1_000} s is alive, and what it reduces is right`,
    async () => {
      const { got, ms, limits } = await reducing!;
      const sum = Int32Array.from({ length: 4_000_000 }, (_, i) => 6 * ((i % 1000) + 1));
      const digest = createHash('sha1').update(Buffer.from(sum.buffer)).digest('hex');
      expect(got).toEqual([digest, digest, digest]);
      expect(ms).toBeGreaterThan(reducingMs - 1);
      expect(limits).toEqual(usual);
    },
  );

  test.skipIf(whyNotLong !== undefined)(
    `a rank whose JavaScript is busy for ${busyMs / 1_000} s is alive`,
    async () => {
      const { got, ms, limits } = await busy!;
      expect(got).toEqual([true, true, true]);
      expect(ms).toBeGreaterThan(busyMs - 1);
      expect(limits).toEqual(usual);
    },
  );
});
