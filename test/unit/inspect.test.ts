// `node-collectives inspect` on made-up dumps: each story that a group can end with, and files that are none.
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { inspectCommand } from '../../src/cli/inspect.ts';
import { UsageError } from '../../src/cli/usage.ts';
import type { Dump } from '../../src/observe/dump.ts';
import { storiesOf } from '../../src/observe/story.ts';
import { durationText, ranksText, storyText } from '../../src/observe/text.ts';
import { call, dumpOf, epoch, type Made, votes } from '../helpers/dumps.ts';

const tell = (dumps: Dump[]) => {
  const stories = storiesOf(dumps);
  return { story: stories[0]!, text: stories.map(storyText).join('\n\n'), stories };
};

/** Ranks 0, 1 and 3 of 4 in vote 17, which rank 2 did not come to. */
const survivors = (failure: NonNullable<Made['failure']>, detector = 0) =>
  [0, 1, 3].map((rank) =>
    dumpOf({
      rank,
      operations: [
        ...votes(16),
        call(17, { at: 200 + rank * 100, ms: 5_000 - rank * 100, state: 'failed', error: failure.code }),
      ],
      failure: { ...failure, ...(rank === detector ? {} : { rank: detector, consequence: true }) },
      failedAt: 5_200 + rank,
    }),
  );

const lost = { code: 'RANK_LOST', peer: 2, peerPid: 102, peerHost: 'alpha', op: 'allReduce', seq: 17 };

describe('stories', () => {
  test('a killed rank: who, who saw it first, and that its dump is missing', () => {
    const { story, text } = tell(survivors(lost, 1));
    expect(story.causes).toHaveLength(1);
    expect(story.causes[0]).toMatchObject({ code: 'RANK_LOST', culprits: [2], detectedBy: 1, seq: 17 });
    expect(story.undumped).toEqual([2]);
    expect(text).toContain('Rank 2 (pid 102 on alpha) failed: it ended, or its link did, without a goodbye.');
    expect(text).toContain('Rank 1 saw it first, at 2026-01-02 03:00:05.201 UTC.');
    expect(text).toContain('Ranks 0 and 3 heard of it within 2.00 ms.');
    expect(text).toContain(
      'Ranks 0, 1 and 3 were in operation 17, allReduce(int32 x 1, max) for 4.7 s to 5.0 s.',
    );
    expect(text).toContain("What they lacked was rank 2's part.");
    expect(text).toContain('No dump of rank 2 (3 of 4 are here)');
    expect(text).toContain('Look at the output of rank 2 (pid 102 on alpha)');
    expect(text).toMatch(/^ {2}2 +alpha:102 +no dump +- +\?$/m);
  });

  test('a killed rank that each rank saw itself is one cause, and the first of them is named', () => {
    const dumps = [0, 1, 3].map((rank) =>
      dumpOf({ rank, operations: votes(3), failure: { ...lost, seq: 4 }, failedAt: 50 - rank }),
    );
    const { story, text } = tell(dumps);
    expect(story.causes).toHaveLength(1);
    expect(story.causes[0]!.detectedBy).toBe(3);
    expect(text).toContain('Rank 3 saw it first');
  });

  test('`detectedBy`, where the error has it, decides', () => {
    const { story, text } = tell(survivors({ ...lost, detectedBy: 3 }, 3).slice(0, 2));
    expect(story.causes[0]!.detectedBy).toBe(3);
    expect(text).toContain('Rank 3 saw it first, and its dump is not here. Rank 0 heard of it at');
  });

  test('a time-out with a missing rank whose dump says where it stayed', () => {
    const late = survivors({ code: 'TIMEOUT', missing: [2], peer: 2, op: 'allReduce', seq: 17 });
    const behind = dumpOf({
      rank: 2,
      operations: votes(16),
      failure: { code: 'TIMEOUT', missing: [2], rank: 0, consequence: true },
      failedAt: 5_210,
    });
    const { story, text } = tell([...late, behind]);
    expect(story.undumped).toEqual([]);
    expect(story.waits).toMatchObject([{ seq: 17, for: [2] }]);
    expect(story.waits[0]!.waiting.map(({ rank }) => rank)).toEqual([0, 1, 3]);
    expect(text).toContain('Rank 2 (pid 102 on alpha) did not call an operation that others waited in');
    expect(text).toContain(', and waited for rank 2, which had not called it.');
    expect(text).toContain(
      'Rank 2 never called operation 17, allReduce(int32 x 1, max); it was last seen finishing 16, allReduce(int32 x 1, max).',
    );
    expect(text).toContain('  rank 0: 5.0 s\n');
    expect(text).not.toContain('No dump of');
  });

  test('calls that differ, side by side, at the first difference', () => {
    const of = (rank: number, odd: boolean) =>
      dumpOf({
        rank,
        operations: [
          ...votes(4),
          call(5, { at: 100, ms: 2, state: 'failed', ...(odd ? { op: 'barrier', count: 0 } : {}) }),
          call(6, { at: 101, ms: 1, state: 'failed', count: odd ? 1 : 2 }),
        ],
        failure: {
          code: 'COLLECTIVE_MISMATCH',
          peer: odd ? 0 : 3,
          ...(rank === 1 ? { consequence: true } : {}),
        },
        failedAt: 103,
      });
    const { story, text } = tell([of(0, false), of(1, false), of(2, false), of(3, true)]);
    expect(story.causes).toHaveLength(1);
    expect(story.parting).toEqual({
      kind: 'different',
      seq: 5,
      calls: [
        { call: 'allReduce(int32 x 1, max)', ranks: [0, 1, 2] },
        { call: 'barrier()', ranks: [3] },
      ],
    });
    expect(text).toContain('The ranks called different operations.');
    expect(text).toContain(
      'At operation 5, for the first time:\n' +
        '    ranks 0 to 2  called allReduce(int32 x 1, max)\n' +
        '    rank 3        called barrier()\n',
    );
  });

  test('a difference long before the failure is found as well', () => {
    const dumps = survivors(lost);
    dumps[1]!.operations[3] = call(4, { at: 40, ms: 1, dtype: 'float32' });
    expect(tell(dumps).story.parting).toMatchObject({ kind: 'different', seq: 4 });
  });

  test('sends and receives are nobody else’s to match', () => {
    const dumps = survivors(lost);
    dumps[0]!.operations[3] = call(4, { at: 40, ms: 1, op: 'send', root: 1 });
    dumps[1]!.operations[3] = call(4, { at: 40, ms: 1, op: 'recv', root: 0 });
    expect(tell(dumps).story.parting).toBeUndefined();
  });

  test('an abort', () => {
    const { story, text } = tell(
      survivors({ code: 'ABORTED', peer: 3, message: 'aborted by rank 3: out of patience' }, 3),
    );
    expect(story.causes[0]).toMatchObject({ code: 'ABORTED', culprits: [3], detectedBy: 3 });
    expect(text).toContain('Rank 3 (pid 103 on alpha) ended the group: abort() was called there');
    expect(text).toContain('aborted by rank 3: out of patience (ABORTED)');
  });

  test('a group that was never formed', () => {
    const dumps = [0, 1].map((rank) => {
      const made = dumpOf({
        rank,
        size: 3,
        operations: [],
        failure: {
          code: 'TIMEOUT',
          missing: [2],
          op: 'join',
          ...(rank ? { consequence: true, rank: 0 } : {}),
        },
        failedAt: 10,
      });
      delete made.group.instance;
      delete made.group.members;
      delete made.stats.formedAt;
      return made;
    });
    const { text, stories } = tell(dumps);
    expect(stories).toHaveLength(1);
    expect(text).toContain("Group 'dp', job job, generation 0, 3 ranks, never formed");
    expect(text).toContain('Rank 2 did not come in time, so the group was not formed.');
  });

  test('generations and formations are told apart, in order of time; of two dumps of a rank the later counts', () => {
    const late = survivors(lost).map((dump) => ({
      ...dump,
      group: { ...dump.group, generation: 1, instance: 'def' },
      stats: { ...dump.stats, formedAt: epoch + 10_000 },
    }));
    const asked = dumpOf({ rank: 0, operations: votes(2), group: {} });
    asked.writtenAt = epoch + 1;
    const { stories } = tell([...late, ...survivors(lost), asked]);
    expect(stories.map(({ generation, ranks }) => [generation, ranks[0]!.pending.length])).toEqual([
      [0, 1],
      [1, 1],
    ]);
  });

  test('two causes at once: what most report comes first, the other is told', () => {
    const dumps = [
      ...survivors(lost).slice(0, 2),
      survivors({ code: 'RANK_LOST', peer: 1, message: 'other' }, 3)[2]!,
    ];
    const { story, text } = tell(dumps);
    expect(story.causes.map(({ culprits }) => culprits)).toEqual([[2], [1]]);
    expect(text).toContain('Rank 3 reports something else: other (RANK_LOST)');
  });

  test('ranks that ended because of another’s failure did not cause it, whoever saw their end first', () => {
    const dumps = survivors(lost).map((dump) =>
      dump.group.rank === 0 ? dump : { ...dump, failure: { ...dump.failure!, peer: 0, peerPid: 100 } },
    );
    const { story, text } = tell(dumps);
    expect(story.causes.map(({ culprits }) => culprits)).toEqual([[2], [0]]);
    expect(text).toContain('Rank 2 (pid 102 on alpha) failed');
    expect(text).toContain('Ranks 1 and 3 report something else');
  });

  test('a rank that calls far ahead does not make the others late', () => {
    const dumps = survivors(lost);
    for (let seq = 18; seq < 60; seq += 1) {
      const { begunAt: _, ...queued } = call(seq, { at: 300, state: 'queued' });
      dumps[0]!.operations.push(queued);
    }
    const { story, text } = tell(dumps);
    expect(story.parting).toBeUndefined();
    expect(text).toContain('17 allReduce(int32 x 1, max) failed, and 42 more after it');
  });

  test('dumps that were asked for', () => {
    const { text } = tell([dumpOf({ rank: 0, operations: [...votes(3), call(4, { at: 100 })] })]);
    expect(text).toContain('No rank reports a failure');
    expect(text).toContain('Rank 0 was in operation 4, allReduce(int32 x 1, max) for');
    expect(text).toContain('No dump of ranks 1 to 3 (1 of 4 are here)');
  });

  test('the clock of another host is corrected by the ends of collectives', () => {
    const ahead = 7_000;
    const shifted = (records: Dump['operations']) =>
      records.map((each) => ({
        ...each,
        calledAt: each.calledAt + ahead,
        begunAt: each.begunAt! + ahead,
        endedAt: each.endedAt! + ahead,
      }));
    const [first, second] = [0, 1].map((rank) =>
      dumpOf({
        rank,
        size: 2,
        host: rank === 0 ? 'alpha' : 'beta',
        operations: rank === 0 ? votes(20) : shifted(votes(20)),
        failure: { ...lost, peer: 1 - rank, ...(rank === 0 ? { consequence: true, rank: 1 } : {}) },
        failedAt: 300 + rank + rank * ahead,
      }),
    );
    const { story, text } = tell([first!, second!]);
    expect(story.clocks).toEqual({ alpha: 0, beta: ahead });
    expect(story.ranks[1]!.failedAt).toBe(epoch + 301);
    expect(text).toContain("The clock of beta is 7.0 s ahead of the others'; times are corrected.");
  });
});

test('words for ranks and durations', () => {
  expect([[], [3], [0, 1], [0, 1, 2], [5, 0, 1, 2, 7, 8]].map(ranksText)).toEqual([
    'no rank',
    'rank 3',
    'ranks 0 and 1',
    'ranks 0 to 2',
    'ranks 0 to 2, 5, 7 and 8',
  ]);
  expect([0.123, 9.99, 12.4, 999, 1_500, 61_000, 3_600_000].map(durationText)).toEqual([
    '0.12 ms',
    '9.99 ms',
    '12 ms',
    '999 ms',
    '1.5 s',
    '1 min 1 s',
    '60 min 0 s',
  ]);
});

describe('the command', () => {
  let out = '';
  let err = '';
  let folder = '';
  beforeEach(() => {
    [out, err] = ['', ''];
    folder = mkdtempSync(join(tmpdir(), 'nc-inspect-'));
    const keep = (add: (text: string) => void) => (text: string | Uint8Array) => {
      add(String(text));
      return true;
    };
    vi.spyOn(process.stdout, 'write').mockImplementation(keep((text) => (out += text)));
    vi.spyOn(process.stderr, 'write').mockImplementation(keep((text) => (err += text)));
  });
  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(folder, { recursive: true });
  });
  const put = (name: string, value: unknown) => {
    const file = join(folder, name);
    writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value, undefined, 1));
    return file;
  };
  const putAll = () => survivors(lost).map((dump, i) => put(`${i}.json`, dump));

  test('a folder, or its files: the same story, exit code 0', async () => {
    const files = putAll();
    expect(await inspectCommand([folder])).toBe(0);
    const first = out;
    expect(first).toContain('Rank 2 (pid 102 on alpha) failed');
    out = '';
    expect(await inspectCommand(files)).toBe(0);
    expect(out).toBe(first);
    expect(err).toBe('');
  });

  test('--json', async () => {
    const files = putAll();
    expect(await inspectCommand(['--json', folder])).toBe(0);
    const report = JSON.parse(out);
    expect(report.files).toEqual(files);
    expect(report.groups).toHaveLength(1);
    expect(report.groups[0].causes[0]).toMatchObject({ code: 'RANK_LOST', culprits: [2] });
  });

  test('files that are not ours are passed over in a folder, and complained of when named', async () => {
    putAll();
    const other = put('package.json', { name: 'x' });
    const broken = put('half.json', '{"name": ');
    put('notes.txt', 'nothing');
    mkdirSync(join(folder, 'deeper.json'));
    rmSync(join(folder, 'deeper.json'), { recursive: true });
    expect(await inspectCommand([folder])).toBe(0);
    expect(err).toBe('');
    expect(await inspectCommand([folder, other, broken])).toBe(3);
    expect(err).toContain(`${other}: no dump of node-collectives`);
    expect(err).toContain(`${broken}: no dump of node-collectives`);
  });

  test('a truncated dump is named, and the others are told all the same', async () => {
    const [file] = putAll();
    truncateSync(file!, 300);
    expect(await inspectCommand([folder])).toBe(3);
    expect(err).toContain(`${file}: the file is cut short`);
    expect(out).toContain('No dump of ranks 0 and 2 (2 of 4 are here)');
  });

  test('damaged dumps and those of another version', async () => {
    const [dump] = survivors(lost);
    const later = put('later.json', { ...dump, version: 2 });
    const wrong = put('wrong.json', { ...dump, operations: [{ seq: 'x' }] });
    const above = put('above.json', { ...dump, group: { ...dump!.group, rank: 9 } });
    expect(await inspectCommand([folder])).toBe(1);
    expect(err).toContain(`${later}: written in version 2 of the format; this program reads 1`);
    expect(err).toContain(`${wrong}: operations.0.seq: `);
    expect(err).toContain(`${above}: group: the rank is not below the size`);
    expect(err).toContain('there is no dump to inspect');
  });

  test('nothing there, wrong arguments', async () => {
    expect(await inspectCommand([folder])).toBe(1);
    expect(await inspectCommand([join(folder, 'none')])).toBe(1);
    expect(err).toContain('ENOENT');
    await expect(inspectCommand([])).rejects.toThrow(UsageError);
    await expect(inspectCommand(['--jsom', folder])).rejects.toThrow(
      'unknown option --jsom. Did you mean --json?',
    );
    await expect(inspectCommand(['--trace'])).rejects.toThrow(UsageError);
    expect(await inspectCommand(['--help'])).toBe(0);
    expect(out).toContain('Usage: node-collectives inspect');
  });
});
