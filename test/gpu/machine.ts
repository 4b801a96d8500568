/**
 * The GPUs that the tests of this folder run on: those of this machine, or with NC_TEST_GPU_STANDINS=nccl (or `rccl`, or
 * 1 for nccl) the stand-ins, which shows that the tests themselves work. docs/gpu-testing.md
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DeviceInfo } from 'node-collectives';
import { describe } from 'vitest';
import { type Flavour, standinEnv } from '../helpers/gpu-ranks.ts';

export interface GpuMachine {
  /** What leads a process to them. */
  env: NodeJS.ProcessEnv;
  standins: boolean;
  devices: DeviceInfo[];
  library?: { name: 'NCCL' | 'RCCL'; version: string; path: string };
  /** Why there is nothing to run on. */
  reason?: string;
}

function environment(): { env: NodeJS.ProcessEnv; standins: boolean } {
  const named = process.env['NC_TEST_GPU_STANDINS'] ?? '';
  if (named === '' || named === '0') return { env: {}, standins: false };
  const flavour = named === '1' ? 'nccl' : named;
  if (flavour !== 'nccl' && flavour !== 'rccl')
    throw new Error(`NC_TEST_GPU_STANDINS must be nccl, rccl or 1, not ${named}`);
  // Of NCCL the version that knows the 8-bit floats.
  const library: Record<Flavour, string> = { nccl: 'libnccl-2.29.so.2', rccl: 'librccl.so.1' };
  const devices = process.env['NC_TEST_GPU_DEVICES'] ?? '8';
  return { env: { ...standinEnv(flavour, library[flavour]), NC_STANDIN_DEVICES: devices }, standins: true };
}

/** In a process of its own: a driver that is started here would stay. */
function look(): GpuMachine {
  const { env, standins } = environment();
  const probe = fileURLToPath(new URL('../fixtures/device/found.mjs', import.meta.url));
  const run = spawnSync(process.execPath, [probe], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 120_000,
  });
  try {
    return { ...(JSON.parse(run.stdout) as Omit<GpuMachine, 'env' | 'standins'>), env, standins };
  } catch {
    // Not a reason to skip: a driver that crashes is what these tests are to find.
    throw new Error(`looking for GPUs ended with ${run.signal ?? run.status}: ${run.stderr}`);
  }
}

export const machine = look();

/** How many devices can be used. */
const usable = machine.library === undefined ? 0 : machine.devices.length;

/** Where GPUs are known to be, none of this may be skipped. */
const required = Number(process.env['NC_TEST_GPU_REQUIRE'] ?? 0);
if (!(usable >= required))
  throw new Error(`NC_TEST_GPU_REQUIRE=${required}, and ${usable} GPUs can be used: ${machine.reason ?? ''}`);

/** Sizes of groups that the tests are written for, and that of the machine. */
const sizes = [...new Set([1, 2, 8, Math.max(1, Math.min(usable, 8))])].sort((a, b) => a - b);

/** The whole reason is long, and the same each time. */
let told = false;

/** False, with the reason printed, where there are fewer devices. */
function have(count: number): boolean {
  if (usable >= count) return true;
  const why = machine.reason === undefined || told ? '' : `: ${machine.reason}`;
  told = true;
  console.log(`skipped: ${count} GPU${count === 1 ? '' : 's'} needed, ${usable} usable${why}`);
  return false;
}

/** A `describe` of tests that need this many devices. */
export const onDevices = (count: number) => describe.skipIf(!have(count));

/** Tests for each size of a group from `least` on; skipped where there are fewer devices. */
export function forEachSize(least: number, tests: (count: number) => void): void {
  for (const count of sizes) {
    if (count >= least) onDevices(count)(`${count} ranks`, () => tests(count));
  }
}

/** What the tests run on, for who reads their output. */
export function describeMachine(): string {
  const { library, devices, standins } = machine;
  const what = devices.map(({ index, name, busId }) => `${index} ${name} ${busId}`).join(', ');
  return `${standins ? 'STAND-INS, no GPU' : 'real GPUs'}: ${library?.name} ${library?.version} (${library?.path}); ${what}`;
}
