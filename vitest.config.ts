import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const alias = { 'node-collectives': fileURLToPath(new URL('./src/index.ts', import.meta.url)) };

/** Shared by all kinds of tests; forks because native threads and exit behaviour need real processes. */
const base = { pool: 'forks', restoreMocks: true, unstubEnvs: true } as const;

// The suite's groups over network namespaces; what is left out is about one host or one process alone, or too long.
const root = process.getuid?.() === 0;
const overTwoHosts = [
  'collectives',
  'dumps',
  'eventloop',
  'failure',
  'liveness',
  'messages',
  'observability',
  'ports',
  'reform',
  'reform-faults',
  'rendezvous',
  'secret',
  'strangers',
  'votes',
];
const overThreeHosts = ['collectives', 'failure', 'reform', 'votes'];

function hosts(name: string, own: readonly string[], suite: readonly string[], env: Record<string, string>) {
  return {
    resolve: { alias },
    test: {
      ...base,
      name,
      include: [...own, ...(root ? suite.map((file) => `test/integration/${file}.test.ts`) : [])],
      setupFiles: ['test/helpers/spread-setup.ts'],
      env,
      testTimeout: 120_000,
      hookTimeout: 60_000,
      // Each file has networks of its own, and mostly waits.
      maxWorkers: 2,
      sequence: { groupOrder: 2 },
    },
  };
}

// The suite's groups over the stand-ins for GPU libraries, in either flavour: docs/gpu-standins.md.
const standins = fileURLToPath(new URL('./build/standins/', import.meta.url));
const overDevices = ['votes', 'failure', 'liveness', 'reform', 'dumps', 'collectives'];
const alsoOverNccl = ['collectives-parts', 'messages'];

function devices(name: string, suite: readonly string[], files: { cuda: string; hip: string; nccl: string }) {
  return {
    resolve: { alias },
    test: {
      ...base,
      name,
      include: suite.map((file) => `test/integration/${file}.test.ts`),
      env: {
        NC_TEST_BACKEND: 'nccl',
        NC_STANDIN_DEVICES: '64',
        NODE_COLLECTIVES_CUDA_PATH: `${standins}${files.cuda}`,
        NODE_COLLECTIVES_HIP_PATH: `${standins}${files.hip}`,
        NODE_COLLECTIVES_NCCL_PATH: `${standins}${files.nccl}`,
      },
      testTimeout: 120_000,
      hookTimeout: 60_000,
      fileParallelism: false,
      maxWorkers: 1,
      sequence: { groupOrder: 4 },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { alias },
        test: {
          ...base,
          name: 'unit',
          include: ['test/unit/**/*.test.ts', 'test/conformance/**/*.test.ts'],
          testTimeout: 20_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        // Several processes each, and time limits: one file at a time, so that they do not disturb each
        // other.
        resolve: { alias },
        test: {
          ...base,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
      // Several hosts, as network namespaces: tests of their own, and those of the integration suite, its ranks spread
      // over two hosts with both kinds of addresses, and over three that have IPv6 alone. Without root they say that
      // they are skipped.
      hosts('hosts', ['test/hosts/**/*.test.ts'], overTwoHosts, {
        NC_TEST_HOSTS: '2',
        NC_REFORM_KILLS: '10',
      }),
      hosts('hosts-3', [], overThreeHosts, { NC_TEST_HOSTS: '3', NC_TEST_FAMILIES: 'ipv6' }),
      devices('nccl', [...overDevices, ...alsoOverNccl], {
        cuda: 'libcuda.so.1',
        hip: 'none',
        nccl: 'libnccl.so.2',
      }),
      devices('rccl', overDevices, { cuda: 'none', hip: 'libamdhip64.so.6', nccl: 'librccl.so.1' }),
      {
        // On real GPUs, or with NC_TEST_GPU_STANDINS over the stand-ins (docs/gpu-testing.md). Without either every
        // test says why it is skipped.
        resolve: { alias },
        test: {
          ...base,
          name: 'gpu',
          include: ['test/gpu/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 3 },
        },
      },
      {
        // Builds a prebuild and installs the packed tarball: minutes, see docs/building.md.
        test: {
          ...base,
          name: 'package',
          include: ['test/package/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 4 },
        },
      },
    ],
  },
});
