// `node-collectives doctor` as a user runs it, on this machine and over the stand-ins for GPU libraries.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Section } from '../../src/doctor/finding.ts';
import { type Flavour, standins, standinsBuilt } from '../helpers/standins.ts';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

function doctor(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const clean = Object.entries(process.env).filter(
    ([name]) => !/^(NODE_COLLECTIVES_|MASTER_|VLLM_)/.test(name),
  );
  const run = spawnSync(process.execPath, [cli, 'doctor', ...args], {
    encoding: 'utf8',
    env: { ...Object.fromEntries(clean), ...env },
    timeout: 60_000,
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

function found(env?: NodeJS.ProcessEnv) {
  const { code, out } = doctor(['--json'], env);
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
  });

  test.skipIf(!built)('hidden devices', () => {
    const { about } = found({ ...standins({ flavour }), [hide]: '' });
    expect(about(`${driver} driver`)).toMatchObject({ status: 'warning' });
    expect(about(`${driver} driver`)?.text).toContain(hide);
  });

  test.skipIf(!built)('a driver that cannot start', () => {
    const { code, about } = found(standins({ flavour, faults: { [fault]: 100 } }));
    expect(code).toBe(0);
    expect(about(`${driver} driver`)).toMatchObject({ status: 'warning' });
  });
});
