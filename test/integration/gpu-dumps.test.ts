/** Dumps and records of GPU groups over the stand-ins: what they used, what ran on devices, what was waited for. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readDumps } from '../../src/observe/read.ts';
import type { OperationRecord } from '../../src/observe/stats.ts';
import { storiesOf } from '../../src/observe/story.ts';
import { storyText } from '../../src/observe/text.ts';
import { ask, askAll, endAll, flavours, gpuGroup, valuesOf } from '../helpers/gpu-ranks.ts';

describe.each(flavours)('%s', (flavour) => {
  test('a dump tells library, version and device, and inspect shows them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nc-gpu-dumps-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const ranks = await gpuGroup(flavour, 3, () => ({ NODE_COLLECTIVES_DUMP_DIR: folder }));
    await valuesOf(askAll(ranks, 'allocate', { bytes: 64 }));
    await valuesOf(askAll(ranks, 'reduce'));
    const failing = [ask(ranks[0], 'reduce'), ask(ranks[1], 'recv', { options: { from: 2 } })];
    const text = `while (group().operations().at(-1)?.state !== 'running') await new Promise(setImmediate);`;
    await Promise.all(ranks.slice(0, 2).map((rank) => ask(rank, 'run', { text })));
    ranks[2]?.kill();
    for (const { error } of await Promise.all(failing)) expect(error).toMatchObject({ code: 'RANK_LOST' });

    const { dumps, unusable } = readDumps([folder]);
    expect(unusable).toEqual([]);
    const cuda = flavour === 'nccl';
    const [name, version, platform] = cuda ? ['NCCL', '2.22.3', 'cuda'] : ['RCCL', '2.18.3', 'rocm'];
    expect(dumps.map(({ dump }) => dump.group.rank).sort()).toEqual([0, 1]);
    for (const { dump } of dumps) {
      expect(dump.group).toMatchObject({
        backend: 'nccl',
        library: { name, version, path: expect.stringMatching(/^\/.*cl.*\.so/) },
        device: { index: dump.group.rank, platform, uuid: expect.stringMatching(/^GPU-/) },
      });
      const [sum, last] = dump.operations as [OperationRecord, OperationRecord];
      expect(sum).toMatchObject({ op: 'allReduce', device: true, path: flavour, state: 'done' });
      expect(last).toMatchObject({ device: true, path: flavour, state: 'failed', error: 'RANK_LOST' });
      // Nobody can say what part of its time an operation on a device waits for others.
      for (const operation of dump.operations) expect(operation).not.toHaveProperty('waitedMs');
    }
    const [story] = storiesOf(dumps.map(({ dump }) => dump));
    const shown = storyText(story as NonNullable<typeof story>);
    expect(shown).toMatch(new RegExp(`Ranks 0 and 1: ${name} ${version}, /`));
    for (const rank of [0, 1]) {
      expect(shown).toMatch(new RegExp(`Rank ${rank}: ${platform} device ${rank}, stand-in .* device, GPU-`));
    }
    expect(shown).toContain('allReduce(int32 x 16, sum, on devices)');
    expect(shown).toContain('recv(int32 x 16, from rank 2, on devices)');
    for (const rank of ranks.slice(0, 2)) rank.child.stdin?.end();
    for (const rank of ranks.slice(0, 2)) expect((await rank.exited).signal).toBeNull();
  });

  test('what ran on the CPU beside the device still has its waiting', async () => {
    const ranks = await gpuGroup(flavour, 2);
    await valuesOf(askAll(ranks, 'array', { values: [1] }));
    await valuesOf(askAll(ranks, 'array', { values: [1], options: { staging: true } }));
    const records = await valuesOf(askAll(ranks, 'run', { text: 'return group().operations()' }));
    for (const [onCpu, onDevice] of records as [OperationRecord, OperationRecord][]) {
      expect(onCpu.waitedMs).toBeGreaterThanOrEqual(0);
      expect(onCpu.waitedMs).toBeLessThanOrEqual((onCpu.endedAt as number) - (onCpu.begunAt as number));
      expect(onDevice).not.toHaveProperty('waitedMs');
      expect(onDevice.endedAt).toBeGreaterThanOrEqual(onDevice.begunAt as number);
    }
    await endAll(ranks);
  });
});
