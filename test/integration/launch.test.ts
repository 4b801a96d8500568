import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BuiltLauncher, buildLauncher } from '../fixtures/launch/build.ts';
import { type Launched, type Puppet, puppetProgram, Stage } from '../fixtures/launch/stage.ts';

let built: BuiltLauncher;
let stage: Stage;
beforeAll(() => {
  built = buildLauncher();
});
afterAll(() => built.remove());
beforeEach(async () => {
  stage = await Stage.open(built.main);
});
afterEach(() => stage.close());

describe('what a rank gets', () => {
  it('has its place in the environment, and jobs have different ids', async () => {
    const [a, b] = [stage.launch(['--nproc', '3']), stage.launch(['-n', '3', '--master-port', '1234'])];
    const all = await stage.puppets(6);
    const jobs = byJob(all);
    expect(jobs.size).toBe(2);
    for (const ranks of jobs.values()) {
      const port = ranks[0]?.env['MASTER_PORT'] ?? '';
      for (const [i, { env }] of ranks.entries()) {
        expect(env).toMatchObject({
          RANK: `${i}`,
          LOCAL_RANK: `${i}`,
          WORLD_SIZE: '3',
          LOCAL_WORLD_SIZE: '3',
          MASTER_ADDR: '127.0.0.1',
          MASTER_PORT: port,
          VLLM_DP_RANK: `${i}`,
          VLLM_DP_RANK_LOCAL: `${i}`,
          VLLM_DP_SIZE: '3',
          VLLM_DP_MASTER_IP: '127.0.0.1',
          VLLM_DP_MASTER_PORT: port,
        });
        expect(env['NODE_COLLECTIVES_LISTEN_FD']).toBe(port !== '1234' && i === 0 ? '3' : undefined);
      }
    }
    for (const puppet of all) puppet.do('exit', { code: 0 });
    expect((await a.ended).code).toBe(0);
    expect((await b.ended).code).toBe(0);
  });

  it('does not see the rank of an outer launcher', async () => {
    const job = stage.launch(['-n', '1'], {
      env: {
        SLURM_PROCID: '7',
        SLURM_NTASKS: '9',
        PMI_RANK: '1',
        NODE_COLLECTIVES_LISTEN_FD: '5',
        KEPT: 'yes',
      },
    });
    const [only] = await stage.puppets(1);
    expect(only?.env).toMatchObject({ SLURM_NTASKS: '9', KEPT: 'yes', RANK: '0' });
    expect(only?.env).not.toHaveProperty('SLURM_PROCID');
    expect(only?.env).not.toHaveProperty('PMI_RANK');
    expect(only?.env['NODE_COLLECTIVES_LISTEN_FD']).toBe('3');
    only?.do('exit', { code: 0 });
    await job.ended;
  });

  it('rank 0 holds the listening socket from the start', async () => {
    const job = stage.launch(['-n', '2']);
    const [zero, one] = await stage.puppets(2);
    if (zero === undefined || one === undefined) throw new Error('ranks missing');
    const port = Number(zero.env['MASTER_PORT']);
    // Nobody else gets the port, though rank 0 has not touched it.
    const thief = createServer();
    const refused = new Promise((resolve) => thief.once('error', resolve));
    thief.listen(port, '127.0.0.1');
    expect(await refused).toMatchObject({ code: 'EADDRINUSE' });
    // Who dials early waits in the backlog.
    one.do('dial', { text: 'early' });
    expect(await one.told('done')).toBe('dial');
    zero.do('serve', { fd: Number(zero.env['NODE_COLLECTIVES_LISTEN_FD']) });
    expect(await zero.told('serving')).toBe(port);
    expect(await zero.told('heard')).toBe('early');
    zero.do('exit', { code: 0 });
    one.do('exit', { code: 0 });
    expect((await job.ended).code).toBe(0);
  });

  it('--no-listen-fd leaves the port to the program', async () => {
    const job = stage.launch(['-n', '1', '--no-listen-fd']);
    const [only] = await stage.puppets(1);
    const port = Number(only?.env['MASTER_PORT']);
    expect(only?.env).not.toHaveProperty('NODE_COLLECTIVES_LISTEN_FD');
    only?.do('serve', { port });
    expect(await only?.told('serving')).toBe(port);
    only?.do('exit', { code: 0 });
    await job.ended;
  });

  it.each(['0', 'none'])('--stdin %s', async (which) => {
    const job = stage.launch(['-n', '2', '--stdin', which], { stdin: 'pipe' });
    const ranks = await stage.puppets(2);
    job.child.stdin?.end('for the first');
    for (const rank of ranks) rank.do('stdin');
    const heard = await Promise.all(ranks.map((rank) => rank.told('stdin')));
    expect(heard).toEqual([which === '0' ? 'for the first' : '', '']);
    for (const rank of ranks) rank.do('exit', { code: 0 });
    expect((await job.ended).code).toBe(0);
  });
});

describe('output', () => {
  it('is prefixed by rank, in whole lines, with a last line that has no newline', async () => {
    const job = stage.launch(['-n', '2']);
    const [zero, one] = await stage.puppets(2);
    zero?.do('write', { stream: 'stdout', text: 'half ' });
    await zero?.told('done');
    one?.do('write', { stream: 'stdout', text: 'whole\n' });
    await one?.told('done');
    one?.do('write', { stream: 'stderr', text: 'to the other\n' });
    await one?.told('done');
    zero?.do('write', { stream: 'stdout', text: 'a line\n\nlast ü' });
    await zero?.told('done');
    zero?.do('exit', { code: 0 });
    one?.do('exit', { code: 0 });
    expect(await job.ended).toMatchObject({ code: 0 });
    const of = (rank: number) => job.stdout.split('\n').filter((line) => line.startsWith(`[rank ${rank}] `));
    expect(of(0)).toEqual(['[rank 0] half a line', '[rank 0] ', '[rank 0] last ü']);
    expect(of(1)).toEqual(['[rank 1] whole']);
    expect(job.stdout.endsWith('\n')).toBe(true);
    expect(job.stderr).toBe('[rank 1] to the other\n');
  });

  it('--no-prefix passes lines on', async () => {
    const job = stage.launch(['-n', '1', '--no-prefix'], { program: ['printf', 'one\\ntwo'] });
    expect(await job.ended).toMatchObject({ code: 0 });
    expect(job.stdout).toBe('one\ntwo\n');
  });

  // It needs a shell, and GCC's ThreadSanitizer, which is loaded into every process, crashes that.
  it.skipIf(process.env['NC_SANITIZED'] === 'thread')(
    'of 4 ranks at once, 60 MB on two streams into one pipe, loses and mixes nothing',
    async () => {
      const lines = 40_000;
      const width = 800;
      const command = [process.execPath, built.main, 'launch', '-n', '4', process.execPath, puppetProgram];
      const job = stage.run(['sh', '-c', 'exec "$@" 2>&1', 'sh', ...command]);
      // Counted as it comes; the whole is too much for one string comparison.
      let rest = '';
      const seen = [0, 0, 0, 0];
      const next = seen.map(() => [0, 1]);
      let wrong: string | undefined;
      job.child.stdout?.removeAllListeners('data');
      job.child.stdout?.on('data', (text: string) => {
        const all = (rest + text).split('\n');
        rest = all.pop() ?? '';
        for (const line of all) {
          const [, rank = '', number = '', padding = ''] =
            /^\[rank (\d)\] line (\d+) (x*) end$/.exec(line) ?? [];
          const order = next[Number(rank)] ?? [];
          const i = Number(number);
          if (rank === '' || padding.length !== i % width || order[i % 2] !== i) {
            wrong ??= `after line ${order[i % 2]} of rank ${rank}: ${line.slice(0, 300)}`;
          }
          order[i % 2] = i + 2;
          seen[Number(rank)] = (seen[Number(rank)] ?? 0) + 1;
        }
      });
      for (const rank of await stage.puppets(4)) rank.do('flood', { lines, width });
      expect(await job.ended).toMatchObject({ code: 0 });
      expect(wrong).toBeUndefined();
      expect(rest).toBe('');
      expect(seen).toEqual([lines, lines, lines, lines]);
    },
  );

  it('ends the job when nobody reads it any more', async () => {
    const job = stage.launch(['-n', '2']);
    const ranks = await stage.puppets(2);
    job.child.stdout?.destroy();
    ranks[0]?.do('write', { stream: 'stdout', text: 'anyone?\n' });
    await Promise.all(ranks.map((rank) => rank.gone));
    expect((await job.ended).code).toBe(141);
  });
});

describe('ends', () => {
  it('with the exit code of the rank that failed first, and ends the others', async () => {
    const job = stage.launch(['-n', '4']);
    const ranks = await stage.puppets(4);
    for (const rank of ranks.slice(0, 2)) {
      rank.do('report', { signals: ['SIGTERM'] });
      await rank.told('done');
    }
    ranks[2]?.do('exit', { code: 7 });
    expect(await ranks[0]?.told('signal')).toBe('SIGTERM');
    expect(await ranks[1]?.told('signal')).toBe('SIGTERM');
    ranks[0]?.do('exit', { code: 5 });
    ranks[1]?.do('exit', { code: 0 });
    expect((await job.ended).code).toBe(7);
    expect(job.stderr).toContain(
      `rank 2 (pid ${ranks[2]?.pid}) failed first: exit code 7; ending the others`,
    );
    await Promise.all(ranks.map((rank) => rank.gone));
  });

  it('with SIGKILL for who ignores SIGTERM, after the grace time', async () => {
    const job = stage.launch(['-n', '2', '--grace-ms', '50']);
    const [zero, one] = await stage.puppets(2);
    zero?.do('ignore', { signal: 'SIGTERM' });
    await zero?.told('done');
    one?.do('exit', { code: 1 });
    await zero?.gone;
    expect((await job.ended).code).toBe(1);
    expect(job.stderr).toContain('1 rank did not end on SIGTERM in 50 ms and got SIGKILL');
  });

  it('with 128 + n for a rank killed by a signal', async () => {
    const job = stage.launch(['-n', '2']);
    const ranks = await stage.puppets(2);
    ranks[1]?.do('kill', { signal: 'SIGKILL' });
    expect((await job.ended).code).toBe(137);
    expect(job.stderr).toContain(`rank 1 (pid ${ranks[1]?.pid}) failed first: killed by SIGKILL`);
  });

  it('with 127 and 126 for programs that do not start', async () => {
    const none = stage.launch(['-n', '2'], { program: ['no-such-program-here'] });
    expect((await none.ended).code).toBe(127);
    expect(none.stderr).toContain('rank 0 could not be started: no-such-program-here: not found');
    const file = join(stage.folder, 'plain');
    writeFileSync(file, 'text');
    chmodSync(file, 0o644);
    expect((await stage.launch(['-n', '1'], { program: [file] }).ended).code).toBe(126);
  });

  it('with 2 for wrong arguments and an address of another host with 1', async () => {
    const wrong = stage.launch(['--nrpoc', '2']);
    expect((await wrong.ended).code).toBe(2);
    expect(wrong.stderr).toContain('unknown option --nrpoc. Did you mean --nproc?');
    const away = stage.launch(['-n', '1', '--master-addr', '192.0.2.1']);
    expect((await away.ended).code).toBe(1);
    expect(away.stderr).toContain('EADDRNOTAVAIL');
  });

  it('what ranks left behind, also in a session of its own', async () => {
    const job = stage.launch(['-n', '1']);
    const [rank] = await stage.puppets(1);
    rank?.do('spawn', { detached: false });
    const [plain] = await stage.puppets(1);
    rank?.do('spawn', { detached: true });
    const [apart] = await stage.puppets(1);
    rank?.do('exit', { code: 0 });
    await Promise.all([plain?.gone, apart?.gone]);
    expect((await job.ended).code).toBe(0);
    expect(job.stderr).toContain('ended 2 processes that ranks had left behind');
  });

  it('even if a process that cannot be found holds the output', async () => {
    const job = stage.launch(['-n', '1']);
    const [rank] = await stage.puppets(1);
    rank?.do('spawn', { detached: true, clearEnv: true });
    const [hidden] = await stage.puppets(1);
    rank?.do('exit', { code: 0 });
    expect((await job.ended).code).toBe(0);
    hidden?.do('exit', { code: 0 });
    await hidden?.gone;
  });
});

describe('signals', () => {
  it('reach every rank', async () => {
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
    const ending = new Set<string>(signals.slice(0, 4));
    const jobs = [];
    for (const signal of signals) {
      const job = stage.launch(['-n', '2']);
      const ranks = await stage.puppets(2);
      for (const rank of ranks) {
        rank.do('report', { signals: [signal] });
        await rank.told('done');
      }
      process.kill(job.pid, signal);
      for (const rank of ranks) expect(await rank.told('signal')).toBe(signal);
      // Handled by the ranks: they go on until they are done.
      for (const rank of ranks) rank.do('exit', { code: 0 });
      jobs.push(job.ended);
      expect((await job.ended).code, signal).toBe(0);
      if (ending.has(signal)) expect(job.stderr).not.toContain('failed');
    }
  });

  it('that ranks do not handle end the job with 128 + n and no talk of failure', async () => {
    const job = stage.launch(['-n', '3']);
    const ranks = await stage.puppets(3);
    process.kill(job.pid, 'SIGINT');
    await Promise.all(ranks.map((rank) => rank.gone));
    expect((await job.ended).code).toBe(130);
    expect(job.stderr).not.toContain('failed');
  });

  it('a second one ends ranks that do not want to', async () => {
    const job = stage.launch(['-n', '2', '--grace-ms', '50']);
    const ranks = await stage.puppets(2);
    for (const rank of ranks) {
      rank.do('report', { signals: ['SIGINT', 'SIGTERM'] });
      await rank.told('done');
    }
    process.kill(job.pid, 'SIGINT');
    for (const rank of ranks) expect(await rank.told('signal')).toBe('SIGINT');
    process.kill(job.pid, 'SIGINT');
    await Promise.all(ranks.map((rank) => rank.gone));
    expect((await job.ended).code).toBe(130);
  });
});

describe('orphans', () => {
  it('there are none when the launcher gets SIGKILL: ranks, grandchildren, sessions, keeper', async () => {
    const job = stage.launch(['-n', '4']);
    const ranks = await stage.puppets(4);
    ranks[1]?.do('ignore', { signal: 'SIGTERM' });
    ranks[1]?.do('spawn', { detached: false });
    ranks[2]?.do('spawn', { detached: true });
    const others = await stage.puppets(2);
    const keepers = await running(job);
    process.kill(job.pid, 'SIGKILL');
    await Promise.all([...ranks, ...others].map((p) => p.gone));
    await vi.waitFor(() => expect(keepers.filter(alive)).toEqual([]), { timeout: 10_000, interval: 20 });
  });

  it('nor where the ranks are busy in JavaScript', async () => {
    const job = stage.launch(['-n', '3']);
    const ranks = await stage.puppets(3);
    for (const rank of ranks) rank.do('block');
    await Promise.all(ranks.map((rank) => rank.told('done')));
    process.kill(job.pid, 'SIGKILL');
    await Promise.all(ranks.map((p) => p.gone));
  });

  it('nor when the keeper was killed before', async () => {
    const job = stage.launch(['-n', '2']);
    const ranks = await stage.puppets(2);
    const [first = 0] = await running(job);
    process.kill(first, 'SIGKILL');
    const second = await vi.waitFor(
      () => {
        const [pid] = job.keepers().filter((p) => p !== first);
        if (pid === undefined) throw new Error('no new keeper yet');
        return pid;
      },
      { timeout: 10_000, interval: 20 },
    );
    process.kill(job.pid, 'SIGKILL');
    await Promise.all(ranks.map((p) => p.gone));
    await vi.waitFor(() => expect(alive(second)).toBe(false), { timeout: 10_000, interval: 20 });
  });

  it('nor of a launcher within a rank of a launcher', async () => {
    const inner = [process.execPath, built.main, 'launch', '-n', '2', process.execPath, puppetProgram];
    const job = stage.launch(['-n', '2'], { program: inner });
    const ranks = await stage.puppets(4);
    expect(new Set(ranks.map((p) => p.env['NODE_COLLECTIVES_JOB_ID'])).size).toBe(2);
    process.kill(job.pid, 'SIGKILL');
    await Promise.all(ranks.map((p) => p.gone));
  });

  it('and a second job on the host is not touched', async () => {
    const a = stage.launch(['-n', '2']);
    const ofA = await stage.puppets(2);
    const b = stage.launch(['-n', '2']);
    const ofB = await stage.puppets(2);
    const keepers = await running(b);
    process.kill(a.pid, 'SIGKILL');
    await Promise.all(ofA.map((p) => p.gone));
    for (const rank of ofB) {
      rank.do('write', { stream: 'stdout', text: 'alive\n' });
      await rank.told('done');
      rank.do('exit', { code: 0 });
    }
    expect((await b.ended).code).toBe(0);
    expect(b.stdout.split('\n').sort()).toEqual(['', '[rank 0] alive', '[rank 1] alive']);
    expect(keepers.filter(alive)).toEqual([]); // the launcher waits for its keeper
  });
});

/** False also for a zombie: in a container nobody may collect what lost its parent. */
function alive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !'ZX'.includes(stat[stat.lastIndexOf(')') + 2] ?? 'X');
  } catch {
    return false;
  }
}

/** The launcher's keeper, once it has its name. */
function running(job: Launched): Promise<number[]> {
  return vi.waitFor(
    () => {
      const keepers = job.keepers();
      expect(keepers).toHaveLength(1);
      return keepers;
    },
    { timeout: 10_000, interval: 10 },
  );
}

function byJob(all: readonly Puppet[]): Map<string, Puppet[]> {
  const jobs = new Map<string, Puppet[]>();
  for (const puppet of all) {
    const id = puppet.env['NODE_COLLECTIVES_JOB_ID'] ?? '';
    jobs.set(id, [...(jobs.get(id) ?? []), puppet]);
  }
  return jobs;
}
