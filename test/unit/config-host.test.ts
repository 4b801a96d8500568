import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { findDevices, type System, select } from '../../src/config/devices.ts';
import { detectHost } from '../../src/config/host.ts';
import { holdPorts, reservedPorts } from '../../src/config/ports.ts';

/** A machine made of files; `smi` is what `nvidia-smi -L` prints. */
function machine(files: Record<string, string>, smi?: string): System & { ran: string[] } {
  const ran: string[] = [];
  return {
    ran,
    exists: (file) => Object.keys(files).some((name) => name === file || name.startsWith(`${file}/`)),
    list: (folder) => [
      ...new Set(
        Object.keys(files)
          .filter((name) => name.startsWith(`${folder}/`))
          .map((name) => name.slice(folder.length + 1).split('/')[0] as string),
      ),
    ],
    read: (file) => files[file] ?? '',
    run: (program) => {
      ran.push(program);
      return smi;
    },
  };
}

const uuids = ['GPU-aaaa1111-0000-0000-0000-000000000000', 'GPU-aaaa2222-0000-0000-0000-000000000000'];
const smi = uuids.map((uuid, i) => `GPU ${i}: NVIDIA H200 (UUID: ${uuid})\n`).join('');
const nvidia = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`/dev/nvidia${i}`, ''])) as Record<
    string,
    string
  >;
const proc = Object.fromEntries(
  uuids.map((uuid, i) => [
    `/proc/driver/nvidia/gpus/0000:0${i}:00.0/information`,
    `Model: \t\t NVIDIA H200\nGPU UUID: \t ${uuid}\nDevice Minor: \t ${i}\n`,
  ]),
);

describe('CUDA', () => {
  test('through NVML', () => {
    const found = findDevices({}, machine(nvidia(2), smi));
    expect(found).toEqual({ platform: 'cuda', visible: 2, customAllReduce: true });
  });

  test('through /proc, those whose file this container has', () => {
    expect(findDevices({}, machine({ ...nvidia(2), ...proc })).visible).toBe(2);
    expect(findDevices({}, machine({ '/dev/nvidia1': '', ...proc })).visible).toBe(1);
    const one = machine({ '/dev/nvidia1': '', ...proc });
    expect(findDevices({ CUDA_VISIBLE_DEVICES: uuids[1] }, one).visible).toBe(1);
    expect(findDevices({ CUDA_VISIBLE_DEVICES: uuids[0] }, one).visible).toBe(0);
  });

  test('through /dev alone', () => {
    expect(findDevices({}, machine({ ...nvidia(4), '/dev/nvidiactl': '' })).visible).toBe(4);
    const env = { CUDA_VISIBLE_DEVICES: 'GPU-ffff,GPU-eeee' };
    expect(findDevices(env, machine(nvidia(4))).visible).toBe(2);
  });

  test('no process is started where there is no driver', () => {
    const none = machine({});
    expect(findDevices({}, none)).toEqual({ platform: 'cpu', visible: 0, customAllReduce: false });
    expect(none.ran).toEqual([]);
  });

  test('a device in MIG mode counts as its instances', () => {
    const text = `GPU 0: A (UUID: ${uuids[0]})\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\n  MIG 1g.18gb Device 1: (UUID: MIG-2)\nGPU 1: B (UUID: ${uuids[1]})\n`;
    expect(findDevices({}, machine(nvidia(2), text)).visible).toBe(3);
    expect(findDevices({ CUDA_VISIBLE_DEVICES: 'MIG-2' }, machine(nvidia(2), text)).visible).toBe(1);
  });

  test('hidden devices leave the platform as it is', () => {
    const found = findDevices({ CUDA_VISIBLE_DEVICES: '' }, machine(nvidia(2), smi));
    expect(found).toMatchObject({ platform: 'cuda', visible: 0 });
  });
});

describe('visible devices', () => {
  const devices = [...uuids.map((uuid) => ({ uuid })), { uuid: 'GPU-bbbb' }];
  test.each([
    [undefined, 3],
    ['', 0],
    ['-1', 0],
    ['0', 1],
    ['0,1', 2],
    [' 2 , 0 ', 2],
    ['0,-1,1', 1],
    ['0,3,1', 1],
    ['7', 0],
    ['0,0', 0],
    ['0,1,0', 0],
    ['abc', 0],
    ['NoDevFiles', 0],
    ['0,', 1],
    ['GPU-bbbb', 1],
    ['gpu-bbbb', 1],
    ['GPU-aaaa', 0],
    ['GPU-aaaa2', 1],
    ['GPU-bbbb,0', 2],
    ['GPU-bbbb,2', 0],
    ['GPU-cccc,0', 0],
    ['+1', 1],
    ['1.0', 0],
  ])('%j leaves %d of 3', (list, count) => {
    expect(select(devices, list)).toHaveLength(count);
  });
});

describe('ROCm', () => {
  const node = (simds: number, minor: number, id: number, target = 90402) =>
    `simd_count ${simds}\ndrm_render_minor ${minor}\nunique_id ${id}\ngfx_target_version ${target}\n`;
  const nodes = '/sys/class/kfd/kfd/topology/nodes';
  const files = {
    '/dev/kfd': '',
    [`${nodes}/0/properties`]: node(0, 0, 0, 0),
    [`${nodes}/1/properties`]: node(304, 128, 0xabc),
    [`${nodes}/2/properties`]: node(304, 129, 0xdef),
    [`${nodes}/10/properties`]: node(304, 130, 0x123),
    '/dev/dri/renderD128': '',
    '/dev/dri/renderD129': '',
  };

  test('the kernel lists them; those of other containers are left out', () => {
    expect(findDevices({}, machine(files))).toEqual({ platform: 'rocm', visible: 2, customAllReduce: true });
  });

  test.each([
    [{ HIP_VISIBLE_DEVICES: '1' }, 1],
    [{ HIP_VISIBLE_DEVICES: '' }, 0],
    [{ CUDA_VISIBLE_DEVICES: '0' }, 1],
    [{ HIP_VISIBLE_DEVICES: '0,1', CUDA_VISIBLE_DEVICES: '0' }, 2],
    [{ ROCR_VISIBLE_DEVICES: 'GPU-0000000000000def' }, 1],
    [{ ROCR_VISIBLE_DEVICES: '1', HIP_VISIBLE_DEVICES: '1' }, 0],
    [{ ROCR_VISIBLE_DEVICES: '1', HIP_VISIBLE_DEVICES: '0' }, 1],
  ])('%j', (env, count) => {
    expect(findDevices(env, machine(files)).visible).toBe(count);
  });

  test('custom all-reduce is for MI300 and its like', () => {
    const old = {
      ...files,
      [`${nodes}/1/properties`]: node(1, 128, 1, 90010),
      [`${nodes}/2/properties`]: node(1, 129, 2, 110000),
    };
    expect(findDevices({}, machine(old)).customAllReduce).toBe(false);
  });
});

describe('the host', () => {
  test('backend and Ray', () => {
    const gpu = detectHost({}, machine(nvidia(2), smi));
    expect([gpu.platform, gpu.deviceCount, gpu.distBackend, gpu.rayAvailable]).toEqual([
      'cuda',
      2,
      'nccl',
      false,
    ]);
    const cpu = detectHost({ RAY_ADDRESS: 'ray://x:1' }, machine({}));
    expect([cpu.platform, cpu.distBackend, cpu.rayAvailable, cpu.rayRunning]).toEqual([
      'cpu',
      'gloo',
      true,
      true,
    ]);
    expect(cpu.inPlacementGroup).toBe(false);
    expect(detectHost({ PATH: '/nowhere::/bin' }, machine({})).rayAvailable).toBe(false);
  });

  test('the machine is looked at once', () => {
    const on = machine(nvidia(2), smi);
    const host = detectHost({}, on);
    expect([host.platform, host.deviceCount, host.platform]).toEqual(['cuda', 2, 'cuda']);
    expect(on.ran).toEqual(['nvidia-smi']);
  });
});

/** Whether nobody listens on the port. */
async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => resolve(true)));
  });
}

describe('open ports', () => {
  test('are distinct, bound at once, and free after release', async () => {
    const held = holdPorts(20);
    const numbers = held.map(({ port }) => port);
    expect(new Set(numbers).size).toBe(20);
    expect(await isFree(numbers[0] as number)).toBe(false);
    const more = holdPorts(3);
    expect(more.filter(({ port }) => numbers.includes(port))).toEqual([]);
    for (const { release } of more) release();
    for (const { release } of held) release();
    expect(await isFree(numbers[0] as number)).toBe(true);
  });

  test('keep clear of the ten from VLLM_DP_MASTER_PORT', () => {
    const near = reservedPorts({ VLLM_DP_MASTER_PORT: ' 5_000 ' });
    expect([4999, 5000, 5009, 5010].map(near)).toEqual([false, true, true, false]);
    for (const text of [undefined, '', 'x']) {
      expect([0, 5000].map(reservedPorts(text === undefined ? {} : { VLLM_DP_MASTER_PORT: text }))).toEqual([
        false,
        false,
      ]);
    }
    // All odd ports are off limits: the finder goes on until it has enough.
    const even = holdPorts(8, (port) => port % 2 === 1);
    expect(even.filter(({ port }) => port % 2 === 1)).toEqual([]);
    expect(even).toHaveLength(8);
    for (const { release } of even) release();
  });
});
