// What a process holds does not grow with the groups it has made: threads, descriptors, memory.
import { expect, test } from 'vitest';
import { flavours, standinEnv } from '../helpers/gpu-ranks.ts';
import { startRank } from '../helpers/ranks.ts';

interface Held {
  threads: number;
  descriptors: number;
  rssMB: number;
  anonymousMB: number;
  heapMB: number;
  mappings: number;
}

// V8's young generation grows with any activity, up to 16 MB a half; kept small, what is left to see is ours.
const flags = ['--expose-gc', '--max-semi-space-size=1'];

async function run(what: string, times: number, warmUp: number, env: NodeJS.ProcessEnv = {}) {
  const process_ = startRank('lifecycle/leaks.mjs', {
    command: [process.execPath, ...flags],
    args: [what, String(times), String(warmUp)],
    env,
  });
  const { before, after, codes, seconds } = await process_.next('figures', 60_000);
  expect(await process_.exited).toEqual({ code: 0, signal: null });
  console.log(
    `${what}: ${times} in ${seconds.toFixed(1)} s; after ${warmUp}: ${text(before)}; at the end: ${text(after)}`,
  );
  return { before: before as Held, after: after as Held, codes };
}

const text = (held: Held) =>
  `${held.threads} threads, ${held.descriptors} descriptors, RSS ${held.rssMB.toFixed(1)} MB, ` +
  `anonymous ${held.anonymousMB.toFixed(1)} MB, JS heap ${held.heapMB.toFixed(1)} MB, ${held.mappings} mappings`;

function expectSame(before: Held, after: Held, mostMB = 8): void {
  expect(after.threads).toBe(before.threads);
  expect(after.descriptors).toBe(before.descriptors);
  if (process.env['NC_SANITIZED'] !== undefined) return; // memory is the sanitizer's
  expect(after.anonymousMB - before.anonymousMB).toBeLessThan(mostMB);
  // RSS counts pages of files too: code that runs for the first time.
  expect(after.rssMB - before.rssMB).toBeLessThan(mostMB + 6);
  expect(after.heapMB - before.heapMB).toBeLessThan(2);
}

test('1,000 groups of two ranks, made, used and closed in one process', async () => {
  const { before, after } = await run('close', 1_000, 50);
  expectSame(before, after);
});

test('what the first 1,000 left behind were caches: 3,000 more add next to nothing', async () => {
  const { before, after } = await run('close', 4_000, 1_000);
  expectSame(before, after, 4);
});

test('200 formations that fail, in four ways', async () => {
  const { before, after } = await run('fail', 200, 40);
  expectSame(before, after);
});

test('groups dropped without close() leave when they are collected, and the others hear of it', async () => {
  const { before, after, codes } = await run('drop', 100, 20);
  expectSame(before, after);
  expect(codes).toEqual({ 'ABORTED by rank 0': 80 });
});

test.each(flavours)('200 groups on devices, over the stand-ins of %s', async (flavour) => {
  const { before, after } = await run('device', 200, 50, standinEnv(flavour));
  expectSame(before, after);
});
