/**
 * The example as a user runs it: compiled by the set-up (`npm test` and `npm start` do that first), with real
 * processes.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const program = join(root, 'build/ts/examples/01-dp-engine/main.js');
if (!existsSync(program) || !existsSync(join(root, 'dist/cli/main.js'))) {
  throw new Error(`${program} or dist/ is missing; run: node scripts/setup.mjs`);
}

interface Run {
  readonly child: ChildProcess;
  output: () => string;
  /** Resolves when the output matches. */
  shows: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly ended: Promise<number | null>;
}

let children: ChildProcess[];
let folder: string;
beforeEach(() => {
  children = [];
  folder = mkdtempSync(join(tmpdir(), 'nc-engine-'));
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

function start(command: string, ...args: string[]): Run {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let text = '';
  let wake: (() => void)[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      for (const resolve of wake.splice(0)) resolve();
    });
  }
  const ended = once(child, 'close').then(([code]) => {
    const waiting = wake;
    wake = [];
    for (const resolve of waiting) resolve();
    return code as number | null;
  });
  const shows = async (pattern: RegExp) => {
    for (;;) {
      const match = pattern.exec(text);
      if (match !== null) return match;
      if (child.exitCode !== null) throw new Error(`ended without ${pattern}:\n${text}`);
      await new Promise<void>((resolve) => wake.push(resolve));
    }
  };
  return { child, output: () => text, shows, ended };
}

const example = (...args: string[]) => start(process.execPath, program, ...args);

/** Pids whose parent is this one, from /proc. */
function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number(stat(pid)[1]) === parent);
}

/** State, parent and what follows; empty for a process that is gone. */
function stat(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

describe('the example', () => {
  it('serves its own trace with 4 engines that end at the same step', async () => {
    const run = example();
    expect(await run.ended, run.output()).toBe(0);
    const [, step] = await run.shows(/4 engines ended at step (\d+), wave \d+/);
    const rows = run.output().match(/^\[rank 0\] +\d +120 .*$/gm) ?? [];
    expect(rows).toHaveLength(4);
    for (const row of rows) expect(row.split(/ +/)[6]).toBe(step);
    expect(run.output()).toMatch(/^\[rank 0\] +all +480 /m);
    for (const rank of [0, 1, 2, 3]) {
      expect(run.output()).toMatch(new RegExp(`^\\[rank ${rank}\\] progress 120/120 requests`, 'm'));
    }
  });

  it('computes the same whatever the number of engines', async () => {
    const sums = [];
    for (const n of ['1', '2', '3']) {
      const run = example('--nproc', n, '--limit', '100', '--work', '0.1');
      expect(await run.ended, run.output()).toBe(0);
      sums.push((await run.shows(/checksum ([0-9a-f]{8})/))[1]);
    }
    expect(new Set(sums).size).toBe(1);
  });

  it('reports malformed lines by number and serves all others', async () => {
    const file = join(folder, 'trace.csv');
    writeFileSync(
      file,
      '\uFEFFTIMESTAMP,ContextTokens,GeneratedTokens\r\n1,5,5\r\n2,-5,5\r\n\r\n3,5\r\n2,7,7\r\n"1",9,9',
    );
    const run = example('--trace', file, '-n', '2');
    expect(await run.ended, run.output()).toBe(0);
    expect(run.output()).toContain('trace line 3: prompt tokens');
    expect(run.output()).toContain('trace line 5: has 2 columns instead of 3; left out');
    expect(run.output()).toContain('trace line 7: arrives before line 6; taken in order of time');
    expect(run.output()).toMatch(/^\[rank 0\] +all +3 +21 +21 /m);
  });

  it('refuses what no cache can hold, and goes on', async () => {
    const run = example('--limit', '40', '--work', '0.1', '--kv-bytes-per-token', '1000000000000');
    expect(await run.ended, run.output()).toBe(0);
    expect(run.output()).toContain('40 requests did not fit into a KV cache of 0 tokens');
  });

  it('says what is wrong with its arguments', async () => {
    const run = example('--nproc', 'many');
    expect(await run.ended).toBe(2);
    expect(run.output()).toContain("--nproc must be a whole number from 1 up, it is 'many'");
    expect(await example('--trace', join(folder, 'none.csv')).ended).toBe(2);
  });

  it('ends as a whole when an engine is killed', async () => {
    const run = example('--work', '1000', '-n', '3');
    await run.shows(/engines agreed/);
    const [launcher = 0] = childrenOf(run.child.pid ?? 0);
    const all = childrenOf(launcher);
    const engines = all.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('engine.js'));
    expect(engines).toHaveLength(3);
    process.kill(engines[1] ?? 0, 'SIGKILL');
    expect(await run.ended).toBe(137);
    expect(run.output()).toMatch(/rank \d \(pid \d+\) failed first: killed by SIGKILL/);
    await vi.waitFor(
      () => expect(all.filter((pid) => !['Z', undefined].includes(stat(pid)[0]))).toEqual([]),
      {
        timeout: 10_000,
        interval: 20,
      },
    );
  });

  // It needs a shell, and GCC's ThreadSanitizer, which is loaded into every process, crashes that.
  it.skipIf(process.env['NC_SANITIZED'] === 'thread')(
    'draws a bar for each rank on a terminal, and the table below',
    async () => {
      const line = `stty cols 120; "${process.execPath}" "${program}" -n 2 --limit 60 --work 0.1`;
      const run = start('script', '-qec', line, '/dev/null');
      expect(await run.ended, run.output()).toBe(0);
      expect(run.output()).toMatch(/rank 1 █+ 100% {2}30\/30 requests/);
      expect(run.output()).not.toContain('] progress');
      const table = run.output().lastIndexOf('2 engines ended at step');
      expect(table).toBeGreaterThan(run.output().lastIndexOf('█'));
    },
  );
});
