/** send and recv between the devices of a group, over the stand-ins: values, order, and how they fail. */
import { describe, expect, test } from 'vitest';
import {
  type Answer,
  ask,
  askAll,
  dtypes,
  endAll,
  flavours,
  gpuGroup,
  leave,
  untilRunning,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';

async function withBuffers(ranks: RankProcess[]): Promise<RankProcess[]> {
  await valuesOf(askAll(ranks, 'allocate', { bytes: 4096 }));
  return ranks;
}

const send = (rank: RankProcess | undefined, to: number, options: object = {}) =>
  ask(rank, 'send', { options: { to, ...options } });
const recv = (rank: RankProcess | undefined, from: number, options: object = {}) =>
  ask(rank, 'recv', { options: { from, ...options } });

describe.each(flavours)('%s', (flavour) => {
  test.each([2, 3])('every type and size goes round %i ranks', async (count) => {
    const ranks = await gpuGroup(flavour, count);
    await valuesOf(askAll(ranks, 'stream'));
    const calls: object[] = [];
    for (const type of dtypes) {
      for (const length of [0, 1, 7, 1000]) calls.push({ type, length });
    }
    calls.push({ type: 'float32', length: 100_003 });
    for (const length of [1, 5000]) {
      calls.push({ type: 'int32', length, stream: 's', tag: 7 });
      calls.push({ type: 'float16', length, stream: 's', resolve: 'enqueued' });
      // Typed arrays through pinned memory, also to or from a buffer.
      for (const staged of [['send', 'recv'], ['send'], ['recv']]) {
        calls.push({ type: 'int64', length, staged });
      }
    }
    for (const wrong of await valuesOf(askAll(ranks, 'passOn', { calls }))) expect(wrong).toEqual([]);
    const paths = await valuesOf(
      askAll(ranks, 'run', {
        text: `return [...new Set(group().operations().map(({ op, path, device }) => op + ' ' + path + ' ' + device))]`,
      }),
    );
    for (const path of paths) expect(path).toEqual([`send ${flavour} true`, `recv ${flavour} true`]);
    await endAll(ranks);
  });

  test('the n-th that is sent is the n-th that is received, however they are called', async () => {
    const ranks = await gpuGroup(flavour, 2);
    const texts = [false, true].flatMap((sendsAtOnce) =>
      [false, true].map(
        (receivesAtOnce) => `
          const { rank } = group();
          const device = group().info().device.index;
          const buffers = [];
          for (let i = 0; i < 20; i += 1) {
            buffers.push(await api.DeviceBuffer.allocate(4, { device }));
            await buffers[i].copyFrom(new Int32Array([rank === 0 ? i * i : -1]));
          }
          const pending = [];
          for (let i = 0; i < 20; i += 1) {
            const options = { dtype: 'int32', tag: i };
            pending.push(rank === 0
              ? group().send(buffers[i], { to: 1, ...options })
              : group().recv(buffers[i], { from: 0, ...options }));
            if (!(rank === 0 ? ${sendsAtOnce} : ${receivesAtOnce})) await pending[i];
          }
          await Promise.all(pending);
          const got = [];
          for (const buffer of buffers) {
            got.push((await buffer.copyTo(new Int32Array(1)))[0]);
            buffer.dispose();
          }
          return got;`,
      ),
    );
    const squares = Array.from({ length: 20 }, (_, i) => i * i);
    for (const text of texts) {
      expect(await valuesOf(askAll(ranks, 'run', { text }))).toEqual([squares, squares]);
    }
    await endAll(ranks);
  });

  test('two pairs at once, of different lengths and numbers; the others count none', async () => {
    const ranks = await gpuGroup(flavour, 5);
    const text = `
      const { rank } = group();
      const device = group().info().device.index;
      if (rank < 4) {
        const other = rank ^ 1;
        for (let i = 1; i <= (rank < 2 ? 30 : 11); i += 1) {
          const bytes = 4 * i * (rank < 2 ? 1 : 100);
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
      }
      const [sum] = await group().allReduce(new Int32Array([rank]), { staging: true });
      return [sum, group().operations().find(({ op }) => op === 'allReduce').seq];`;
    // No number of the group's was used.
    for (const value of await valuesOf(askAll(ranks, 'run', { text }))) expect(value).toEqual([10, 1]);
    await endAll(ranks);
  });

  test('a recv that waits stands in the way of nothing on the CPU', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 3, undefined, { votes: 'cpu' }));
    const waiting = recv(ranks[0], 1);
    await untilRunning(ranks[0]);
    for (let i = 0; i < 20; i += 1) {
      expect(await valuesOf(askAll(ranks, 'array', { values: [i] }))).toEqual([[3 * i], [3 * i], [3 * i]]);
      await valuesOf(askAll(ranks, 'barrier'));
    }
    await valuesOf(Promise.all([waiting, send(ranks[1], 0)]));
    await valuesOf(askAll(ranks, 'reduce'));
    await endAll(ranks);
  });

  test('a message that differs fails by name, whoever calls first', async () => {
    const differing = [
      { options: { count: 7 }, text: 'int32 x 7' },
      { options: { dtype: 'float32' }, text: 'float32 x 1024' },
      { options: { tag: 9 }, text: 'tag 9' },
    ];
    for (const { options, text } of differing) {
      for (const first of [0, 1]) {
        const ranks = await withBuffers(await gpuGroup(flavour, 3));
        const calls = [() => send(ranks[0], 1), () => recv(ranks[1], 0, options)] as const;
        const early = (calls[first] as (typeof calls)[0])();
        await untilRunning(ranks[first]);
        // A message of as many bytes may have left before its sender hears of it.
        const late = (calls[1 - first] as (typeof calls)[0])();
        const answers = [await early, await late, await ask(ranks[2], 'barrier')];
        const [sent, received, beside] = first === 0 ? answers : [answers[1], answers[0], answers[2]];
        const second = sent?.error === undefined ? await ask(ranks[0], 'barrier') : sent;
        for (const { error } of [second, received, beside] as Answer[]) {
          expect(error).toMatchObject({ code: 'COLLECTIVE_MISMATCH', seq: 1 });
          expect(error.message).toMatch(
            /^message 1 from rank 0 to rank 1 differs: rank \d called .*on devices/,
          );
          expect(error.message).toContain(text);
        }
        await leave(ranks);
      }
    }
  });

  test('a deadline names the rank that has not called', async () => {
    for (const op of ['send', 'recv']) {
      const ranks = await withBuffers(await gpuGroup(flavour, 3));
      const call = op === 'send' ? send : recv;
      const { error, ms } = await call(ranks[0], 2, { timeoutMs: 300 });
      expect(error).toMatchObject({ code: 'TIMEOUT', op, seq: 1, peer: 2, missing: [2], rank: 0 });
      expect(error.message).toMatch(
        /on devices, was not complete within 300 ms; rank 2 .*has not called its/,
      );
      expect(ms).toBeGreaterThanOrEqual(299);
      const { error: other } = await ask(ranks[1], 'barrier');
      expect(other).toMatchObject({ code: 'TIMEOUT', consequence: true });
      await leave(ranks);
    }
  });

  test('two that both await their send before they receive wait until the deadline', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 2));
    const answers = await Promise.all(ranks.map((rank, i) => send(rank, 1 - i, { timeoutMs: 400 })));
    for (const { error } of answers) expect(error).toMatchObject({ code: 'TIMEOUT' });
    const own = answers.filter(({ error }) => error.consequence !== true);
    expect(own.length).toBeGreaterThan(0);
    for (const { error } of own) expect(error).toMatchObject({ op: 'send', missing: [1 - error.rank] });
    await leave(ranks);
  });

  test('a message behind an operation that its sender calls later: the deadline says that both have called', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 2));
    await valuesOf(askAll(ranks, 'allocate', { key: 'c', bytes: 4096 }));
    const answers = await Promise.all([
      ask(ranks[0], 'run', {
        text: `
          const device = group().info().device.index;
          const [a, b] = [await api.DeviceBuffer.allocate(4, { device }), await api.DeviceBuffer.allocate(4, { device })];
          const sum = group().allReduce(a, { dtype: 'int32' });
          sum.catch(() => {});
          await group().send(b, { to: 1, dtype: 'int32' });`,
      }),
      recv(ranks[1], 0, { count: 1, timeoutMs: 500 }),
    ]);
    for (const { error } of answers) expect(error).toMatchObject({ code: 'TIMEOUT', op: 'recv' });
    expect(answers[1]?.error.message).toContain('rank 0');
    expect(answers[1]?.error.message).toContain('has called its part');
    await leave(ranks);
  });

  test.each(['send', 'recv'])('a killed rank is lost by name to who waits in %s', async (op) => {
    for (const count of [2, 3]) {
      const ranks = await withBuffers(await gpuGroup(flavour, count));
      const victim = count - 1;
      const waiting = (op === 'send' ? send : recv)(ranks[0], victim);
      await untilRunning(ranks[0]);
      ranks[victim]?.kill();
      const began = performance.now();
      const { error } = await waiting;
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: victim });
      expect(performance.now() - began).toBeLessThan(1000);
      // Where somebody else saw it first, that one's operation is named.
      if (error.consequence !== true) {
        expect(error).toMatchObject({ op, seq: 1 });
        expect(error.message).toContain('during message 1');
      }
      expect(error.consequence === true && count === 2).toBe(false);
      for (const beside of ranks.slice(1, victim)) {
        expect((await ask(beside, 'barrier')).error).toMatchObject({ code: 'RANK_LOST', peer: victim });
      }
      await leave(ranks.slice(0, victim));
    }
  });

  test('abort() and a signal end messages that wait, on both sides', async () => {
    for (const how of ['abort', 'signal']) {
      const ranks = await withBuffers(await gpuGroup(flavour, 3));
      const waiting = [recv(ranks[2], 0), send(ranks[1], 0)];
      await Promise.all([untilRunning(ranks[1]), untilRunning(ranks[2])]);
      const began = performance.now();
      if (how === 'abort') {
        await ask(ranks[0], 'abort', { reason: 'enough' });
      } else {
        const text = `
          const device = group().info().device.index;
          const buffer = await api.DeviceBuffer.allocate(4, { device });
          const controller = new AbortController();
          const pending = group().recv(buffer, { from: 2, dtype: 'int32', signal: controller.signal });
          controller.abort(new Error('enough'));
          await pending;`;
        expect((await ask(ranks[0], 'run', { text })).error).toMatchObject({ code: 'ABORTED', peer: 0 });
      }
      for (const { error } of await Promise.all(waiting)) {
        expect(error).toMatchObject({ code: 'ABORTED', peer: 0 });
        expect(error.message).toContain('enough');
      }
      expect(performance.now() - began).toBeLessThan(1000);
      await leave(ranks);
    }
  });

  test('a rank that has closed sends and receives nothing more; what it sent before arrives', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 3));
    const both = [send(ranks[2], 0), recv(ranks[0], 2)];
    await valuesOf(Promise.all(both));
    const waiting = recv(ranks[1], 2);
    await untilRunning(ranks[1]);
    await valuesOf(askAll(ranks.slice(2), 'close'));
    const { error } = await waiting;
    expect(error).toMatchObject({ code: 'RANK_LOST', peer: 2, op: 'recv', seq: 1 });
    expect(error.message).toContain('closed the group');
    await leave(ranks);
  });

  test('what is not possible is refused, and counts no message', async () => {
    const ranks = await withBuffers(await gpuGroup(flavour, 2));
    const wrong: { argument: string; op: string; options: object }[] = [
      { argument: 'to', op: 'send', options: {} },
      { argument: 'to', op: 'send', options: { to: 0 } },
      { argument: 'to', op: 'send', options: { to: 2 } },
      { argument: 'from', op: 'recv', options: { from: -1 } },
      { argument: 'dtype', op: 'recv', options: { from: 1, dtype: 'int33' } },
      { argument: 'count', op: 'recv', options: { from: 1, count: 1025 } },
      { argument: 'tag', op: 'send', options: { to: 1, tag: 2 ** 32 } },
      { argument: 'resolve', op: 'send', options: { to: 1, resolve: 'enqueued' } },
      { argument: 'timeoutMs', op: 'send', options: { to: 1, timeoutMs: 0 } },
      { argument: 'stream', op: 'recv', options: { from: 1, stream: {} } },
    ];
    for (const { argument, op, options } of wrong) {
      const { error } = await ask(ranks[0], op, { options });
      expect(error, argument).toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(error.message).toMatch(new RegExp(`^${op}: .*${argument}`));
    }
    await valuesOf(Promise.all([send(ranks[0], 1), recv(ranks[1], 0)]));
    await endAll(ranks);
  });
});
