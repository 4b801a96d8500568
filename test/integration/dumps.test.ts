// Real groups that fail: every survivor leaves a dump, and `inspect` names the right rank.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Dump } from 'node-collectives';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { inspectCommand } from '../../src/cli/inspect.ts';
import { readDumps } from '../../src/observe/read.ts';
import { storiesOf } from '../../src/observe/story.ts';
import { closeAll, createHere, failureOf, formHere, meeting } from '../fixtures/lifecycle/groups.ts';
import { formPuppets, type Puppet } from '../fixtures/lifecycle/strings.ts';
import { testBackend } from '../helpers/ranks.ts';

let folder = '';
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'nc-dumps-')), 'made', 'by-the-first');
  vi.stubEnv('NODE_COLLECTIVES_DUMP_DIR', folder);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(join(folder, '..', '..'), { recursive: true });
});

const dumps = () => readDumps([folder]).dumps.map(({ dump }) => dump);
const dumped = () => dumps().map(({ group }) => group.rank);

/** The command's output and the one story, once the dumps of these ranks are there. */
async function inspected(ranks: number[]) {
  await expect
    .poll(() => (statSync(folder, { throwIfNoEntry: false }) ? dumped() : []).sort(), { timeout: 10_000 })
    .toEqual(ranks);
  let text = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  const trace = join(folder, '..', 'trace.json');
  expect(await inspectCommand([folder, '--trace', trace])).toBe(0);
  vi.restoreAllMocks();
  expect(JSON.parse(readFileSync(trace, 'utf8')).traceEvents.length).toBeGreaterThan(0);
  const stories = storiesOf(dumps());
  expect(stories).toHaveLength(1);
  return { text, story: stories[0]!, cause: stories[0]!.causes[0]! };
}

const voteCall = `allReduce(int32 x 1, max${testBackend === undefined ? '' : ', on devices'})`;
const everyone = (ranks: readonly Puppet[], what: string) =>
  Promise.all(ranks.map((each) => each.call(what)));

describe('groups of four processes', () => {
  test('a killed rank: the dumps of the others name it', async () => {
    const ranks = await formPuppets(4, { groupName: 'engine/a' });
    await everyone(ranks, 'vote');
    const voting = [0, 1, 3].map((rank) => ranks[rank]!);
    const failing = voting.map((each) => each.failure('vote'));
    await Promise.all(voting.map((each) => each.call('underway')));
    ranks[2]!.process.kill('SIGKILL');
    await Promise.all(failing);
    const { text, story, cause } = await inspected([0, 1, 3]);
    expect(cause).toMatchObject({ code: 'RANK_LOST', culprits: [2] });
    expect(story.causes).toHaveLength(1);
    expect(story.undumped).toEqual([2]);
    expect(text).toContain(`Rank 2 (pid ${ranks[2]!.process.pid} on `);
    expect(text).toContain(`Ranks 0, 1 and 3 were in operation 2, ${voteCall}`);
    for (const name of readdirSync(folder)) {
      expect(name).toMatch(/^nc-engine_a-g0-r[013]-p\d+-[0-9a-f]{12}\.json$/);
      expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    }
  });

  test('a killed rank while all are idle', async () => {
    const ranks = await formPuppets(4);
    ranks[0]!.process.kill('SIGKILL');
    const { cause, story } = await inspected([1, 2, 3]);
    expect(cause).toMatchObject({ code: 'RANK_LOST', culprits: [0] });
    expect(story.waits).toEqual([]);
  });

  test('a process that exits in its catch has written its dump', async () => {
    const ranks = await formPuppets(4);
    await everyone(ranks, 'vote');
    const exiting = [0, 1, 3].map((rank) => {
      ranks[rank]!.process.send({ id: 99, do: 'exitOnFailure', what: 'vote' });
      return ranks[rank]!.process.exited;
    });
    await Promise.all([0, 1, 3].map((rank) => ranks[rank]!.process.next('calling')));
    ranks[2]!.process.kill('SIGKILL');
    expect((await Promise.all(exiting)).map(({ code }) => code)).toEqual([7, 7, 7]);
    // Nobody waits for anything here: the processes are gone, and their dumps are whole.
    expect(dumped().sort()).toEqual([0, 1, 3]);
    const { cause } = await inspected([0, 1, 3]);
    // Who exits is lost to the others as well, and may be so before they hear of rank 2.
    expect(cause).toMatchObject({ code: 'RANK_LOST', culprits: [2] });
  });

  test('a stopped rank: the time-out, or what hears of it sooner, names it', async () => {
    const ranks = await formPuppets(4, { timeoutMs: 1_500 });
    await everyone(ranks, 'vote');
    ranks[1]!.process.kill('SIGSTOP');
    await Promise.all([0, 2, 3].map((rank) => ranks[rank]!.failure('vote')));
    const { text, cause } = await inspected([0, 2, 3]);
    expect(cause.culprits).toEqual([1]);
    expect(['TIMEOUT', 'RANK_LOST']).toContain(cause.code);
    expect(text).toContain('No dump of rank 1 (3 of 4 are here)');
    // Let go, it would hear of the failure and write a dump of its own.
    ranks[1]!.process.kill('SIGKILL');
    await ranks[1]!.process.exited;
  });

  test('a rank that stays away: all four dumps, and where it stayed', async () => {
    const ranks = await formPuppets(4);
    await everyone(ranks, 'vote');
    const options = { timeoutMs: 700 };
    await Promise.all([0, 1, 2].map((rank) => ranks[rank]!.failure('barrier', { options })));
    const { text, cause, story } = await inspected([0, 1, 2, 3]);
    expect(cause).toMatchObject({ code: 'TIMEOUT', culprits: [3], op: 'barrier', seq: 2 });
    expect(story.waits).toMatchObject([{ seq: 2, for: [3] }]);
    expect(text).toContain('and waited for rank 3, which had not called it.');
    expect(text).toContain(
      `Rank 3 never called operation 2, barrier(); it was last seen finishing 1, ${voteCall}.`,
    );
  });

  test('calls that differ, side by side', async () => {
    const ranks = await formPuppets(4);
    await everyone(ranks, 'vote');
    const voting = [0, 2, 3].map((rank) => ranks[rank]!);
    const failures = voting.map((each) => each.failure('vote'));
    // Commands are taken in order: the votes have been called. Who hears of the failure first calls nothing more.
    await Promise.all(voting.map((each) => each.call('info')));
    await Promise.all([...failures, ranks[1]!.failure('barrier')]);
    const { text, cause, story } = await inspected([0, 1, 2, 3]);
    expect(cause.code).toBe('COLLECTIVE_MISMATCH');
    expect(story.parting).toEqual({
      kind: 'different',
      seq: 2,
      calls: [
        { call: voteCall, ranks: [0, 2, 3] },
        { call: 'barrier()', ranks: [1] },
      ],
    });
    expect(text).toMatch(
      /ranks 0, 2 and 3 +called allReduce\(int32 x 1, max(, on devices)?\)\n +rank 1 +called barrier\(\)/,
    );
  });

  test('an abort, with its reason', async () => {
    const ranks = await formPuppets(4);
    const pending = [0, 1, 3].map((rank) => ranks[rank]!.failure('vote'));
    await ranks[2]!.call('abort', { reason: 'out of patience' });
    await Promise.all(pending);
    const { text, cause } = await inspected([0, 1, 2, 3]);
    expect(cause).toMatchObject({ code: 'ABORTED', culprits: [2], detectedBy: 2 });
    expect(text).toContain('aborted by rank 2: out of patience');
  });
});

describe('in one process', () => {
  test('a group that cannot be formed', async () => {
    const shared = await meeting(3, { initTimeoutMs: 300 });
    await Promise.all([0, 1].map((rank) => failureOf(createHere(shared, rank))));
    const { text, cause } = await inspected([0, 1]);
    expect(cause).toMatchObject({ code: 'TIMEOUT', culprits: [2] });
    expect(text).toContain('Rank 2 did not come in time, so the group was not formed.');
  });

  test('a failure is dumped once, and before the call rejects', async () => {
    const groups = await formHere(2);
    const { error } = await failureOf(groups[0]!.barrier({ timeoutMs: 50 }));
    const [first] = readDumps([folder]).dumps.filter(({ dump }) => dump.group.rank === 0);
    const dump = first!.dump;
    expect(dump).toMatchObject({
      format: 'node-collectives-dump',
      version: 1,
      reason: 'failure',
      group: {
        groupName: 'default',
        rank: 0,
        size: 2,
        state: 'failed',
        generation: 0,
        backend: testBackend ?? 'gloo',
      },
      failure: { name: 'TimeoutError', code: 'TIMEOUT', message: error.message, missing: [1], seq: 1 },
      operations: [{ seq: 1, op: 'barrier', state: 'failed', missing: [1] }],
      stats: { failed: 1, failures: { TIMEOUT: 1 } },
      process: { pid: process.pid, node: process.version },
    });
    const { formedAt, failedAt } = dump.stats;
    expect(failedAt! - formedAt!).toBeGreaterThan(49);
    expect(dump.group.members).toHaveLength(2);
    // Its text holds nothing that lets a process in.
    expect(Object.keys(dump.group)).not.toContain('token');
    await failureOf(groups[0]!.barrier());
    await closeAll(groups);
    expect(readFileSync(first!.file, 'utf8')).toBe(`${JSON.stringify(dump, undefined, 1)}\n`);
    expect(dumps().map(({ group }) => group.instance)).toEqual([dump.group.instance, dump.group.instance]);
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('dump() at any time: into a folder, a file, and what cannot be written throws', async () => {
    const groups = await formHere(2);
    const pending = failureOf(groups[0]!.barrier());
    const file = join(folder, '..', '..', 'mine.json');
    expect(groups[0]!.dump(file)).toBe(file);
    const dump = JSON.parse(readFileSync(file, 'utf8')) as Dump;
    expect(dump).toMatchObject({ reason: 'request', failure: null, group: { state: 'open' } });
    expect(groups[1]!.dump(join(folder, '..', '..'))).toMatch(/nc-default-g0-r1-p\d+-[0-9a-f]{12}\.json$/);
    expect(() => groups[0]!.dump(join(file, 'below'))).toThrow(/ENOTDIR/);
    expect(() => groups[0]!.dump('')).toThrow("dump: path must be a file or a folder, but is ''");
    groups[0]!.abort();
    await pending;
    await closeAll(groups);
  });

  test('without the variable nothing is written; where it cannot be, the failure is what counts', async () => {
    vi.stubEnv('NODE_COLLECTIVES_DUMP_DIR', undefined);
    const groups = await formHere(2);
    await failureOf(groups[0]!.barrier({ timeoutMs: 50 }));
    await closeAll(groups);
    expect(statSync(folder, { throwIfNoEntry: false })).toBeUndefined();

    const file = join(folder, '..', '..', 'a-file');
    writeFileSync(file, '');
    vi.stubEnv('NODE_COLLECTIVES_DUMP_DIR', file);
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const more = await formHere(2);
    expect((await failureOf(more[0]!.barrier({ timeoutMs: 50 }))).error.code).toBe('TIMEOUT');
    expect(warn.mock.calls[0]?.[0]).toContain('the dump of a failed group could not be written');
    await closeAll(more);
  });
});
