// Every collective on GPUs: types, sizes and reductions against a plain computation; votes, staging, streams.
import { expect, test } from 'vitest';
import {
  type Answer,
  ask,
  askAll,
  dtypes,
  endAll,
  formAll,
  gpuGroup,
  gpuProcesses,
  leave,
  untilRunning,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';
import { describeMachine, forEachSize, machine, onDevices } from './machine.ts';

const eightBit = ['float8e4m3', 'float8e5m2'] as const;
/** NCCL reduces no 16-bit integers; the 8-bit floats have a test of their own. */
const reduced = dtypes.filter((type) => !/int16|float8/.test(type));
const moves = ['broadcast', 'allGather', 'allToAll'] as const;
const reductions = ['allReduce', 'reduce', 'reduceScatter'] as const;

/** More than one of a library's buffers; where there is none, what does not take minutes. */
const large = machine.standins ? 10_007 : 100_003;

/** Ranks 0 to count - 1, each on the device of its number; all mistakes of their calls. */
async function run(count: number, calls: object[]): Promise<void> {
  const ranks = await gpuGroup(machine.libraries, count);
  for (const wrong of await valuesOf(askAll(ranks, 'collectives', { calls }))) expect(wrong).toEqual([]);
  await endAll(ranks);
}

/** Whether the library has the 8-bit floats, by its version. */
function hasEightBit(): boolean {
  const [major = 0, minor = 0] = (machine.library?.version ?? '').split('.').map(Number);
  return major * 100 + minor >= (machine.library?.name === 'RCCL' ? 220 : 224);
}

forEachSize(1, (count) => {
  test('info() says what they run on', async () => {
    console.log(describeMachine());
    const ranks = await gpuGroup(machine.libraries, count);
    const infos = (await valuesOf(askAll(ranks, 'info'))) as Record<string, { uuid: string }>[];
    for (const [index, info] of infos.entries()) {
      expect(info).toMatchObject({
        backend: 'nccl',
        size: count,
        library: machine.library,
        device: { index },
      });
    }
    expect(new Set(infos.map(({ device }) => device?.uuid)).size).toBe(count);
    await endAll(ranks);
  });

  test.each(moves)('%s moves every type', async (op) => {
    const lengths = [0, 1, 7, 1000];
    await run(
      count,
      dtypes.flatMap((type) => lengths.map((length) => ({ op, type, length, root: length % count }))),
    );
  });

  test.each(reductions)('%s reduces every type', async (op) => {
    const calls = reduced.flatMap((type) =>
      ['sum', 'prod', 'min', 'max'].flatMap((reduceOp) =>
        [0, 1, 7, 1000].map((length) => ({
          op,
          type,
          length,
          reduceOp,
          root: (length + 1) % count,
          apart: length === 7,
        })),
      ),
    );
    await run(count, calls);
  });

  // Exact where the number of ranks is a power of two.
  test.runIf([1, 2, 4, 8].includes(count))('averages', async () => {
    const types = reduced.filter((type) => type.includes('float'));
    await run(
      count,
      reductions.flatMap((op) =>
        types.flatMap((type) => [3, 1000].map((length) => ({ op, type, length, reduceOp: 'avg' }))),
      ),
    );
  });

  test('large arrays, on which the library takes other ways', async () => {
    // With 8 ranks the second is 8 million elements where there is a block for each rank.
    const lengths = machine.standins ? [30_011] : [100_003, 1_048_576];
    await run(
      count,
      [...moves, ...reductions].flatMap((op) =>
        lengths.map((length) => ({ op, type: 'float32', length, reduceOp: 'sum', root: count - 1 })),
      ),
    );
  });

  test('sums of fractions are as near as the type allows', async () => {
    const seed = Number(process.env['NC_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`seed ${seed} (NC_TEST_SEED)`);
    const ranks = await gpuGroup(machine.libraries, count);
    for (const type of ['float16', 'bfloat16', 'float32', 'float64']) {
      for (const length of [5, 4097, large]) {
        for (const answer of await askAll(ranks, 'sums', { type, length, seed })) {
          expect(answer.error).toBeUndefined();
          expect(answer.value, `seed ${seed}`).toBeUndefined();
        }
      }
    }
    await endAll(ranks);
  });

  test.each(eightBit)(
    '%s is reduced, or refused where the library or the device has it not',
    async (type) => {
      const ranks = await gpuGroup(machine.libraries, count);
      const text = `
      const buffer = await api.DeviceBuffer.allocate(64, { device: group().info().device.index });
      await buffer.copyFrom(new Uint8Array(64));
      try { await group().allReduce(buffer, { dtype: '${type}' }); } finally { buffer.dispose(); }`;
      const tried = await askAll(ranks, 'run', { text });
      const refusals = tried.map(({ error }) => error).filter((error) => error !== undefined);
      if (refusals.length > 0) {
        // A library that has them refuses devices that have them not (NCCL: below compute capability 9.0).
        if (machine.standins) expect(hasEightBit()).toBe(false);
        const codes = hasEightBit() ? ['DEVICE', 'INVALID_ARGUMENT'] : ['UNSUPPORTED'];
        for (const error of refusals) expect(codes, error.message).toContain(error.code);
        expect(refusals).toHaveLength(count);
        console.log(`${type} is not reduced here: ${refusals[0].message}`);
        await leave(ranks);
        return;
      }
      const calls = reductions.flatMap((op) =>
        ['sum', 'max'].flatMap((reduceOp) => [7, 1000].map((length) => ({ op, type, length, reduceOp }))),
      );
      for (const wrong of await valuesOf(askAll(ranks, 'collectives', { calls }))) expect(wrong).toEqual([]);
      await endAll(ranks);
    },
  );

  test('a barrier is passed when the last rank has come', async () => {
    const ranks = await gpuGroup(machine.libraries, count);
    const early = ranks.slice(1).map((rank) => ask(rank, 'barrier'));
    // None of them has passed it: the last of its operations still is under way.
    for (const rank of ranks.slice(1)) await untilRunning(rank);
    await valuesOf(Promise.all([...early, ask(ranks[0], 'barrier')]));
    await endAll(ranks);
  });

  test('typed arrays through pinned memory, and over the CPU beside the devices', async () => {
    const calls = [...moves, ...reductions].flatMap((op) =>
      [true, false].flatMap((staging) => [
        { op, type: 'int32', length: 5, reduceOp: 'sum', staging },
        { op, type: 'float32', length: large, reduceOp: 'max', staging },
        { op, type: 'int64', length: 3000, reduceOp: 'sum', staging },
      ]),
    );
    await run(count, calls);
  });

  test.each(['device', 'cpu'] as const)('votes over the %s', async (votes) => {
    const ranks = await gpuGroup(machine.libraries, count, undefined, { votes });
    for (const sync of [false, true]) {
      const said = await Promise.all(
        ranks.map((rank, i) => ask(rank, 'votes', { value: i === count - 1 && !sync, sync })),
      );
      for (const { value } of said) {
        expect(value).toEqual([!sync, '100n', { hasUnfinished: !sync, pauseConsensus: true }]);
      }
    }
    const paths = await valuesOf(askAll(ranks, 'run', { text: 'return group().operations().at(-1).path' }));
    const onDevice = machine.library?.name.toLowerCase();
    for (const path of paths) {
      if (votes === 'device') expect(path).toBe(onDevice);
      else expect(path).not.toBe(onDevice);
    }
    await endAll(ranks);
  });

  test('work of two groups on one buffer is in the order of streams and events', async () => {
    const ranks = await gpuGroup(machine.libraries, count);
    await valuesOf(formAll(ranks, {}, 'h'));
    for (const key of ['a', 'b']) await valuesOf(askAll(ranks, 'stream', { key }));
    for (const how of ['event', 'synchronize', 'same']) {
      const wrong = await valuesOf(askAll(ranks, 'ordering', { rounds: 30, how }));
      expect(wrong).toEqual(Array(count).fill(0));
    }
    await endAll(ranks, ['g', 'h']);
  });
});

onDevices(1)('with one device', () => {
  test('two ranks on it are refused by name', async () => {
    const ranks = await gpuProcesses(machine.libraries, 2);
    for (const { error } of await formAll(ranks, { device: 0 })) {
      expect(error.message).toMatch(/rank 0.*rank 1|rank 1.*rank 0/);
    }
    await leave(ranks);
  });

  test('memory that it does not have is refused, and it goes on', async () => {
    const [rank] = (await gpuProcesses(machine.libraries, 1)) as [RankProcess];
    const bytes = (machine.devices[0]?.memoryBytes ?? 0) * 2;
    const { error } = (await ask(rank, 'allocate', { bytes, device: 0 })) as Answer;
    expect(error).toMatchObject({ code: 'RESOURCE' });
    await valuesOf(askAll([rank], 'allocate', { bytes: 4096, device: 0 }));
    await endAll([rank], []);
  });
});
