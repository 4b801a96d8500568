// `node-collectives doctor` as a user runs it, on this machine and over the stand-ins for GPU libraries.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { DeviceGroupLimits } from '../../src/doctor/device-group.ts';
import type { DoctorOptions } from '../../src/doctor/doctor.ts';
import type { Finding, Section } from '../../src/doctor/finding.ts';
import { type Flavour, standins, standinsBuilt } from '../helpers/standins.ts';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

function doctor(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const clean = Object.entries(process.env).filter(
    ([name]) => name === 'NODE_COLLECTIVES_ADDON' || !/^(NODE_COLLECTIVES_|MASTER_|VLLM_)/.test(name),
  );
  const run = spawnSync(process.execPath, [cli, 'doctor', ...args], {
    encoding: 'utf8',
    env: { ...Object.fromEntries(clean), ...env },
    timeout: 60_000,
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

function found(env?: NodeJS.ProcessEnv, ...args: string[]) {
  const { code, out } = doctor(['--json', ...args], env);
  const { ok, sections } = JSON.parse(out) as { ok: boolean; sections: Section[] };
  const findings = sections.flatMap((section) => section.findings);
  return { code, ok, about: (subject: string) => findings.find((finding) => finding.subject === subject) };
}

test('on this machine: a group forms, and the exit code says that nothing is in the way', () => {
  const { code, out } = doctor([]);
  expect(out).toMatch(/addon +loads/);
  expect(out).toMatch(/two ranks +a group forms in [\d.]+ ms here; a vote takes \d+ µs/);
  expect(out).toMatch(/\n0 problems, \d+ warnings?\n$/);
  expect(code).toBe(0);
});

test('the same for machines', () => {
  const { code, ok, about } = found();
  expect({ code, ok }).toEqual({ code: 0, ok: true });
  expect(about('two ranks')?.facts?.['voteMicros']).toBeGreaterThan(0);
  expect(about('Node')?.facts).toMatchObject({ version: process.versions.node });
});

test('what is in the way of CPU groups is the exit code', () => {
  const { code, out } = doctor(['--master-addr', 'no-such-host.invalid']);
  expect(out).toMatch(/x chosen .*no-such-host\.invalid/);
  expect(code).toBe(1);
});

test('an addon that does not load', () => {
  const { code, ok, about } = found({ NODE_COLLECTIVES_ADDON: '/no/such/file.node' });
  expect({ code, ok }).toEqual({ code: 1, ok: false });
  expect(about('addon')).toMatchObject({ status: 'problem' });
  expect(about('addon')?.text).toContain('/no/such/file.node');
});

test('wrong arguments', () => {
  const { code, err } = doctor(['--jsn']);
  expect(code).toBe(2);
  expect(err).toContain('--json');
});

test('drivers that do not come back in time are a warning', async () => {
  // As doctor runs it, with a limit that no process keeps.
  const { examine } = (await import(new URL('../../dist/doctor/doctor.js', import.meta.url).href)) as {
    examine: (options: DoctorOptions) => Promise<Section[]>;
  };
  const sections = await examine({ probeMs: 1 });
  const findings = sections.flatMap((section) => section.findings);
  expect(findings.find(({ subject }) => subject === 'drivers')).toMatchObject({
    status: 'warning',
    text: 'looking at drivers and libraries failed: it did not come to an end within 1 ms',
  });
  expect(findings.find(({ subject }) => subject === 'two ranks')).toMatchObject({ status: 'ok' });
});

describe.each<{ flavour: Flavour; driver: string; library: string; hide: string; fault: string }>([
  { flavour: 'nccl', driver: 'CUDA', library: 'NCCL', hide: 'CUDA_VISIBLE_DEVICES', fault: 'cuda-init' },
  { flavour: 'rccl', driver: 'HIP', library: 'RCCL', hide: 'HIP_VISIBLE_DEVICES', fault: 'hip-init' },
])('over the stand-ins for $library', ({ flavour, driver, library, hide, fault }) => {
  const built = standinsBuilt(flavour);

  test.skipIf(!built)('devices, versions and paths', () => {
    const { code, about } = found(standins({ flavour, devices: 3 }));
    expect(code).toBe(0);
    expect(about(`${driver} devices`)?.facts?.['devices']).toHaveLength(3);
    expect(about('peer access')?.text).toBe('between all devices');
    expect(about(library)?.text).toMatch(/^2\.\d+\.\d+, .*standins/);
    const other = library === 'NCCL' ? 'RCCL' : 'NCCL';
    expect(about(other)?.text).toBe(
      `not needed; the file that NODE_COLLECTIVES_NCCL_PATH names is taken for ${library}`,
    );
    expect(about('devices')).toMatchObject({ status: 'ok', facts: { size: 3, library } });
    expect(about('devices')?.facts?.['voteMicros']).toBeGreaterThan(0);
  });

  test.skipIf(!built)('a group of one on one device, and none where that is not wanted', () => {
    const alone = found(standins({ flavour, devices: 1 })).about('devices');
    expect(alone).toMatchObject({ status: 'ok', facts: { size: 1, library } });
    expect(alone?.text).toContain('on 1 device in');
    const env = standins({ flavour, devices: 2 });
    expect(found(env, '--no-device-group').about('devices')).toBeUndefined();
  });

  test.skipIf(!built)('a group that does not form on the devices is a warning', () => {
    const { code, about } = found(standins({ flavour, devices: 2, faults: { 'init-fail': 3 } }));
    expect(code).toBe(0);
    expect(about('devices')).toMatchObject({ status: 'warning' });
    expect(about('devices')?.text).toMatch(/^no group of 2 ranks on the devices: .*\(DEVICE\)/s);
  });

  test.skipIf(!built)('one that hangs in the library ends at its deadline, or with its process', async () => {
    // As doctor runs it, with other limits.
    const { deviceGroup } = (await import(
      new URL('../../dist/doctor/device-group.js', import.meta.url).href
    )) as {
      deviceGroup: (devices: number, env: NodeJS.ProcessEnv, limits: DeviceGroupLimits) => Promise<Finding>;
    };
    const env = { ...process.env, ...standins({ flavour, faults: { 'init-hang': true } }) };
    const late = await deviceGroup(2, env, { initTimeoutMs: 400, totalMs: 30_000 });
    expect(late).toMatchObject({ status: 'warning' });
    expect(late.text).toContain('(TIMEOUT)');
    const killed = await deviceGroup(2, env, { initTimeoutMs: 60_000, totalMs: 1_500 });
    expect(killed).toMatchObject({ status: 'warning' });
    expect(killed.text).toContain('it did not come to an end within 1500 ms');
  });

  test.skipIf(!built)('hidden devices', () => {
    const { about } = found({ ...standins({ flavour }), [hide]: '' });
    expect(about(`${driver} driver`)).toMatchObject({ status: 'warning' });
    expect(about(`${driver} driver`)?.text).toContain(hide);
  });

  test.skipIf(!built)('a driver that takes its process with it is a warning', () => {
    // The stand-ins end the process at a fault that they do not know.
    const { code, about } = found({ ...standins({ flavour }), NC_STANDIN_FAULTS: 'no-such-fault' });
    expect(code).toBe(0);
    expect(about('drivers')).toMatchObject({ status: 'warning' });
    expect(about('drivers')?.text).toMatch(/its process ended with \w+: .*no-such-fault/s);
    expect(about('two ranks')).toMatchObject({ status: 'ok' });
  });

  test.skipIf(!built)('a driver that cannot start', () => {
    const { code, about } = found(standins({ flavour, faults: { [fault]: 100 } }));
    expect(code).toBe(0);
    expect(about(`${driver} driver`)).toMatchObject({ status: 'warning' });
  });
});
