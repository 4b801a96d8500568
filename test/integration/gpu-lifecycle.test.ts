/** Device buffers, streams and events over the stand-ins, and the end of environments that have them. */
import { describe, expect, test } from 'vitest';
import {
  type Answer,
  ask,
  askAll,
  endAll,
  flavours,
  formAll,
  freePort,
  gpuGroup,
  gpuProcesses,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';

/** Runs a text in one process that is in no group; what it gives. */
async function one(flavour: (typeof flavours)[number], text: string, env: NodeJS.ProcessEnv = {}) {
  const [rank] = (await gpuProcesses(flavour, 1, () => env)) as [RankProcess];
  const answer = await ask(rank, 'run', { text });
  expect(answer.error).toBeUndefined();
  await endAll([rank], []);
  return answer.value;
}

const codeOf = `const codeOf = async (body) => { try { await body(); return 'none'; } catch (error) { return error.code; } };`;

describe.each(flavours)('%s', (flavour) => {
  test('a buffer and its parts: copies, ends, and what is refused', async () => {
    const value = await one(
      flavour,
      `${codeOf}
      const buffer = await api.DeviceBuffer.allocate(10_000_000, { device: 1 });
      const data = Uint8Array.from({ length: 10_000_000 }, (_, i) => (i * 7 + (i >> 8)) % 251);
      await buffer.copyFrom(data);
      const back = await buffer.copyTo(new Uint8Array(10_000_000));
      const part = buffer.subarray(4096, 1024);
      const some = await part.copyTo(new Uint8Array(1024));
      const inner = part.subarray(24);
      const [byte] = await inner.copyTo(new Uint8Array(1), { byteOffset: 7 });
      const wrapped = await api.DeviceBuffer.wrap({ address: part.address, bytes: 1024, device: 1 });
      const [first] = await wrapped.copyTo(new Uint8Array(1));
      wrapped.dispose();
      const out = {
        same: Buffer.compare(back, data),
        part: Buffer.compare(some, data.subarray(4096, 5120)),
        byte: byte === data[4096 + 24 + 7],
        first: first === data[4096],
        lengths: [part.byteLength, inner.byteLength, part.device],
        apart: Number(inner.address - buffer.address),
        codes: [
          await codeOf(() => buffer.copyFrom(new Uint8Array(10_000_001))),
          await codeOf(() => buffer.copyFrom([1, 2])),
          await codeOf(() => buffer.copyTo(new Uint8Array(1), { byteOffset: 10_000_001 })),
          await codeOf(() => buffer.copyTo(new Uint8Array(1), { stream: buffer })),
          await codeOf(() => buffer.subarray(-1)),
          await codeOf(() => buffer.subarray(0, 10_000_001)),
          await codeOf(() => api.DeviceBuffer.allocate(1.5)),
          await codeOf(() => api.DeviceBuffer.allocate(1, { device: 8 })),
          await codeOf(() => api.DeviceBuffer.wrap({ address: 4096n, bytes: 1 })),
          await codeOf(() => api.DeviceBuffer.wrap({ address: 0n, bytes: 1 })),
          await codeOf(() => api.DeviceBuffer.wrap({ address: buffer.address, bytes: 1, device: 0 })),
          await codeOf(() => api.DeviceBuffer.wrap({ address: buffer.address, bytes: 10_000_001, device: 1 })),
        ],
      };
      buffer.dispose();
      buffer.dispose();
      out.after = [
        await codeOf(() => buffer.copyTo(new Uint8Array(1))),
        await codeOf(() => part.copyTo(new Uint8Array(1))),
        await codeOf(() => inner.address),
        await codeOf(() => part.subarray(0)),
      ];
      const empty = await api.DeviceBuffer.allocate(0, { device: 0 });
      await empty.copyFrom(new Float32Array(0));
      empty[Symbol.dispose]();
      return out;`,
    );
    expect(value).toEqual({
      same: 0,
      part: 0,
      byte: true,
      first: true,
      lengths: [1024, 1000, 1],
      apart: 4120,
      codes: Array(12).fill('INVALID_ARGUMENT'),
      after: Array(4).fill('CLOSED'),
    });
  });

  test('streams and events: wrapped, disposed of, and what is refused', async () => {
    const value = await one(
      flavour,
      `${codeOf}
      const stream = await api.Stream.create({ device: 0 });
      const other = await api.Stream.wrap({ handle: stream.handle, device: 0 });
      const buffer = await api.DeviceBuffer.allocate(4, { device: 0 });
      await buffer.copyFrom(new Int32Array([7]), { stream });
      const event = other.record();
      await event.synchronize();
      const done = event.query();
      other.wait(event);
      await stream.synchronize();
      const [value] = await buffer.copyTo(new Int32Array(1), { stream: other });
      event.dispose();
      other.dispose();
      stream.dispose();
      buffer.dispose();
      const codes = [
        await codeOf(() => event.query()),
        await codeOf(() => event.synchronize()),
        await codeOf(() => stream.record()),
        await codeOf(() => stream.synchronize()),
        await codeOf(() => stream.wait(event)),
        await codeOf(() => stream.wait({})),
        await codeOf(() => api.Stream.create({ device: -1 })),
        await codeOf(() => api.Stream.wrap({ handle: 1 })),
      ];
      return { done, value, codes };`,
    );
    expect(value).toEqual({
      done: true,
      value: 7,
      codes: [
        'CLOSED',
        'CLOSED',
        'CLOSED',
        'CLOSED',
        'CLOSED',
        'INVALID_ARGUMENT',
        'INVALID_ARGUMENT',
        'INVALID_ARGUMENT',
      ],
    });
  });

  test('what collectives refuse of buffers and streams, before anything is sent', async () => {
    const ranks = await gpuGroup(flavour, 2);
    const text = `${codeOf}
      const { index: device } = group().info().device;
      const buffer = await api.DeviceBuffer.allocate(64, { device });
      const foreign = await api.DeviceBuffer.allocate(64, { device: 5 });
      const away = await api.Stream.create({ device: 5 });
      const gone = await api.DeviceBuffer.allocate(64, { device });
      gone.dispose();
      const codes = [
        await codeOf(() => group().allReduce(buffer, {})),
        await codeOf(() => group().allReduce(buffer)),
        await codeOf(() => group().allReduce(buffer, { dtype: 'float128' })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', op: 'bor' })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', count: 17 })),
        await codeOf(() => group().allReduce(buffer.subarray(0, 63), { dtype: 'int32' })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', out: buffer.subarray(4) })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', out: new Int32Array(16) })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', stream: {} })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', stream: away })),
        await codeOf(() => group().allReduce(buffer, { dtype: 'int32', resolve: 'enqueued' })),
        await codeOf(() => group().allReduce(foreign, { dtype: 'int32' })),
        await codeOf(() => group().allGather(buffer, { dtype: 'int32' })),
        await codeOf(() => group().allToAll(buffer, { dtype: 'int32', out: buffer })),
        await codeOf(() => group().broadcast(buffer, { dtype: 'int32', root: 2 })),
        await codeOf(() => group().allReduce(new Int32Array(1), { staging: 1 })),
      ];
      const closed = await codeOf(() => group().allReduce(gone, { dtype: 'int32' }));
      await buffer.copyFrom(new Int32Array(16).fill(3));
      await group().allReduce(buffer, { dtype: 'int32' });
      const [value] = await buffer.copyTo(new Int32Array(1));
      for (const each of [buffer, foreign, away]) each.dispose();
      return { codes, closed, value };`;
    for (const value of await valuesOf(askAll(ranks, 'run', { text }))) {
      expect(value).toEqual({ codes: Array(16).fill('INVALID_ARGUMENT'), closed: 'CLOSED', value: 6 });
    }
    await endAll(ranks);
  });

  test('a buffer that is disposed of in mid-operation is freed when that ends', async () => {
    const ranks = await gpuGroup(flavour, 2);
    const text = `
      const { index: device } = group().info().device;
      for (let i = 0; i < 30; i += 1) {
        const buffer = await api.DeviceBuffer.allocate(4096, { device });
        const stream = await api.Stream.create({ device });
        const running = group().allReduce(buffer, { dtype: 'int32', stream, op: 'max' });
        buffer.dispose();
        stream.dispose();
        await running;
      }
      return 'fine';`;
    expect(await valuesOf(askAll(ranks, 'run', { text }))).toEqual(['fine', 'fine']);
    await endAll(ranks);
  });

  test('a collected buffer is freed', async () => {
    await one(
      flavour,
      `const { setFlagsFromString } = await import('node:v8');
      const { runInNewContext } = await import('node:vm');
      setFlagsFromString('--expose-gc');
      const gc = runInNewContext('gc');
      // More than the device has, were they not freed.
      for (let i = 0; i < 40; i += 1) {
        await api.DeviceBuffer.allocate(2 ** 20, { device: 0 });
        gc();
        await new Promise(setImmediate);
      }
      return 'fine';`,
      { NC_STANDIN_MEMORY: String(30 * 2 ** 20) },
    );
  });

  /** Each says 'now' at the moment at which the environment is to end. */
  const stages = {
    'with buffers, streams and events': `
      const buffer = await api.DeviceBuffer.allocate(1000, { device: 0 });
      const stream = await api.Stream.create({ device: 0 });
      globalThis.kept = [buffer, stream, stream.record()];
      say('now');`,
    'while it allocates and copies': `
      const buffer = await api.DeviceBuffer.allocate(20_000_000, { device: 0 });
      void buffer.copyFrom(new Uint8Array(20_000_000));
      for (let i = 0; i < 20; i += 1) void api.DeviceBuffer.allocate(1000, { device: 0 });
      say('now');`,
    'while it joins': `
      api.ProcessGroup.create({ masterAddr: '127.0.0.1', masterPort: PORT, rank: 0, worldSize: 2, backend: 'nccl', device: 0 })
        .catch(() => {});
      setImmediate(() => say('now'));`,
    'in a group of its own, with operations under way': `
      const group = await api.ProcessGroup.create({ masterAddr: '127.0.0.1', masterPort: PORT, rank: 0, worldSize: 1,
        backend: 'nccl', device: 0 });
      const buffer = await api.DeviceBuffer.allocate(4096, { device: 0 });
      for (let i = 0; i < 50; i += 1) void group.allReduce(buffer, { dtype: 'int32' }).catch(() => {});
      say('now');`,
  };

  test.each(Object.entries(stages))('a worker ends %s', async (_, text) => {
    for (const terminate of [true, false]) {
      const [rank] = (await gpuProcesses(flavour, 1)) as [RankProcess];
      const port = await freePort();
      const ends = terminate ? 'setInterval(() => {}, 1000);' : 'process.exit(0);';
      const asked = await ask(rank, 'worker', {
        text: `${text.replace('PORT', String(port))} ${ends}`,
        terminate,
      });
      expect(asked.error).toBeUndefined();
      expect(asked.value).toMatchObject({ failed: null });
      expect(asked.ms).toBeLessThan(8000);
      await endAll([rank], []);
    }
  });

  test.each(Object.entries(stages))('process.exit() %s', async (_, text) => {
    // Node runs no clean-up of addons then: the driver takes back what the process had.
    const [rank] = (await gpuProcesses(flavour, 1, () => ({ NC_STANDIN_STRICT_EXIT: '0' }))) as [RankProcess];
    const port = await freePort();
    const began = performance.now();
    rank.send({
      id: 0,
      do: 'run',
      text: `say = () => process.exit(0); ${text.replace('PORT', String(port))}`,
    });
    expect(await rank.exited, rank.output).toEqual({ code: 0, signal: null });
    expect(performance.now() - began).toBeLessThan(8000);
  });

  test('an end in the middle of what hangs in the library is prompt', async () => {
    for (const faults of ['hang=0', 'hang=0,abort-blocks']) {
      const ranks = await gpuProcesses(flavour, 2, () => ({
        NC_STANDIN_FAULTS: faults,
        NC_STANDIN_STRICT_EXIT: '0',
      }));
      await valuesOf(formAll(ranks));
      await valuesOf(askAll(ranks, 'allocate', { bytes: 64 }));
      const began = performance.now();
      for (const rank of ranks) {
        void ask(rank, 'reduce').catch(() => undefined);
        rank.send({ id: 0, do: 'exit', code: 5 });
      }
      for (const rank of ranks) expect(await rank.exited, rank.output).toEqual({ code: 5, signal: null });
      expect(performance.now() - began).toBeLessThan(6000);
    }
    const ranks = await gpuProcesses(flavour, 2, () => ({
      NC_STANDIN_FAULTS: 'init-hang',
      NC_STANDIN_STRICT_EXIT: '0',
    }));
    void formAll(ranks).catch((): Answer[] => []);
    const began = performance.now();
    for (const rank of ranks) rank.send({ id: 0, do: 'exit', code: 5 });
    for (const rank of ranks) expect(await rank.exited, rank.output).toEqual({ code: 5, signal: null });
    expect(performance.now() - began).toBeLessThan(6000);
  });

  test('the process does not end under an abort that is still in the library', async () => {
    // 1.5 s: later than the group waits for it, earlier than the process does. Else with the exit code all the same.
    for (const faults of ['hang=0,abort-blocks=1500', 'hang=0,abort-blocks']) {
      const ranks = await gpuProcesses(flavour, 2, () => ({
        NC_STANDIN_FAULTS: faults,
        NC_STANDIN_STRICT_EXIT: '0',
      }));
      await valuesOf(formAll(ranks));
      await valuesOf(askAll(ranks, 'allocate', { bytes: 64 }));
      for (const { error } of await askAll(ranks, 'reduce', { options: { timeoutMs: 100 } }))
        expect(error).toMatchObject({ code: 'TIMEOUT' });
      const began = performance.now();
      for (const rank of ranks) rank.send({ id: 0, do: 'run', text: 'process.exitCode = 7' });
      for (const rank of ranks) rank.child.stdin?.end();
      for (const rank of ranks) expect(await rank.exited, rank.output).toEqual({ code: 7, signal: null });
      expect(performance.now() - began).toBeLessThan(6000);
    }
  });

  test('the group re-forms on its devices from the survivors', async () => {
    const ranks = await gpuGroup(flavour, 3);
    ranks[1]?.kill();
    const survivors = ranks.filter((_, rank) => rank !== 1);
    const text = `
      await group().barrier().catch(() => {});
      const next = await group().reform();
      const { index: device } = next.info().device;
      const buffer = await api.DeviceBuffer.allocate(4, { device });
      await buffer.copyFrom(new Int32Array([device + 1]));
      await next.allReduce(buffer, { dtype: 'int32' });
      const [sum] = await buffer.copyTo(new Int32Array(1));
      buffer.dispose();
      const { backend, size, generation } = next.info();
      await next.close();
      return { sum, backend, size, generation };`;
    for (const value of await valuesOf(askAll(survivors, 'run', { text }))) {
      expect(value).toEqual({ sum: 4, backend: 'nccl', size: 2, generation: 1 });
    }
    await endAll(survivors);
  });
});

test('without a GPU nothing of it is loaded, and what is asked for by name says what was looked for', async () => {
  const nowhere = {
    NODE_COLLECTIVES_CUDA_PATH: '/nowhere/libcuda.so',
    NODE_COLLECTIVES_HIP_PATH: '/nowhere/libamdhip64.so',
  };
  const text = `${codeOf}
    const { readFileSync } = await import('node:fs');
    const libraries = /libcuda|libnccl|librccl|libamdhip64/;
    const group = await api.ProcessGroup.create({ masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1 });
    await api.hasUnfinishedDp(group, true);
    const { votes } = group.info();
    await group.close();
    const before = libraries.test(readFileSync('/proc/self/maps', 'utf8'));
    return {
      before,
      votes,
      codes: [
        await codeOf(() => api.devices()),
        await codeOf(() => api.DeviceBuffer.allocate(1)),
        await codeOf(() => api.Stream.create()),
        await codeOf(() => api.ProcessGroup.create({ masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1, backend: 'nccl' })),
      ],
    };`;
  const value = await one('nccl', text, nowhere);
  expect(value).toEqual({
    before: false,
    votes: { path: 'cpu', reason: 'the group has no device' },
    codes: Array(4).fill('BACKEND_UNAVAILABLE'),
  });
});
