import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freeMemory } from '../../examples/01-dp-engine/memory.ts';
import { parseOptions } from '../../examples/01-dp-engine/options.ts';
import {
  ProgressView,
  parseProgress,
  progressBar,
  progressLine,
} from '../../examples/01-dp-engine/progress.ts';
import {
  decodeReports,
  disagreements,
  encodeReport,
  type RankReport,
  reportTable,
} from '../../examples/01-dp-engine/report.ts';

const mib = 2 ** 20;

describe('freeMemory', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'nc-memory-'));
    put('proc/meminfo', `MemTotal: ${8192 * 1024} kB\nMemFree: 5 kB\nMemAvailable: ${4096 * 1024} kB\n`);
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function put(file: string, text: string | number): void {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), `${text}\n`);
  }
  const mount = (line: string) => put('proc/self/mountinfo', line);

  it("is the host's where no group limits it", () => {
    expect(freeMemory(root)).toEqual({ bytes: 4096 * mib, limitedBy: 'host' });
  });

  it('is bounded by the tightest group of version 2, cache counted as free', () => {
    mount('1 0 0:1 / /sys/fs/cgroup rw shared:1 - cgroup2 cgroup2 rw');
    put('proc/self/cgroup', '0::/a/b');
    put('sys/fs/cgroup/a/b/memory.max', 'max');
    put('sys/fs/cgroup/a/b/memory.current', 100 * mib);
    put('sys/fs/cgroup/a/memory.max', 1000 * mib);
    put('sys/fs/cgroup/a/memory.current', 300 * mib);
    put('sys/fs/cgroup/a/memory.stat', `anon 5\ninactive_file ${100 * mib}`);
    expect(freeMemory(root)).toEqual({ bytes: 800 * mib, limitedBy: join(root, 'sys/fs/cgroup/a') });
  });

  it('understands version 1 in a container: a mount that shows only the own group', () => {
    mount('1 0 0:1 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory');
    put('proc/self/cgroup', '5:cpu,cpuacct:/docker/x\n4:memory:/docker/x');
    put('sys/fs/cgroup/memory/memory.limit_in_bytes', 512 * mib);
    put('sys/fs/cgroup/memory/memory.usage_in_bytes', 500 * mib);
    put('sys/fs/cgroup/memory/memory.stat', `inactive_file 7\ntotal_inactive_file ${88 * mib}`);
    expect(freeMemory(root).bytes).toBe(100 * mib);
  });

  it("takes version 1's number near 2^63 for no limit, and is never negative", () => {
    mount('1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory');
    put('proc/self/cgroup', '4:memory:/g');
    put('sys/fs/cgroup/memory/g/memory.limit_in_bytes', '9223372036854771712');
    put('sys/fs/cgroup/memory/g/memory.usage_in_bytes', 1);
    expect(freeMemory(root).limitedBy).toBe('host');
    put('sys/fs/cgroup/memory/g/memory.limit_in_bytes', 10);
    put('sys/fs/cgroup/memory/g/memory.usage_in_bytes', 20);
    expect(freeMemory(root).bytes).toBe(0);
  });

  it('finds something on this machine', () => {
    expect(freeMemory().bytes).toBeGreaterThan(0);
  });
});

describe('progress', () => {
  const state = { finished: 5, requests: 10, generatedTokens: 77, step: 64, wave: 2 };

  it('lines can be read back through the launcher', () => {
    expect(parseProgress(`[rank 3] ${progressLine(state)}`)).toEqual({ rank: 3, ...state });
    expect(parseProgress('[rank 3] progress is good')).toBeUndefined();
    expect(parseProgress(progressLine(state))).toBeUndefined();
  });

  it('bars fit the terminal, however narrow', () => {
    expect(progressBar(0, state, 120)).toContain(`${'█'.repeat(15)}${'░'.repeat(15)}  50%  5/10 requests`);
    expect(progressBar(0, undefined, 80)).toContain('joining');
    expect(progressBar(0, { ...state, requests: 0, finished: 0 }, 120)).toContain('100%');
    for (let columns = 0; columns < 130; columns++) {
      expect(progressBar(1, state, columns).length).toBeLessThan(Math.max(1, columns));
    }
  });

  it('are drawn in place, other lines above them', () => {
    let out = '';
    const view = new ProgressView(
      2,
      (text) => {
        out += text;
      },
      () => 80,
    );
    view.line(`[rank 1] ${progressLine(state)}`);
    expect(out.split('\n')).toHaveLength(3);
    out = '';
    view.line('hello');
    expect(out.startsWith('\u001b[2A\r\u001b[Jhello\nrank 0 ')).toBe(true);
    expect(out).toMatch(/\nrank 0 .*joining\nrank 1 .*5\/10.*\n$/);
    // Once rank 0 is done its lines wait for the end, where no bar is drawn any more.
    view.line(`[rank 0] ${progressLine({ ...state, finished: 10 })}`);
    out = '';
    view.line('the table');
    expect(out).toBe('');
    view.line(`[rank 1] ${progressLine({ ...state, finished: 10 })}`);
    expect(out).not.toContain('the table');
    out = '';
    view.end();
    expect(out).toBe('the table\n');
  });
});

describe('report', () => {
  const report: RankReport = {
    requests: 1,
    refused: 2,
    promptTokens: 3,
    generatedTokens: 4,
    waves: 5,
    steps: 6,
    dummySteps: 7,
    votes: 8,
    votingMs: 9.5,
    fastestVoteMs: 0.01,
    offeredBytes: 11 * mib,
    agreedBytes: 12 * mib,
    elapsedMs: 13,
  };

  it('travels as numbers', () => {
    const other = { ...report, requests: 100 };
    expect(decodeReports(Float64Array.of(...encodeReport(report), ...encodeReport(other)))).toEqual([
      report,
      other,
    ]);
  });

  it('tells disagreement by field and rank', () => {
    expect(disagreements([report, { ...report, requests: 9, dummySteps: 0 }])).toEqual([]);
    expect(disagreements([report, { ...report, steps: 7 }])).toEqual(['steps differ: rank 0 6, rank 1 7']);
  });

  it('is a table with a row a rank and one for all', () => {
    const lines = reportTable([report, report]).split('\n');
    expect(lines).toHaveLength(5);
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
    expect(lines[4]).toMatch(/^ all +2 +6 +8 +14 +19 +$/);
  });
});

describe('options', () => {
  it('have defaults and are checked', () => {
    expect(parseOptions([])).toMatchObject({ nproc: 4, speed: 1, voteEvery: 32, trace: undefined });
    expect(parseOptions(['-n', '2', '--work', '0.5', '--trace', 'x'])).toMatchObject({
      nproc: 2,
      work: 0.5,
      trace: 'x',
    });
    expect(parseOptions(['--help'])).toBe('help');
    expect(() => parseOptions(['--nproc', '1.5'])).toThrow(
      /--nproc must be a whole number from 1 up, it is '1.5'/,
    );
    expect(() => parseOptions(['--speed', '0'])).toThrow(/--speed/);
    expect(() => parseOptions(['--max-batch', '3000'])).toThrow(/--tokens-per-step/);
    expect(() => parseOptions(['--bogus'])).toThrow(/--bogus/);
  });
});
