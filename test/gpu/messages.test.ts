// send and recv between two GPUs.
import { expect, test } from 'vitest';
import {
  ask,
  askAll,
  dtypes,
  endAll,
  gpuGroup,
  leave,
  untilRunning,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';
import { forEachSize, machine } from './machine.ts';

async function group(count: number): Promise<RankProcess[]> {
  // What an aborted communicator does not give back is the library's.
  const ranks = await gpuGroup(machine.libraries, count, () => ({ NC_STANDIN_STRICT_EXIT: '0' }));
  await valuesOf(askAll(ranks, 'allocate', { bytes: 4096 }));
  return ranks;
}

forEachSize(2, (count) => {
  test('every type and several lengths go round the ranks', async () => {
    const ranks = await gpuGroup(machine.libraries, count);
    await valuesOf(askAll(ranks, 'stream'));
    const calls: object[] = dtypes.flatMap((type) => [0, 1, 7, 1000].map((length) => ({ type, length })));
    calls.push({ type: 'float32', length: machine.standins ? 30_011 : 1_048_576 });
    for (const length of [1, 5000]) {
      calls.push({ type: 'int32', length, stream: 's', tag: 7 });
      calls.push({ type: 'float16', length, stream: 's', resolve: 'enqueued' });
      // Typed arrays through pinned memory, also to or from a buffer.
      for (const staged of [['send', 'recv'], ['send'], ['recv']]) {
        calls.push({ type: 'int64', length, staged });
      }
    }
    for (const wrong of await valuesOf(askAll(ranks, 'passOn', { calls }))) expect(wrong).toEqual([]);
    await endAll(ranks);
  });

  test('pairs exchange at the same time, each as often as it likes', async () => {
    const ranks = await gpuGroup(machine.libraries, count);
    const text = `
      const { rank, size } = group();
      const device = group().info().device.index;
      const other = rank ^ 1;
      for (let i = 1; other < size && i <= 10 + (rank >> 1); i += 1) {
        const bytes = 4000 * i;
        const [out, into] = [await api.DeviceBuffer.allocate(bytes, { device }), await api.DeviceBuffer.allocate(bytes, { device })];
        await out.copyFrom(new Int32Array(bytes / 4).fill(rank * 1000 + i));
        await Promise.all([
          group().send(out, { to: other, dtype: 'int32' }),
          group().recv(into, { from: other, dtype: 'int32' }),
        ]);
        const got = await into.copyTo(new Int32Array(bytes / 4));
        if (got.some((value) => value !== other * 1000 + i)) throw new Error('wrong values: ' + got);
        out.dispose();
        into.dispose();
      }
      const [sum] = await group().allReduce(new Int32Array([rank]), { staging: true });
      return sum;`;
    const sum = (count * (count - 1)) / 2;
    expect(await valuesOf(askAll(ranks, 'run', { text }))).toEqual(Array(count).fill(sum));
    await endAll(ranks);
  });

  test('a message that differs fails by name', async () => {
    const ranks = await group(count);
    const [sent, received] = await Promise.all([
      ask(ranks[0], 'send', { options: { to: 1, tag: 1 } }),
      ask(ranks[1], 'recv', { options: { from: 0, tag: 2 } }),
    ]);
    for (const { error } of [sent, received]) expect(error).toMatchObject({ code: 'COLLECTIVE_MISMATCH' });
    await leave(ranks);
  });

  test('a sender that is killed while it is waited for is named', async () => {
    const ranks = await group(count);
    const waiting = ask(ranks[0], 'recv', { options: { from: 1 } });
    await untilRunning(ranks[0] as RankProcess);
    const began = performance.now();
    ranks[1]?.kill();
    expect((await waiting).error).toMatchObject({ code: 'RANK_LOST', peer: 1, op: 'recv' });
    // Aborting a communicator may take a library seconds.
    expect(performance.now() - began).toBeLessThan(10_000);
    await leave(ranks.filter((_, rank) => rank !== 1));
  });
});
