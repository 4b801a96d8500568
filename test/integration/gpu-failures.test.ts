/** How GPU groups fail over the stand-ins: by name, on all ranks, soon, and never for ever. */
import { describe, expect, test } from 'vitest';
import {
  type Answer,
  ask,
  askAll,
  endAll,
  flavours,
  formAll,
  gpuGroup,
  gpuProcesses,
  leave,
  untilRunning,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';

const bytes = 4096;

async function withBuffers(ranks: RankProcess[]): Promise<RankProcess[]> {
  await valuesOf(askAll(ranks, 'allocate', { bytes }));
  return ranks;
}

/** Ends processes of which something may be stuck in a library; they must go at once all the same. */
async function leaveAtOnce(ranks: readonly RankProcess[]): Promise<void> {
  const began = performance.now();
  await leave(ranks);
  expect(performance.now() - began).toBeLessThan(6000);
}

describe.each(flavours)('%s', (flavour) => {
  test('a rank that is killed in mid-collective is lost by name, soon', async () => {
    for (const victim of [0, 1, 2]) {
      const ranks = await withBuffers(await gpuGroup(flavour, 3));
      const loops = ranks.map((rank) => ask(rank, 'loop').catch(() => undefined));
      await Promise.all(ranks.map((rank) => rank.next('looping')));
      ranks[victim]?.kill();
      const began = performance.now();
      for (const [rank, loop] of loops.entries()) {
        if (rank === victim) continue;
        const { error } = (await loop) as Answer;
        expect(error).toMatchObject({ code: 'RANK_LOST', peer: victim, op: 'allReduce' });
      }
      expect(performance.now() - began).toBeLessThan(1000);
      await leaveAtOnce(ranks.filter((_, rank) => rank !== victim));
    }
  });

  test('a killed rank that had not called: the others wait on the device, and hear of it', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 3));
    const waiting = ranks.slice(0, 2).map((rank) => ask(rank, 'reduce'));
    // They are on the device once each says that it runs.
    for (const rank of ranks.slice(0, 2)) await untilRunning(rank);
    ranks[2]?.kill();
    const began = performance.now();
    for (const { error } of await Promise.all(waiting)) {
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 2, op: 'allReduce', seq: 1 });
    }
    expect(performance.now() - began).toBeLessThan(1000);
    await leaveAtOnce(ranks.slice(0, 2));
  });

  test('abort() ends what waits on the device, here at once and there by name', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 3));
    const waiting = ranks.slice(0, 2).map((rank) => ask(rank, 'reduce'));
    const began = performance.now();
    await ask(ranks[1], 'abort', { reason: 'a new model' });
    for (const { error } of await Promise.all(waiting)) {
      expect(error).toMatchObject({ code: 'ABORTED', peer: 1 });
      expect(error.message).toContain('aborted by rank 1: a new model');
    }
    expect(performance.now() - began).toBeLessThan(500);
    const { error } = await ask(ranks[2], 'reduce');
    expect(error).toMatchObject({ code: 'ABORTED', peer: 1 });
    // The same processes form another one.
    await valuesOf(formAll(ranks));
    await valuesOf(askAll(ranks, 'reduce'));
    await endAll(ranks);
  });

  test('a deadline names the ranks that had not called', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 4));
    const waiting = [0, 2].map((rank) => ask(ranks[rank], 'reduce', { options: { timeoutMs: 400 } }));
    for (const { error } of await Promise.all(waiting)) {
      expect(error).toMatchObject({ code: 'TIMEOUT', missing: [1, 3], op: 'allReduce', seq: 1 });
    }
    await endAll(ranks);
  });

  test('calls that differ fail on all ranks by name', async () => {
    const differing: { what: string; args: object }[] = [
      { what: 'reduce', args: { options: { count: 7 } } },
      { what: 'reduce', args: { options: { dtype: 'float32' } } },
      { what: 'reduce', args: { options: { op: 'max' } } },
      { what: 'array', args: { values: [1, 2, 3] } },
      { what: 'barrier', args: {} },
    ];
    for (const { what, args } of differing) {
      const ranks = await withBuffers(await gpuGroup(flavour, 3));
      const answers = await Promise.all(
        ranks.map((rank, i) => (i === 1 ? ask(rank, what, args) : ask(rank, 'reduce'))),
      );
      for (const { error, ms } of answers) {
        expect(error).toMatchObject({ code: 'COLLECTIVE_MISMATCH', seq: 1 });
        expect(error.message).toMatch(/rank \d .*called .*rank \d .*called /);
        expect(ms).toBeLessThan(2000);
      }
      await leaveAtOnce(ranks);
    }
  });

  test('a rank that has closed takes part in nothing more', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 3));
    await valuesOf(askAll(ranks, 'reduce'));
    await valuesOf(askAll(ranks.slice(2), 'close'));
    for (const { error } of await askAll(ranks.slice(0, 2), 'reduce')) {
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 2 });
      expect(error.message).toContain('closed the group');
    }
    await leaveAtOnce(ranks);
  });

  test('an error that the library reports later is the failure of all', async () => {
    const ranks = await withBuffers(
      await gpuGroup(flavour, 3, (rank) => (rank === 1 ? { NC_STANDIN_FAULTS: 'async-error=3:6' } : {})),
    );
    for (const { error } of await askAll(ranks, 'loop')) {
      expect(error).toMatchObject({ code: 'DEVICE', op: 'allReduce', peer: 1, detectedBy: 1 });
      expect(error.message).toMatch(/rank 1, device 1, operation \d+, allReduce\(/);
    }
    for (const value of await valuesOf(askAll(ranks, 'state'))) expect(value).toBe('failed');
    await leaveAtOnce(ranks);
  });

  test('a device that fails, at whatever call, is an error of that device on all ranks', async () => {
    for (const after of [19, 20, 21, 22]) {
      const ranks = await withBuffers(
        await gpuGroup(flavour, 2, (rank) =>
          rank === 0 ? { NC_STANDIN_FAULTS: `device-error=${after}` } : {},
        ),
      );
      for (const { error } of await askAll(ranks, 'loop')) expect(error).toMatchObject({ code: 'DEVICE' });
      await leaveAtOnce(ranks);
    }
  });

  test('a collective that hangs ends at its deadline, also where the abort does not come back', async () => {
    for (const faults of ['hang=2', 'hang=2,abort-blocks', 'hang=2,abort-blocks,destroy-blocks']) {
      const ranks = await withBuffers(await gpuGroup(flavour, 2, () => ({ NC_STANDIN_FAULTS: faults })));
      await valuesOf(askAll(ranks, 'reduce'));
      await valuesOf(askAll(ranks, 'reduce'));
      for (const { error, ms } of await askAll(ranks, 'reduce', { options: { timeoutMs: 500 } })) {
        expect(error.code).toBe('TIMEOUT');
        expect(ms).toBeLessThan(1500);
      }
      for (const { ms } of await askAll(ranks, 'close')) expect(ms).toBeLessThan(3000);
      await leaveAtOnce(ranks);
    }
  });

  test('a library that does not close lets the process go all the same', async () => {
    // The last two come back around close()'s limit of 2 s: nobody else may end the communicator meanwhile.
    for (const faults of [
      'finalize-blocks',
      'destroy-blocks',
      'finalize-blocks,abort-blocks',
      'destroy-blocks=2020',
      'destroy-blocks=2400',
    ]) {
      const ranks = await gpuGroup(flavour, 2, () => ({ NC_STANDIN_FAULTS: faults }));
      for (const { ms, error } of await askAll(ranks, 'close')) {
        expect(error).toBeUndefined();
        expect(ms).toBeLessThan(5000);
      }
      await leaveAtOnce(ranks);
    }
  });

  test('memory that is freed while the device waits for other ranks holds up no copy', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 2));
    const copying = ask(ranks[0], 'run', {
      text: `
        const device = group().info().device.index;
        const [gone, kept, reduced] = [0, 1, 2].map(() => api.DeviceBuffer.allocate(64, { device }));
        const stream = await api.Stream.create({ device });
        const more = { dtype: 'int32', stream, resolve: 'enqueued', timeoutMs: 5000 };
        await kept.then((buffer) => buffer.copyFrom(new Int32Array(16).fill(7)));
        await group().allReduce(await reduced, more);
        (await gone).dispose();
        const copy = await (await kept).copyTo(new Int32Array(16));
        say('copied');
        await stream.synchronize();
        return copy.every((value) => value === 7);`,
    });
    await ranks[0]?.next('copied');
    const calling = ask(ranks[1], 'run', {
      text: `
        const buffer = await api.DeviceBuffer.allocate(64, { device: group().info().device.index });
        await group().allReduce(buffer, { dtype: 'int32' });
        return true;`,
    });
    expect(await valuesOf(Promise.all([copying, calling]))).toEqual([true, true]);
    await endAll(ranks);
  });

  test('every wait for a device ends: at its limit, or by its signal', async () => {
    const ranks = await gpuGroup(flavour, 2);
    const waiting = ask(ranks[0], 'run', {
      text: `
        const device = group().info().device.index;
        const buffer = await api.DeviceBuffer.allocate(64, { device });
        const stream = await api.Stream.create({ device });
        await group().allReduce(buffer, { dtype: 'int32', stream, resolve: 'enqueued' });
        const event = stream.record();
        const codes = [];
        const code = (wait) => wait.then(() => 'done', (error) => { codes.push(error.message); return error.code; });
        const said = [];
        said.push(await code(stream.synchronize({ timeoutMs: 20 })));
        said.push(await code(event.synchronize({ timeoutMs: 20 })));
        said.push(await code(buffer.copyTo(new Int32Array(16), { stream, timeoutMs: 20 })));
        const aborting = new AbortController();
        const aborted = code(stream.synchronize({ signal: aborting.signal }));
        aborting.abort();
        said.push(await aborted);
        said.push(await code(stream.synchronize({ timeoutMs: 0 })));
        said.push(await code(stream.synchronize({ signal: {} })));
        say('waited');
        // The device goes on all the same.
        await stream.synchronize();
        return [said, codes[0]];`,
    });
    await ranks[0]?.next('waited');
    const calling = ask(ranks[1], 'run', {
      text: `
        const buffer = await api.DeviceBuffer.allocate(64, { device: group().info().device.index });
        await group().allReduce(buffer, { dtype: 'int32' });`,
    });
    const [said] = await valuesOf(Promise.all([waiting, calling]));
    expect(said).toEqual([
      ['TIMEOUT', 'TIMEOUT', 'TIMEOUT', 'ABORTED', 'INVALID_ARGUMENT', 'INVALID_ARGUMENT'],
      expect.stringMatching(/^Stream\.synchronize: device 0 was not done within 20 ms/),
    ]);
    await endAll(ranks);
  });

  test.runIf(flavour === 'rccl')(
    'devices that have no identity of their own are not taken for one',
    async () => {
      const ranks = await gpuGroup(flavour, 2, () => ({ NC_STANDIN_FAULTS: 'no-uuid' }));
      for (const info of await valuesOf(askAll(ranks, 'info')))
        expect(info).toMatchObject({ device: { uuid: '' } });
      await endAll(ranks);
    },
  );

  test('what a staged call took is free again after the library refused it', async () => {
    const faults = { NC_STANDIN_FAULTS: 'out-of-memory=2000000' };
    const ranks = await gpuGroup(flavour, 2, () => faults);
    const refused = await valuesOf(
      askAll(ranks, 'run', {
        text: `
          let refused = 0;
          for (let i = 0; i < 100; i += 1) {
            const call = group().allReduce(new Int16Array(32_768), { staging: true });
            await call.catch((error) => { if (error.code === 'INVALID_ARGUMENT') refused += 1; });
          }
          return refused;`,
      }),
    );
    expect(refused).toEqual([100, 100]);
    for (const sum of await valuesOf(askAll(ranks, 'array', { values: [1], options: { staging: true } }))) {
      expect(sum).toEqual([2]);
    }
    await endAll(ranks);
  });

  test('a device out of memory, and one without a device', async () => {
    const ranks = await gpuProcesses(flavour, 1, () => ({ NC_STANDIN_FAULTS: 'out-of-memory=1000000' }));
    await valuesOf(askAll(ranks, 'allocate', { bytes: 1000, device: 0 }));
    const [{ error } = { error: undefined }] = await askAll(ranks, 'allocate', {
      key: 'c',
      bytes: 2_000_000,
      device: 0,
    });
    expect(error).toMatchObject({ code: 'RESOURCE' });
    await endAll(ranks, []);
  });

  test('two groups at once: one fails, the other does not feel it', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 3));
    await valuesOf(formAll(ranks, {}, 'h'));
    const loops = askAll(ranks, 'loop', { name: 'g' });
    await Promise.all(ranks.map((rank) => rank.next('looping')));
    await valuesOf(askAll(ranks, 'array', { name: 'h', values: [1], options: { staging: true } }));
    await ask(ranks[0], 'abort', { name: 'g', reason: 'over' });
    for (const { error } of await loops) expect(error).toMatchObject({ code: 'ABORTED', peer: 0 });
    expect(
      await valuesOf(askAll(ranks, 'array', { name: 'h', values: [2], options: { staging: true } })),
    ).toEqual([[6], [6], [6]]);
    await endAll(ranks, ['h']);
  });
});
