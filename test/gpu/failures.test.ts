// How GPU groups end before their time on devices, where the library's own waiting has to be broken off.
import { expect, test } from 'vitest';
import {
  type Answer,
  ask,
  askAll,
  endAll,
  formAll,
  gpuGroup,
  leave,
  untilRunning,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';
import { forEachSize, machine, onDevices } from './machine.ts';

/** Aborting a communicator may take a library seconds; without an abort its users wait for half an hour. */
const promptMs = 10_000;
const bytes = 4 * 2 ** 20;

async function group(count: number): Promise<RankProcess[]> {
  // What an aborted communicator does not give back is the library's.
  const ranks = await gpuGroup(machine.libraries, count, () => ({ NC_STANDIN_STRICT_EXIT: '0' }));
  await valuesOf(askAll(ranks, 'allocate', { bytes }));
  return ranks;
}

/** They have called an operation that the others have not, and it is on the device. */
async function waitingOn(ranks: readonly RankProcess[]): Promise<Promise<Answer>[]> {
  const waiting = ranks.map((rank) => ask(rank, 'reduce'));
  for (const rank of ranks) await untilRunning(rank);
  return waiting;
}

/** On the devices of those that go on: a generation of their own, which works. */
const reform = (ranks?: number[]) => `
  const next = await group().reform(${ranks === undefined ? '' : JSON.stringify({ ranks })});
  const { index: device } = next.info().device;
  const buffer = await api.DeviceBuffer.allocate(4, { device });
  await buffer.copyFrom(new Int32Array([device + 1]));
  await next.allReduce(buffer, { dtype: 'int32' });
  const [sum] = await buffer.copyTo(new Int32Array(1));
  buffer.dispose();
  const { backend, size, generation } = next.info();
  await next.close();
  return { sum, backend, size, generation };`;

/** Of 1 to n. */
const sumTo = (n: number) => (n * (n + 1)) / 2;

onDevices(1)('a group alone', () => {
  test('abort() with operations under way, and another group after it', async () => {
    const [rank] = (await group(1)) as [RankProcess];
    const loop = ask(rank, 'loop');
    await rank.next('looping');
    await ask(rank, 'abort', { reason: 'enough' });
    expect((await loop).error).toMatchObject({ code: 'ABORTED' });
    await valuesOf(formAll([rank]));
    await valuesOf(askAll([rank], 'reduce'));
    await valuesOf(askAll([rank], 'close'));
    await leave([rank]);
  });
});

forEachSize(2, (count) => {
  test.each([0, count - 1])(
    'rank %i is killed in mid-collective: all name it, soon, and re-form',
    async (victim) => {
      const ranks = await group(count);
      const survivors = ranks.filter((_, rank) => rank !== victim);
      const loops = survivors.map((rank) => ask(rank, 'loop'));
      // Its own answer never comes.
      ask(ranks[victim], 'loop').catch(() => {});
      await Promise.all(ranks.map((rank) => rank.next('looping')));
      const began = performance.now();
      ranks[victim]?.kill();
      for (const { error } of await Promise.all(loops)) {
        expect(error).toMatchObject({ code: 'RANK_LOST', peer: victim, op: 'allReduce' });
      }
      const ms = performance.now() - began;
      console.log(`${count} ranks, rank ${victim} killed: the last survivor knew after ${ms.toFixed(0)} ms`);
      expect(ms).toBeLessThan(promptMs);
      const sum = sumTo(count) - (victim + 1);
      for (const value of await valuesOf(askAll(survivors, 'run', { text: reform() }))) {
        expect(value).toEqual({ sum, backend: 'nccl', size: count - 1, generation: 1 });
      }
      await leave(survivors);
    },
  );

  test('a rank that is killed before it calls is named by those that wait on the device', async () => {
    const ranks = await group(count);
    const waiting = await waitingOn(ranks.slice(1));
    const began = performance.now();
    ranks[0]?.kill();
    for (const { error } of await Promise.all(waiting)) {
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 0, op: 'allReduce', seq: 1 });
    }
    expect(performance.now() - began).toBeLessThan(promptMs);
    await leave(ranks.slice(1));
  });

  test('abort() ends what waits on the device, here and there; the same processes form another group', async () => {
    const ranks = await group(count);
    const waiting = await waitingOn(ranks.slice(1));
    const began = performance.now();
    await ask(ranks[1], 'abort', { reason: 'a new model' });
    for (const { error } of await Promise.all(waiting)) {
      expect(error).toMatchObject({ code: 'ABORTED', peer: 1 });
      expect(error.message).toContain('aborted by rank 1: a new model');
    }
    const ms = performance.now() - began;
    console.log(`${count} ranks: aborted in ${ms.toFixed(0)} ms`);
    expect(ms).toBeLessThan(promptMs);
    expect((await ask(ranks[0], 'reduce')).error).toMatchObject({ code: 'ABORTED', peer: 1 });
    await valuesOf(formAll(ranks));
    await valuesOf(askAll(ranks, 'reduce'));
    await endAll(ranks);
  });

  test('a deadline names who has not called', async () => {
    const ranks = await group(count);
    const options = { timeoutMs: 1000 };
    for (const { error, ms } of await askAll(ranks.slice(1), 'reduce', { options })) {
      expect(error).toMatchObject({ code: 'TIMEOUT', missing: [0], op: 'allReduce', seq: 1 });
      expect(ms).toBeLessThan(1000 + promptMs);
    }
    await leave(ranks);
  });

  test('calls that differ fail on all ranks by name', async () => {
    const ranks = await group(count);
    const answers = await Promise.all(
      ranks.map((rank, i) => ask(rank, 'reduce', { options: { op: i === 0 ? 'max' : 'sum' } })),
    );
    for (const { error } of answers) expect(error).toMatchObject({ code: 'COLLECTIVE_MISMATCH', seq: 1 });
    await leave(ranks);
  });

  test('of two groups on the same devices one fails, and the other does not feel it', async () => {
    const ranks = await group(count);
    await valuesOf(formAll(ranks, {}, 'h'));
    const loops = askAll(ranks, 'loop', { name: 'g' });
    await Promise.all(ranks.map((rank) => rank.next('looping')));
    const sums = () =>
      valuesOf(askAll(ranks, 'array', { name: 'h', values: [1], options: { staging: true } }));
    expect(await sums()).toEqual(Array(count).fill([count]));
    await ask(ranks[0], 'abort', { name: 'g', reason: 'over' });
    for (const { error } of await loops) expect(error).toMatchObject({ code: 'ABORTED', peer: 0 });
    expect(await sums()).toEqual(Array(count).fill([count]));
    await endAll(ranks, ['h']);
  });

  test('a healthy group re-forms without one of its ranks', async () => {
    const ranks = await group(count);
    const some = ranks.slice(0, count - 1);
    const text = reform(some.map((_, rank) => rank));
    for (const value of await valuesOf(askAll(some, 'run', { text }))) {
      expect(value).toEqual({ sum: sumTo(count - 1), backend: 'nccl', size: count - 1, generation: 1 });
    }
    await leave(ranks);
  });
});
