/**
 * The GPUs that the tests of this folder run on: those of this machine, or with NC_TEST_GPU_STANDINS=nccl (or `rccl`, or
 * 1 for nccl) the stand-ins, which shows that the tests themselves work. docs/gpu-testing.md
 */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DeviceInfo } from 'node-collectives';
import { describe } from 'vitest';
import { type Flavour, type Libraries, standinEnv } from '../helpers/gpu-ranks.ts';
import { standinFile } from '../helpers/standins.ts';

export interface GpuMachine {
  /** What leads a process to them. */
  libraries: Exclude<Libraries, Flavour>;
  standins: boolean;
  /** How many ranks use one device (NC_TEST_GPU_SHARED). */
  shared: number;
  devices: DeviceInfo[];
  library?: { name: 'NCCL' | 'RCCL'; version: string; path: string };
  /** Why there is nothing to run on. */
  reason?: string;
}

type Found = Pick<GpuMachine, 'devices' | 'library' | 'reason'>;

function standins(): NodeJS.ProcessEnv | undefined {
  const named = process.env['NC_TEST_GPU_STANDINS'] ?? '';
  if (named === '' || named === '0') return undefined;
  const flavour = named === '1' ? 'nccl' : named;
  if (flavour !== 'nccl' && flavour !== 'rccl')
    throw new Error(`NC_TEST_GPU_STANDINS must be nccl, rccl or 1, not ${named}`);
  // Of NCCL the version that knows the 8-bit floats.
  const library: Record<Flavour, string> = { nccl: 'libnccl-2.29.so.2', rccl: 'librccl.so.1' };
  const devices = process.env['NC_TEST_GPU_DEVICES'] ?? '8';
  return { ...standinEnv(flavour, library[flavour]), NC_STANDIN_DEVICES: devices };
}

/**
 * Every device is shown several times over (test/fixtures/gpu/shared/cuda.cpp), and NCCL takes each rank for one of
 * another host, so that it does not refuse them and carries everything over sockets.
 */
function sharing(times: number, base: NodeJS.ProcessEnv): (rank: number) => NodeJS.ProcessEnv {
  const driver = base['NODE_COLLECTIVES_CUDA_PATH'];
  return (rank) => ({
    ...base,
    ...(driver !== undefined && { LD_LIBRARY_PATH: dirname(driver) }),
    NODE_COLLECTIVES_CUDA_PATH: standinFile('libcuda-shared.so'),
    NC_SHARED_DEVICES: String(times),
    NCCL_HOSTID: `rank-${rank}`,
    NCCL_SOCKET_IFNAME: 'lo',
  });
}

/** In a process of its own: a driver that is started here would stay. */
function look(): GpuMachine {
  const base = standins();
  const shared = Number(process.env['NC_TEST_GPU_SHARED'] || 1);
  const libraries = shared > 1 ? sharing(shared, base ?? {}) : () => base ?? {};
  const probe = fileURLToPath(new URL('../fixtures/device/found.mjs', import.meta.url));
  const run = spawnSync(process.execPath, [probe], {
    encoding: 'utf8',
    env: { ...process.env, ...libraries(0) },
    timeout: 120_000,
  });
  try {
    return { ...(JSON.parse(run.stdout) as Found), libraries, standins: base !== undefined, shared };
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
  const { library, devices, standins, shared } = machine;
  const what = devices.map(({ index, name, busId }) => `${index} ${name} ${busId}`).join(', ');
  const kind = standins ? 'STAND-INS, no GPU' : 'real GPUs';
  const how = shared > 1 ? `, each shown ${shared} times` : '';
  return `${kind}${how}: ${library?.name} ${library?.version} (${library?.path}); ${what}`;
}
