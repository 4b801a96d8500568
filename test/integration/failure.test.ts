// When a rank is killed, stops answering, leaves, gives up or calls something else: all others hear of it at
// once, with the rank named.
import { hostname } from 'node:os';
import {
  AbortedError,
  CollectiveMismatchError,
  hasUnfinishedDp,
  type ProcessGroup,
  RankLostError,
  TimeoutError,
} from 'node-collectives';
import { describe, expect, test } from 'vitest';
import { closeAll, failureOf, formHere } from '../fixtures/lifecycle/groups.ts';
import { formPuppets } from '../fixtures/lifecycle/strings.ts';
import { testBackend } from '../helpers/ranks.ts';
import { overHosts } from '../helpers/spread.ts';

const promptMs = 1_000;
/** Until the others hear that a rank leaves: with a device it gives the communicators two seconds to end together. */
const leaveMs = promptMs + (testBackend === undefined ? 0 : 2_000);

test('SIGKILL of one of four ranks in a loop of votes: each survivor names it within a second', async () => {
  const ranks = await formPuppets(4);
  const loops = ranks.map((each) => each.answer({ do: 'loop' }));
  await Promise.all(ranks.map((each) => each.process.next('looping')));
  const victim = ranks[2]!;
  victim.process.kill('SIGKILL');
  const killed = performance.now();
  loops[2]!.catch(() => {}); // its answer never comes
  for (const survivor of [0, 1, 3]) {
    const { error } = await loops[survivor]!;
    expect(error).toMatchObject({
      name: 'RankLostError',
      code: 'RANK_LOST',
      rank: 2,
      pid: victim.process.pid,
      host: hostname(),
      peer: 2,
      peerPid: victim.process.pid,
    });
    // Each has seen it itself, or was told by one who had.
    expect([0, 1, 3]).toContain(error!.detectedBy);
    expect(error!.consequence).toBe(error!.detectedBy !== survivor);
    expect(error!.message).toContain(`rank 2 (pid ${victim.process.pid}`);
  }
  expect(performance.now() - killed).toBeLessThan(promptMs);
  // The group stays failed, and its processes go on.
  const again = await ranks[0]!.failure('vote');
  expect(again.error).toMatchObject({ code: 'RANK_LOST', peer: 2 });
  await ranks[0]!.call('close');
});

test('SIGKILL of a rank while all are idle: it is noticed, and the next call fails at once', async () => {
  const ranks = await formPuppets(3);
  ranks[0]!.process.kill('SIGKILL');
  const killed = performance.now();
  await Promise.all([1, 2].map((rank) => ranks[rank]!.process.next('failed')));
  expect(performance.now() - killed).toBeLessThan(promptMs);
  for (const rank of [1, 2]) {
    const { error, ms } = await ranks[rank]!.failure('vote');
    expect(error).toMatchObject({ code: 'RANK_LOST', peer: 0, peerPid: ranks[0]!.process.pid });
    expect(ms).toBeLessThan(200);
  }
});

test('a rank that is stopped and then killed', async () => {
  const ranks = await formPuppets(2);
  ranks[1]!.process.kill('SIGSTOP');
  const pending = ranks[0]!.failure('vote');
  ranks[1]!.process.kill('SIGKILL');
  expect((await pending).error).toMatchObject({ code: 'RANK_LOST', peer: 1 });
});

test('a survivor forms the next group in the same process', async () => {
  const ranks = await formPuppets(3);
  ranks[2]!.process.kill('SIGKILL');
  await Promise.all([0, 1].map((rank) => ranks[rank]!.failure('vote')));
  const [a, b] = await Promise.all([0, 1].map((rank) => ranks[rank]!.call('close').then(() => ranks[rank]!)));
  const { meeting } = await import('../fixtures/lifecycle/groups.ts');
  const shared = await meeting(2);
  await Promise.all([a!, b!].map((each, rank) => each.call('create', { options: { ...shared, rank } })));
  expect(await Promise.all([a!, b!].map((each) => each.call('vote', { value: true })))).toEqual([true, true]);
});

describe('in one process', () => {
  /**
   * Forms a group, lets each rank fail in its own way, and checks that nothing hangs and the group is over.
   */
  async function failures(
    size: number,
    call: (group: ProcessGroup, rank: number) => Promise<unknown> | undefined,
  ): Promise<Awaited<ReturnType<typeof failureOf>>[]> {
    const groups = await formHere(size);
    // Each from its own call on: the calls of the others take time as well.
    const calls = groups.map((group, rank) => {
      const began = performance.now();
      const called = call(group, rank);
      return called && failureOf(called, began);
    });
    const failed = await Promise.all(calls.filter((each) => each !== undefined));
    for (const group of groups) {
      expect((await failureOf(group.barrier())).error.code).toBe(failed[0]!.error.code);
      expect(group.info().state).toBe('failed');
    }
    await closeAll(groups);
    return failed;
  }

  test('a time-out names the ranks that did not come, on all ranks', async () => {
    const [first, second] = await failures(4, (group, rank) =>
      rank < 2 ? group.barrier({ timeoutMs: rank === 0 ? 300 : 10_000 }) : undefined,
    );
    expect(first!.error).toBeInstanceOf(TimeoutError);
    expect(first!.error).toMatchObject({ missing: [2, 3], op: 'barrier', seq: 1, rank: 0 });
    expect(first!.ms).toBeGreaterThanOrEqual(299);
    expect(first!.ms).toBeLessThan(300 + promptMs);
    expect(second!.error).toBeInstanceOf(TimeoutError);
    expect(second!.error).toMatchObject({ missing: [2, 3], rank: 0, consequence: true });
  });

  test('one missing rank is named as the cause', async () => {
    const [first] = await failures(3, (group, rank) =>
      rank === 2 ? undefined : hasUnfinishedDp(group, true, { timeoutMs: 200 }),
    );
    expect(first!.error).toMatchObject({ code: 'TIMEOUT', missing: [2], peer: 2 });
  });

  test("the group's own time limit", async () => {
    const groups = await formHere(2, { timeoutMs: 150 });
    const { error, ms } = await failureOf(groups[0]!.barrier());
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error.message).toContain('150 ms');
    expect(ms).toBeGreaterThanOrEqual(149);
    await closeAll(groups);
  });

  test('a blocking vote times out as well', async () => {
    const groups = await formHere(2);
    const { hasUnfinishedDpSync } = await import('node-collectives');
    expect(() => hasUnfinishedDpSync(groups[0]!, true, { timeoutMs: 100 })).toThrow(TimeoutError);
    await closeAll(groups);
  });

  const numbers = (length: number) => new Int32Array(length);
  test.each<[string, (group: ProcessGroup) => Promise<unknown>, (group: ProcessGroup) => Promise<unknown>]>([
    ['type', (g) => g.allReduce(numbers(4)), (g) => g.allReduce(new Float32Array(4))],
    ['sign', (g) => g.allReduce(numbers(4)), (g) => g.allReduce(new Uint32Array(4))],
    [
      'meaning of 16 bits',
      (g) => g.allReduce(new Uint16Array(4)),
      (g) => g.allReduce(new Uint16Array(4), { dtype: 'float16' }),
    ],
    ['op', (g) => g.allReduce(numbers(4)), (g) => g.allReduce(numbers(4), { op: 'max' })],
    ['length', (g) => g.allReduce(numbers(4)), (g) => g.allReduce(numbers(5))],
    ['length, one of them empty', (g) => g.allReduce(numbers(4)), (g) => g.allReduce(numbers(0))],
    ['length, large', (g) => g.allReduce(numbers(300_000)), (g) => g.allReduce(numbers(300_001))],
    ['length, large and small', (g) => g.allReduce(numbers(300_000)), (g) => g.allReduce(numbers(1))],
    ['length of parts', (g) => g.allGather(numbers(4)), (g) => g.allGather(numbers(3))],
    ['collective', (g) => g.allReduce(numbers(4)), (g) => g.allGather(numbers(4))],
    ['collective, barrier', (g) => g.barrier(), (g) => g.allReduce(numbers(4))],
    ['collective, vote', (g) => hasUnfinishedDp(g, true), (g) => g.barrier()],
  ])('calls that differ in %s: all ranks say so', async (_, one, other) => {
    for (const odd of [0, 2]) {
      const failed = await failures(3, (group, rank) => (rank === odd ? other(group) : one(group)));
      for (const { error, ms } of failed) {
        expect(error, error.message).toBeInstanceOf(CollectiveMismatchError);
        expect(error.message).toMatch(/differs between ranks: rank \d called .*, rank \d .* called .*/);
        expect(ms).toBeLessThan(promptMs + 1_000);
      }
    }
  });

  test('what two ranks called that differ is in the error of all, as data', async () => {
    const failed = await failures(3, (group, rank) =>
      rank === 1 ? group.reduce(new Float32Array(5), { op: 'max', root: 1 }) : group.allReduce(numbers(4)),
    );
    for (const { error } of failed) {
      const { calls } = error as CollectiveMismatchError;
      const [first, second] = calls ?? [];
      const usual = { op: 'allReduce', seq: 1, dtype: 'int32', count: 4, reduceOp: 'sum' };
      const odd = { rank: 1, op: 'reduce', seq: 1, dtype: 'float32', count: 5, reduceOp: 'max', root: 1 };
      if (first?.rank === 0) expect([first, second]).toEqual([{ rank: 0, ...usual }, odd]);
      else expect([first, second]).toEqual([odd, { rank: 2, ...usual }]);
      expect(calls).toHaveLength(2);
    }
  });

  // A broadcast's source is done once it has sent.
  test.each<[string, (group: ProcessGroup) => Promise<unknown>]>([
    ['a broadcast of another rank', (group) => group.broadcast(numbers(4), { root: 1 })],
    ['a barrier', (group) => group.barrier()],
  ])(
    'a broadcast, and on one rank %s: its source need not notice, but everybody does at the next call',
    async (_, odd) => {
      const groups = await formHere(3);
      await Promise.allSettled(
        groups.map((group) => (group.rank === 2 ? odd(group) : group.broadcast(numbers(4)))),
      );
      for (const { error } of await Promise.all(groups.map((group) => failureOf(group.barrier())))) {
        expect(error, error.message).toBeInstanceOf(CollectiveMismatchError);
        // What each of the two has called, also where one of the calls is over.
        expect(error.message.match(/called \w+\(/g), error.message).toHaveLength(2);
        expect((error as CollectiveMismatchError).calls).toHaveLength(2);
      }
      await closeAll(groups);
    },
  );

  test('a deadline names the rank that has not come and nobody else, however short it is', async () => {
    for (const timeoutMs of [20, 60]) {
      const groups = await formHere(4);
      const late = groups.slice(0, 3).map((group) => failureOf(hasUnfinishedDp(group, false, { timeoutMs })));
      for (const { error } of await Promise.all(late)) {
        expect(error, error.message).toMatchObject({ code: 'TIMEOUT', missing: [3] });
      }
      await closeAll(groups);
    }
  });

  test('abort() ends this rank at once, and the others hear who and why', async () => {
    const groups = await formHere(3);
    const pending = groups.slice(0, 2).map((group) => failureOf(group.barrier()));
    groups[1]!.abort('enough');
    const [other, own] = await Promise.all(pending);
    expect(own!.error).toBeInstanceOf(AbortedError);
    expect(own!.ms).toBeLessThan(promptMs);
    for (const { error } of [other!, await failureOf(groups[2]!.barrier())]) {
      expect(error).toBeInstanceOf(AbortedError);
      expect(error).toMatchObject({ peer: 1, detectedBy: 1, consequence: true });
      expect(error.message).toBe('aborted by rank 1: enough');
    }
    groups[1]!.abort('again'); // changes nothing
    expect((await failureOf(groups[1]!.barrier())).error.message).toBe('aborted by rank 1: enough');
    await closeAll(groups);
  });

  test('a rank that closes while another calls', async () => {
    const groups = await formHere(3);
    await Promise.all(groups.map((group) => group.barrier()));
    const pending = failureOf(groups[0]!.barrier());
    const closing = groups[1]!.close();
    const { error, ms } = await pending;
    expect(error).toBeInstanceOf(RankLostError);
    expect(error).toMatchObject({ peer: 1, seq: 2, op: 'barrier' });
    expect(error.message).toContain('closed the group after operation 1 and cannot take part in operation 2');
    expect(ms).toBeLessThan(leaveMs);
    await closing;
    expect(groups[1]!.info().state).toBe('closed');
    await closeAll(groups);
  });

  test('a rank that closed earlier', async () => {
    const groups = await formHere(2);
    await groups[1]!.close();
    const { error } = await failureOf(groups[0]!.barrier());
    expect(error).toMatchObject({ code: 'RANK_LOST', peer: 1, seq: 1 });
    await closeAll(groups);
  });

  test('all that is pending fails with one cause, in call order', async () => {
    const groups = await formHere(2);
    const order: number[] = [];
    const pending = Array.from({ length: 20 }, (_, i) =>
      failureOf(groups[0]!.allReduce(new Int32Array(4), { timeoutMs: 200 + i })).then((result) => {
        order.push(i);
        return result.error;
      }),
    );
    const errors = await Promise.all(pending);
    expect(order).toEqual(Array.from(order, (_, i) => i));
    for (const error of errors) expect(error).toMatchObject({ code: 'TIMEOUT', seq: 1, missing: [1] });
    await closeAll(groups);
  });
});

test.skipIf(overHosts)('after 5 s the diagnostics channel says whom a call waits for', async () => {
  const ranks = await formPuppets(3);
  const votes = [0, 1].map((rank) => ranks[rank]!.call('vote'));
  const [first, second] = await Promise.all([0, 1].map((rank) => ranks[rank]!.process.next('waiting')));
  for (const [rank, message] of [first!, second!].entries()) {
    expect(message).toMatchObject({
      groupName: 'default',
      rank,
      size: 3,
      op: 'allReduce',
      seq: 1,
      missing: [2],
    });
    expect(message['waitedMs']).toBeGreaterThanOrEqual(5_000);
    expect(message['waitedMs']).toBeLessThan(6_500);
  }
  await ranks[2]!.call('vote', { value: true });
  expect(await Promise.all(votes)).toEqual([true, true]);
});
