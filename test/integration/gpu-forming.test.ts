/** Forming GPU groups over the stand-ins: what must be equal, what must differ, and what a broken library does. */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type Answer,
  ask,
  askAll,
  endAll,
  flavours,
  formAll,
  formEach,
  freePort,
  gpuProcesses,
  type Libraries,
  leave,
  standinEnv,
  untilThread,
  valuesOf,
} from '../helpers/gpu-ranks.ts';
import type { RankProcess } from '../helpers/ranks.ts';
import { standinFile } from '../helpers/standins.ts';

/** Has all processes form the group of a configuration, on a machine with that many devices. */
async function formConfigured(
  ranks: readonly RankProcess[],
  settings: object,
  deviceCount: number,
  options: object = {},
): Promise<Answer[]> {
  const port = await freePort();
  return Promise.all(
    ranks.map((process, rank) =>
      ask(process, 'configured', {
        settings,
        options,
        host: { platform: 'cuda', deviceCount, distBackend: 'nccl', customAllReduce: true },
        env: {
          VLLM_DP_SIZE: String(ranks.length),
          VLLM_DP_RANK: String(rank),
          VLLM_DP_MASTER_IP: '127.0.0.1',
          VLLM_DP_MASTER_PORT: String(port),
        },
      }),
    ),
  );
}

/** Whether this machine has that library where the loader looks by itself. */
function installed(file: string): boolean {
  const { stdout } = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' });
  return (stdout ?? '').includes(`${file} `);
}

/** Has all join until a signal of theirs fires; what each of them says, and when it did. */
async function joinAbortably(ranks: readonly RankProcess[]): Promise<Promise<Answer>[]> {
  const masterPort = await freePort();
  return ranks.map((process, rank) =>
    ask(process, 'run', {
      text: `
        globalThis.aborting = new AbortController();
        const { code, peer, message } = await api.ProcessGroup.create({ masterAddr: '127.0.0.1',
          masterPort: ${masterPort}, rank: ${rank}, worldSize: ${ranks.length}, backend: 'nccl', device: ${rank},
          initTimeoutMs: 20000, signal: aborting.signal }).catch((error) => error);
        return { code, peer, message, at: Date.now() };`,
    }),
  );
}

/** Fires the signal of one of them; when. */
async function abortOn(rank: RankProcess | undefined): Promise<number> {
  const text = `const at = Date.now(); aborting.abort(new Error('enough')); return at;`;
  return (await ask(rank, 'run', { text })).value;
}

/** All have the same error, and all but one as a consequence. */
function expectSame(answers: Answer[], code: string, text: RegExp): void {
  for (const { error } of answers) {
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(text);
  }
  expect(new Set(answers.map(({ error }) => error.message)).size).toBe(1);
}

describe.each(flavours)('%s', (flavour) => {
  /** Three ranks, of which one has a fault. */
  const oneFaulty = (fault: string, faulty = 1, libraries: Libraries = flavour) =>
    gpuProcesses(libraries, 3, (rank) => (rank === faulty ? { NC_STANDIN_FAULTS: fault } : {}));

  test('two ranks on one device are refused by name', async () => {
    const ranks = await gpuProcesses(flavour, 3);
    const answers = await formAll(ranks, (rank: number) => ({ device: rank === 2 ? 0 : rank }));
    for (const { error } of answers) {
      expect(error).toMatchObject({ code: 'GROUP_MISMATCH', peer: 2 });
      expect(error.message).toMatch(/rank 0 .*rank 2 .*use the same device GPU-/);
    }
    await endAll(ranks, []);
  });

  test('a device that is not there, and none at all', async () => {
    const ranks = await gpuProcesses(flavour, 2);
    expectSame(
      await formAll(ranks, (rank: number) => ({ device: rank === 1 ? 8 : 0 })),
      'INVALID_ARGUMENT',
      /^rank 1, device 8: there is no device 8; this process may use 8 devices/,
    );
    await endAll(ranks, []);

    const hidden = flavour === 'nccl' ? 'CUDA_VISIBLE_DEVICES' : 'HIP_VISIBLE_DEVICES';
    const blind = await gpuProcesses(flavour, 2, (rank) => (rank === 1 ? { [hidden]: '' } : {}));
    expectSame(await formAll(blind), 'BACKEND_UNAVAILABLE', new RegExp(hidden));
    await endAll(blind, []);
  });

  test('a library that is not there fails by name, as does one that lacks what is needed', async () => {
    const ranks = await gpuProcesses(flavour, 2, (rank) =>
      rank === 1 ? { NODE_COLLECTIVES_NCCL_PATH: '/nowhere/libnccl.so' } : {},
    );
    const answers = await formAll(ranks);
    expectSame(answers, 'BACKEND_UNAVAILABLE', /\/nowhere\/libnccl\.so/);
    expect(answers.map(({ error }) => error.consequence)).toEqual([true, undefined]);
    await endAll(ranks, []);

    // A library of another kind under that name.
    const other = { NODE_COLLECTIVES_NCCL_PATH: standinFile('libnvidia-ml.so.1') };
    const without = await gpuProcesses(flavour, 2, (rank) => (rank === 1 ? other : {}));
    expectSame(
      await formAll(without),
      'BACKEND_UNAVAILABLE',
      /libnvidia-ml\.so\.1.*: another library: it has no ncclGetVersion\(\)/,
    );
    await endAll(without, []);
  });

  test('versions that differ are refused with both', async () => {
    const other = flavour === 'nccl' ? 'libnccl-2.29.so.2' : 'librccl-2.13.so.1';
    const ranks = await gpuProcesses(flavour, 2, (rank) => (rank === 1 ? standinEnv(flavour, other) : {}));
    expectSame(
      await formAll(ranks),
      'GROUP_MISMATCH',
      /version: 2\.\d+\.\d on rank 0 .* and 2\.\d+\.\d on rank 1 /,
    );
    await endAll(ranks, []);
  });

  test('backends and ways of voting that differ are refused with both', async () => {
    const ranks = await gpuProcesses(flavour, 2);
    const gloo = { backend: 'gloo', device: undefined };
    expectSame(
      await formAll(ranks, (rank: number) => (rank === 1 ? gloo : {})),
      'GROUP_MISMATCH',
      /backend is nccl on rank 0 .* gloo on rank 1/,
    );
    expectSame(
      await formAll(ranks, (rank: number) => ({ votes: rank === 1 ? 'cpu' : 'device' })),
      'GROUP_MISMATCH',
      /votes is device on rank 0 .* cpu on rank 1/,
    );
    // Nothing is left of either: the next one forms.
    await valuesOf(formAll(ranks));
    await endAll(ranks);
  });

  test('an init that hangs ends at the deadline on all', async () => {
    const ranks = await oneFaulty('init-hang');
    const late = await formAll(ranks, { initTimeoutMs: 1500 });
    // Whoever says it first; on none of them does the library come back, as it waits for the hanging one.
    const [first] = late.map(({ error }) => error.missing);
    expect(first).toHaveLength(1);
    for (const { error, ms } of late) {
      expect(error).toMatchObject({ code: 'TIMEOUT', missing: first, peer: first[0] });
      expect(error.message).toMatch(/did not come back$/);
      expect(ms).toBeLessThan(3500);
    }
    await leave(ranks);
  });

  test('an abort ends a hanging init at once', async () => {
    const ranks = await oneFaulty('init-hang');
    const answers = await joinAbortably(ranks);
    // Once the links stand, only the communicator is missing.
    await Promise.all(ranks.map((rank) => untilThread(rank.pid, 'standin-stream')));
    const at = await abortOn(ranks[2]);
    const said = await Promise.all(answers);
    for (const { value } of said) {
      expect(value.code).toBe('ABORTED');
      expect(value.message).toMatch(/aborted by rank 2: enough/);
    }
    expect(said[2]?.value.at - at).toBeLessThan(400);
    await leave(ranks);
  });

  // Where Python's packages have it: an environment of its own, conda, the user's.
  const inPackages = (folder: string) =>
    join(
      folder,
      flavour === 'nccl'
        ? 'lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2'
        : 'lib/python3.11/site-packages/torch/lib/librccl.so',
    );
  const places = [
    { variable: 'VIRTUAL_ENV', file: inPackages },
    { variable: 'CONDA_PREFIX', file: inPackages },
    { variable: 'HOME', file: (folder: string) => inPackages(join(folder, '.local')) },
    ...(flavour === 'nccl'
      ? [{ variable: 'CONDA_PREFIX', file: (folder: string) => join(folder, 'lib/libnccl.so.2') }]
      : []),
  ];
  const usual = flavour === 'nccl' ? 'libnccl.so.2' : 'librccl.so.1';

  test.skipIf(installed(usual)).each(places)(
    'a library that only Python packages have is found below $variable',
    async ({ variable, file }) => {
      const folder = await mkdtemp(join(tmpdir(), 'nc-places-'));
      onTestFinished(() => rm(folder, { recursive: true }));
      const path = file(folder);
      await mkdir(dirname(path), { recursive: true });
      await symlink(standinFile(usual), path);
      const ranks = await gpuProcesses(flavour, 2, () => ({
        NODE_COLLECTIVES_NCCL_PATH: undefined,
        VLLM_NCCL_SO_PATH: undefined,
        VIRTUAL_ENV: undefined,
        CONDA_PREFIX: undefined,
        [variable]: folder,
      }));
      await valuesOf(formAll(ranks));
      for (const info of await valuesOf(askAll(ranks, 'info')))
        expect(info).toMatchObject({ backend: 'nccl', library: { path } });
      await endAll(ranks);
    },
  );

  // NCCL before 2.14, where every call blocks: docs/gpu.md.
  const blocking = flavour === 'nccl' ? 'libnccl-2.10.so.2' : 'librccl-2.13.so.1';

  test('over a library whose calls all block a group works, and hears of a rank that dies', async () => {
    const ranks = await gpuProcesses(() => standinEnv(flavour, blocking), 3);
    await valuesOf(formAll(ranks, { votes: 'device' }));
    const calls = [
      { op: 'allReduce', type: 'float32', length: 1000, reduceOp: 'sum' },
      { op: 'broadcast', type: 'int8', length: 33 },
      { op: 'allGather', type: 'int64', length: 7 },
    ];
    for (const wrong of await valuesOf(askAll(ranks, 'collectives', { calls }))) expect(wrong).toEqual([]);
    const vote = 'return api.hasUnfinishedDp(group(), group().rank === 1)';
    expect(await valuesOf(askAll(ranks, 'run', { text: vote }))).toEqual([true, true, true]);
    ranks[1]?.kill();
    const survivors = [ranks[0], ranks[2]] as RankProcess[];
    for (const { error } of await askAll(survivors, 'run', { text: 'await group().barrier()' }))
      expect(error).toMatchObject({ code: 'RANK_LOST', peer: 1 });
    await leave(survivors);
  });

  test('over such a library an init that hangs ends at the deadline, and leaves the process to end', async () => {
    const ranks = await oneFaulty('init-hang', 1, () => standinEnv(flavour, blocking));
    for (const { error, ms } of await formAll(ranks, { initTimeoutMs: 1500 })) {
      expect(error.code).toBe('TIMEOUT');
      expect(ms).toBeLessThan(3500);
    }
    await leave(ranks);
  });

  test('a driver that does not start: joining ends at its deadline and names the rank', async () => {
    const ranks = await oneFaulty('driver-blocks');
    const late = await formAll(ranks, { initTimeoutMs: 1500 });
    for (const { error, ms } of late) {
      expect(error).toMatchObject({ code: 'TIMEOUT', missing: [1] });
      expect(ms).toBeLessThan(3500);
    }
    await leave(ranks);
  });

  test('an abort while the driver starts, before the rank has registered, reaches the others at once', async () => {
    const ranks = await oneFaulty('driver-blocks');
    const answers = await joinAbortably(ranks);
    await untilThread((ranks[1] as RankProcess).pid, 'nc-gpu-load');
    const at = await abortOn(ranks[1]);
    for (const { value } of await Promise.all(answers)) {
      expect(value).toMatchObject({ code: 'ABORTED', peer: 1 });
      expect(value.at - at).toBeLessThan(280); // 300 for a rank that waits for others to come
    }
    await leave(ranks);
  });

  test('a driver that does not start: a signal and a limit end what waits, and JavaScript goes on', async () => {
    const ranks = await gpuProcesses(flavour, 1, () => ({ NC_STANDIN_FAULTS: 'driver-blocks' }));
    const masterPort = await freePort();
    const text = `
      const codeOf = (waiting) => waiting.then(() => 'done', (error) => error.code);
      const aborting = new AbortController();
      const joining = codeOf(api.ProcessGroup.create({ masterAddr: '127.0.0.1', masterPort: ${masterPort}, rank: 0,
        worldSize: 1, backend: 'nccl', device: 0, signal: aborting.signal }));
      const codes = [await codeOf(api.DeviceBuffer.allocate(64, { timeoutMs: 50 }))];
      const allocating = codeOf(api.DeviceBuffer.allocate(64, { signal: aborting.signal }));
      aborting.abort(new Error('enough'));
      return [...codes, await allocating, await joining];`;
    expect(await valuesOf(askAll(ranks, 'run', { text }))).toEqual([['TIMEOUT', 'ABORTED', 'ABORTED']]);
    await leave(ranks);
  });

  test('an init that fails on one rank is the failure of all', async () => {
    const ranks = await oneFaulty('init-fail', 2);
    const answers = await formAll(ranks);
    expectSame(answers, 'DEVICE', /./);
    await endAll(ranks, []);
  });

  test('a rank that dies while the others make the communicator is lost by name', async () => {
    const ranks = await oneFaulty('init-hang');
    const forming = (await formEach(ranks)).map((answer) => answer.catch(() => undefined));
    await Promise.all(ranks.map((rank) => untilThread(rank.pid, 'standin-stream')));
    ranks[1]?.kill();
    const began = performance.now();
    for (const answer of [forming[0], forming[2]]) {
      expect((await answer)?.error).toMatchObject({ code: 'RANK_LOST', peer: 1 });
    }
    expect(performance.now() - began).toBeLessThan(1000);
  });

  test('the parallel configuration chooses the backend and the votes', async () => {
    const ranks = await gpuProcesses(flavour, 2, (rank) => ({ LOCAL_RANK: String(rank) }));
    const form = (settings: object, deviceCount: number, options?: object) =>
      formConfigured(ranks, settings, deviceCount, options);
    for (const [setting, path] of [
      [true, 'cpu'],
      [false, 'device'],
      [null, 'device'],
    ] as const) {
      const infos = await valuesOf(form({ disableNcclForDpSynchronization: setting }, 8));
      for (const info of infos) {
        expect(info).toMatchObject({
          backend: 'nccl',
          backendReason: 'platform cuda',
          votes: { path, reason: `disableNcclForDpSynchronization is ${setting}` },
        });
      }
      const said = await Promise.all(ranks.map((rank, i) => ask(rank, 'votes', { value: i === 1 })));
      for (const { value } of said) expect(value[0]).toBe(true);
      await valuesOf(askAll(ranks, 'close'));
    }
    // A process that sees no device falls back, and says so: each time to who listens, once to the process. What was
    // asked of devices does not stand in the way.
    const asked = { device: 0, ncclPath: '/opt/nccl/libnccl.so.2', votes: 'device' };
    for (const [options, reason] of [
      [{}, 'disableNcclForDpSynchronization is null; the group has no device'],
      [asked, "'device' was asked for, but the group has no device"],
      [{ votes: 'cpu' }, 'the group has no device'],
    ] as const) {
      const infos = await valuesOf(form({}, 0, options));
      for (const info of infos) {
        expect(info).toMatchObject({ backend: 'gloo', votes: { path: 'cpu', reason } });
        expect((info as { backendReason: string }).backendReason).toContain('sees no device');
      }
      for (const rank of ranks) {
        const told = await rank.next('fallback');
        expect(told).toMatchObject({ from: 'nccl', to: 'gloo', groupName: 'dp' });
      }
      await valuesOf(askAll(ranks, 'close'));
    }
    for (const rank of ranks) expect(rank.output.split('BACKEND_FALLBACK')).toHaveLength(2);
    // Asked for by name there is no other; and CPUs asked for by name have no device.
    for (const { error } of await form({}, 0, { backend: 'nccl', device: 99 })) {
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    for (const [option, value] of Object.entries(asked)) {
      for (const { error } of await form({}, 0, { backend: 'gloo', [option]: value })) {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
        expect(error.message).toContain(option);
      }
    }
    await endAll(ranks, []);
  });

  test('NCCL by name fails where there is no device, or no driver, and does not fall back', async () => {
    const hidden = flavour === 'nccl' ? 'CUDA_VISIBLE_DEVICES' : 'HIP_VISIBLE_DEVICES';
    const driver = flavour === 'nccl' ? 'NODE_COLLECTIVES_CUDA_PATH' : 'NODE_COLLECTIVES_HIP_PATH';
    for (const [variable, value] of [
      [hidden, ''],
      [driver, '/nowhere/driver.so'],
    ] as const) {
      const ranks = await gpuProcesses(flavour, 2, () => ({ [variable]: value }));
      const answers = await formConfigured(ranks, {}, 0, { backend: 'nccl' });
      for (const { error } of answers) {
        expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
        expect(error.message).toContain(value === '' ? variable : value);
      }
      await endAll(ranks, []);
      for (const rank of ranks) expect(rank.output).not.toMatch(/fallback|BACKEND_FALLBACK/);
    }
  });
});
