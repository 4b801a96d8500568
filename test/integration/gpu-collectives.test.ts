/** GPU groups over the stand-ins: every collective, type and size against a plain computation; streams; votes. */
import { describe, expect, test } from 'vitest';
import { ask, askAll, dtypes, endAll, flavours, formAll, gpuGroup, valuesOf } from '../helpers/gpu-ranks.ts';

/** NCCL reduces neither of these, whatever its version; the stand-in's version knows no 8-bit floats. */
const unreduced = ['int16', 'uint16'];
const eightBit = ['float8e4m3', 'float8e5m2'];
const moves = ['broadcast', 'allGather', 'allToAll'];
const reductions = ['allReduce', 'reduce', 'reduceScatter'];

describe.each(flavours)('%s', (flavour) => {
  test.each([1, 2, 3])('every collective and type, %i ranks', async (count) => {
    const ranks = await gpuGroup(flavour, count);
    const calls: object[] = [];
    for (const type of dtypes) {
      for (const length of [0, 1, 7, 1000]) {
        for (const op of moves) calls.push({ op, type, length, root: length % count });
        if (unreduced.includes(type) || eightBit.includes(type)) continue;
        for (const op of reductions) {
          for (const reduceOp of ['sum', 'prod', 'min', 'max']) {
            if (length === 1000 && reduceOp !== 'sum') continue;
            calls.push({ op, type, length, reduceOp, root: (length + 1) % count, apart: length === 7 });
          }
        }
      }
    }
    for (const op of [...moves, ...reductions]) {
      calls.push({ op, type: 'float32', length: 100_003, reduceOp: 'sum', root: count - 1 });
      // Typed arrays through pinned memory, and over the links of the CPU beside them.
      for (const staging of [true, false]) {
        calls.push({ op, type: 'int32', length: 5, reduceOp: 'sum', staging });
        calls.push({ op, type: 'int64', length: 3000, reduceOp: 'max', staging });
      }
    }
    for (const wrong of await valuesOf(askAll(ranks, 'collectives', { calls }))) expect(wrong).toEqual([]);
    await endAll(ranks);
  });

  test('what the library does not reduce is refused, and the group goes on', async () => {
    const ranks = await gpuGroup(flavour, 2);
    for (const type of unreduced) {
      const calls = [{ op: 'allReduce', type, length: 4, reduceOp: 'sum' }];
      for (const [wrong] of (await valuesOf(askAll(ranks, 'collectives', { calls }))) as string[][]) {
        expect(wrong).toContain('InvalidArgumentError');
      }
    }
    const calls = [{ op: 'allReduce', type: 'int32', length: 4, reduceOp: 'sum' }];
    for (const wrong of await valuesOf(askAll(ranks, 'collectives', { calls }))) expect(wrong).toEqual([]);
    await endAll(ranks);
  });

  test('what the loaded version does not reduce is refused with that version, and the group goes on', async () => {
    const ranks = await gpuGroup(flavour, 2);
    const [version, since] =
      flavour === 'nccl' ? ['NCCL 2.22.3', 'since 2.24.0'] : ['RCCL 2.18.3', 'since 2.20.0'];
    for (const type of eightBit) {
      await valuesOf(askAll(ranks, 'allocate', { bytes: 16 }));
      for (const { error } of await askAll(ranks, 'reduce', { options: { dtype: type } })) {
        expect(error).toMatchObject({ code: 'UNSUPPORTED', name: 'UnsupportedError' });
        for (const part of [type, since, `unsupported by ${version}`]) expect(error.message).toContain(part);
      }
      await valuesOf(askAll(ranks, 'dispose'));
    }
    const calls = [
      { op: 'allReduce', type: 'float32', length: 4, reduceOp: 'sum' },
      { op: 'allGather', type: 'float8e4m3', length: 4 },
    ];
    for (const wrong of await valuesOf(askAll(ranks, 'collectives', { calls }))) expect(wrong).toEqual([]);
    await endAll(ranks);
  });

  test('streams: order by an event, by waiting, by being the same', async () => {
    const ranks = await gpuGroup(flavour, 2, () => ({ NC_STANDIN_DELAY_US: '2000' }));
    await valuesOf(formAll(ranks, {}, 'h'));
    for (const key of ['a', 'b']) await valuesOf(askAll(ranks, 'stream', { key }));
    for (const how of ['event', 'synchronize', 'same']) {
      expect(await valuesOf(askAll(ranks, 'ordering', { rounds: 30, how }))).toEqual([0, 0]);
    }
    await endAll(ranks, ['g', 'h']);
  });

  // The race that it provokes is what ThreadSanitizer reports.
  test.skipIf(process.env['NC_SANITIZED'] === 'thread')('streams without an order: wrong data', async () => {
    const ranks = await gpuGroup(flavour, 2, () => ({ NC_STANDIN_DELAY_US: '2000' }));
    await valuesOf(formAll(ranks, {}, 'h'));
    for (const key of ['a', 'b']) await valuesOf(askAll(ranks, 'stream', { key }));
    const missing = (await valuesOf(askAll(ranks, 'ordering', { rounds: 60, how: 'none' }))) as number[];
    expect(Math.max(...missing)).toBeGreaterThan(0);
    await endAll(ranks, ['g', 'h']);
  });

  test('hundreds of operations at once, from both sorts, end in order', async () => {
    const ranks = await gpuGroup(flavour, 3);
    const text = `
      const { device, rank } = { device: group().info().device.index, rank: group().rank };
      const buffer = await api.DeviceBuffer.allocate(4, { device });
      await buffer.copyFrom(new Int32Array([1]));
      const ended = [];
      const calls = [];
      for (let i = 0; i < 700; i += 1) {
        const call = i % 3 === 0
          ? group().allReduce(new Int32Array([rank]))
          : group().allReduce(buffer, { dtype: 'int32', op: i === 1 ? 'sum' : 'max' }).then(() => ended.push(i));
        calls.push(call);
      }
      await Promise.all(calls);
      const [value] = await buffer.copyTo(new Int32Array(1));
      buffer.dispose();
      const sorted = ended.every((each, i) => i === 0 || each > ended[i - 1]);
      return { value, sorted, ended: ended.length };`;
    for (const value of await valuesOf(askAll(ranks, 'run', { text }))) {
      expect(value).toEqual({ value: 3, sorted: true, ended: 466 });
    }
    await endAll(ranks);
  });

  test.each(['cpu', 'device'] as const)('votes go over the %s where that is asked for', async (votes) => {
    const ranks = await gpuGroup(flavour, 3, undefined, { votes });
    for (const sync of [false, true]) {
      const said = await Promise.all(
        ranks.map((rank, i) => ask(rank, 'votes', { value: i === 2 && !sync, sync })),
      );
      for (const { value } of said) {
        expect(value).toEqual([!sync, '100n', { hasUnfinished: !sync, pauseConsensus: true }]);
      }
    }
    for (const info of (await valuesOf(askAll(ranks, 'info'))) as { votes: object }[]) {
      expect(info.votes).toEqual({ path: votes, reason: 'asked for by name' });
    }
    const paths = await valuesOf(askAll(ranks, 'run', { text: 'return group().operations().at(-1).path' }));
    for (const path of paths) {
      if (votes === 'device') expect(path).toBe(flavour);
      else expect(path).not.toBe(flavour);
    }
    await endAll(ranks);
  });

  test('info() says what is used', async () => {
    const ranks = await gpuGroup(flavour, 2);
    const infos = (await valuesOf(askAll(ranks, 'info'))) as Record<string, unknown>[];
    for (const [rank, info] of infos.entries()) {
      expect(info).toMatchObject({
        backend: 'nccl',
        backendReason: 'asked for by name',
        library:
          flavour === 'nccl' ? { name: 'NCCL', version: '2.22.3' } : { name: 'RCCL', version: '2.18.3' },
        device: { index: rank, platform: flavour === 'nccl' ? 'cuda' : 'rocm' },
        votes: { path: 'device', reason: 'the default of GPU groups' },
      });
    }
    const [devices] = await valuesOf(askAll(ranks, 'devices'));
    expect(devices).toHaveLength(8);
    await endAll(ranks);
  });
});
