// What doctor says of machines that are not this one.
import { describe, expect, test } from 'vitest';
import { asText } from '../../src/cli/doctor.ts';
import { environment } from '../../src/doctor/environment.ts';
import { amount, type Machine, machine } from '../../src/doctor/files.ts';
import type { Finding } from '../../src/doctor/finding.ts';
import { gpus, usableDevices } from '../../src/doctor/gpus.ts';
import { limits } from '../../src/doctor/limits.ts';
import { network } from '../../src/doctor/network.ts';
import { runtime } from '../../src/doctor/runtime.ts';

const ipv4 = (address: string, internal = false) => ({
  address,
  netmask: '255.255.255.0',
  family: 'IPv4' as const,
  mac: '00:00:00:00:00:00',
  internal,
  cidr: `${address}/24`,
});
const loopback = { lo: [ipv4('127.0.0.1', true)] };

function made({ files = {}, space, interfaces = loopback, names = {} }: Partial<Made> = {}): Machine {
  return {
    read: (file) => files[file],
    list: () => [],
    space: () => space,
    interfaces: () => interfaces,
    resolve: async (host) => names[host] ?? machine.resolve(host),
  };
}
interface Made {
  files: Record<string, string>;
  space: { size: number; free: number };
  interfaces: ReturnType<Machine['interfaces']>;
  names: Record<string, string[]>;
}

const about = (findings: readonly Finding[], subject: string) =>
  findings.find((finding) => finding.subject === subject) as Finding;

describe('limits', () => {
  const table = (files: string, locked: string) =>
    `Limit                     Soft Limit           Hard Limit           Units\n` +
    `Max open files            ${files.padEnd(20)} 20000                files\n` +
    `Max locked memory         ${locked.padEnd(20)} unlimited            bytes\n`;

  test('a roomy machine', () => {
    const found = limits(
      made({
        files: {
          '/proc/self/limits': table('65536', 'unlimited'),
          '/proc/sys/net/ipv4/ip_local_port_range': '32768\t60999\n',
        },
        space: { size: 2 ** 34, free: 2 ** 34 },
      }),
    );
    expect(found.map(({ status }) => status)).toEqual(['ok', 'ok', 'ok', 'ok']);
    expect(about(found, 'ports').text).toBe('the kernel gives out 32768 to 60999');
    expect(about(found, 'locked memory').text).toBe('unlimited');
  });

  test('a container with defaults', () => {
    const found = limits(
      made({
        files: {
          '/proc/self/limits': table('1024', '8388608'),
          '/proc/sys/net/ipv4/ip_local_port_range': '60000 60500',
          '/proc/sys/net/ipv4/ip_local_reserved_ports': '60100-60200',
        },
        space: { size: 64 * 2 ** 20, free: 64 * 2 ** 20 },
      }),
    );
    expect(found.map(({ status }) => status)).toEqual(['warning', 'warning', 'warning', 'warning']);
    for (const finding of found) expect(finding.advice).toBeTruthy();
    expect(about(found, 'shared memory').text).toContain('/dev/shm 64 MiB');
    expect(about(found, 'ports').text).toContain('but not 60100-60200: only 501');
  });

  test('without /proc and /dev/shm', () => {
    expect(limits(made()).map(({ subject }) => subject)).toEqual(['shared memory']);
  });
});

describe('network', () => {
  const two = { ...loopback, eth0: [ipv4('10.1.2.3')] };

  test('nobody has said where rank 0 is', async () => {
    const found = await network(made({ interfaces: two }), {}, undefined);
    expect(about(found, 'chosen')).toMatchObject({
      status: 'ok',
      facts: { address: '127.0.0.1', interface: 'lo' },
    });
    expect(about(found, 'interfaces').text).toBe('lo 127.0.0.1; eth0 10.1.2.3');
  });

  test('loopback only', async () => {
    const found = await network(made(), {}, '127.0.0.1');
    expect(about(found, 'other hosts').status).toBe('warning');
  });

  test('a host name that is a loopback address of this host', async () => {
    const names = { leader: ['127.0.1.1'] };
    const found = await network(made({ interfaces: two, names }), {}, 'leader');
    expect(about(found, 'chosen')).toMatchObject({ status: 'warning' });
    expect(about(found, 'chosen').text).toContain('leader is this very host under a loopback address');
  });

  test('an interface that is asked for and not there', async () => {
    const found = await network(
      made({ interfaces: two }),
      { GLOO_SOCKET_IFNAME: 'no-such-interface' },
      '127.0.0.1',
    );
    expect(about(found, 'chosen')).toMatchObject({ status: 'problem' });
    expect(about(found, 'chosen').text).toContain('no-such-interface');
  });

  test('a name that does not resolve', async () => {
    const found = await network(made(), {}, 'no-such-host.invalid');
    expect(about(found, 'chosen')).toMatchObject({ status: 'problem' });
    expect(about(found, 'chosen').advice).toContain('rank 0');
  });
});

describe('runtime', () => {
  test('an old Node', () => {
    const [node] = runtime(made(), { node: '20.18.0', napi: '9' });
    expect(node).toMatchObject({ status: 'problem', advice: 'install Node 20.19 or newer' });
  });

  test('another runtime', () => {
    const [node] = runtime(made(), { node: '24.3.0', bun: '1.3.0', napi: '10' });
    expect(node).toMatchObject({ status: 'warning' });
    expect(node?.text).toContain('Bun 1.3.0');
  });

  test('the libraries that are mapped', () => {
    const maps =
      '7f00-7f01 r-xp 0 00:01 1 /a/node-collectives.glibc.node\n7f02 r 0 00:01 2 /a/libgloo-nc.so.0\n';
    const found = runtime(made({ files: { '/proc/self/maps': maps } }), process.versions);
    expect(about(found, 'Gloo').text).toBe('/a/libgloo-nc.so.0 (came with the package)');
  });
});

describe('environment', () => {
  test('says that there is a secret, and not which', () => {
    const found = environment({ NODE_COLLECTIVES_SECRET: 'hush hush hush hush', HOME: '/root' });
    expect(JSON.stringify(found)).not.toContain('hush');
    expect(about(found, 'variables').text).toBe('NODE_COLLECTIVES_SECRET=(set)');
  });

  test('two interface settings that differ', () => {
    const found = environment({ NCCL_SOCKET_IFNAME: 'ib0', GLOO_SOCKET_IFNAME: 'eth0' });
    expect(about(found, 'interfaces').status).toBe('warning');
  });
});

describe('GPUs', () => {
  const missing = {
    loaded: false,
    error: 'it could not be loaded',
    attempts: [{ source: 'loader', path: 'lib.so', reason: 'no such file' }],
  };
  const found = (version: string) => ({
    loaded: true,
    path: '/lib/it.so',
    source: 'loader',
    version,
    attempts: [],
  });
  const device = (index: number) => ({
    index,
    name: 'H100',
    uuid: `GPU-${index}`,
    busId: '0000:1b:00.0',
    memoryBytes: 80 * 2 ** 30,
  });
  const none = { nvidia: false, amd: false };
  const nothing = {
    cuda: { ...missing, devices: [], peers: [] },
    hip: { ...missing, devices: [], peers: [] },
    nccl: missing,
    rccl: missing,
  };
  const two = { ...found('12.4'), devices: [device(0), device(1)] };

  test('a machine without any: nothing to warn of', () => {
    const findings = gpus(nothing, none, {});
    expect(findings.map(({ status }) => status)).toEqual(['ok', 'ok', 'ok', 'ok']);
    expect(about(findings, 'CUDA driver').text).toBe('none, and no such device here');
  });

  test('a device without its driver', () => {
    const findings = gpus(nothing, { nvidia: true, amd: false }, {});
    expect(about(findings, 'CUDA driver')).toMatchObject({ status: 'warning' });
    expect(about(findings, 'CUDA driver').text).toContain('lib.so (loader): no such file');
  });

  test('two devices that reach each other, and NCCL', () => {
    const cuda = {
      ...two,
      peers: [
        [true, true],
        [true, true],
      ],
    };
    const findings = gpus({ ...nothing, cuda, nccl: found('2.22.3') }, none, {});
    expect(findings.every(({ status }) => status === 'ok')).toBe(true);
    expect(about(findings, 'NCCL').text).toBe('2.22.3, /lib/it.so (loader)');
    expect(about(findings, 'CUDA devices').text).toContain('1  H100, 80 GiB, 0000:1b:00.0, GPU-1');
    expect(about(findings, 'peer access').text).toBe('between all devices');
  });

  test.each([
    ['the devices', 'CUDA', '/lib/it.so', 'NCCL'],
    ['the devices', 'HIP', '/lib/it.so', 'RCCL'],
    ['its name', undefined, '/lib/librccl.so.1', 'RCCL'],
    ['its name', undefined, '/rccl/libnccl.so.2', 'NCCL'],
  ])('a file named for both libraries is one of them, by %s (%s, %s)', (_, devices, path, is) => {
    const named = { ...found('2.22.3'), path, source: 'NODE_COLLECTIVES_NCCL_PATH' };
    const peers = [
      [true, true],
      [true, true],
    ];
    const there = { ...two, peers };
    const probe = {
      cuda: devices === 'CUDA' ? there : nothing.cuda,
      hip: devices === 'HIP' ? there : nothing.hip,
      nccl: named,
      rccl: named,
    };
    const findings = gpus(probe, none, {});
    expect(about(findings, is).text).toContain(`2.22.3, ${path} (NODE_COLLECTIVES_NCCL_PATH)`);
    expect(about(findings, is === 'NCCL' ? 'RCCL' : 'NCCL').text).toBe(
      `not needed; the file that NODE_COLLECTIVES_NCCL_PATH names is taken for ${is}`,
    );
    expect(usableDevices(probe)).toBe(devices === undefined ? 0 : 2);
  });

  test('two devices apart, and no NCCL', () => {
    const cuda = {
      ...two,
      peers: [
        [true, false],
        [true, true],
      ],
    };
    const findings = gpus({ ...nothing, cuda }, none, {});
    expect(about(findings, 'peer access')).toMatchObject({ status: 'warning', text: 'not between 0-1' });
    expect(about(findings, 'NCCL')).toMatchObject({ status: 'warning' });
    expect(about(findings, 'NCCL').advice).toContain('NODE_COLLECTIVES_NCCL_PATH');
    expect(about(findings, 'NCCL').advice).toContain('until then groups on these devices fail');
  });

  test("another maker's library that lies about is nothing to warn of where there are devices", () => {
    const peers = [
      [true, true],
      [true, true],
    ];
    const { version: _, ...unknown } = two;
    const stray = { ...unknown, devices: [], peers: [], error: 'hipErrorNoDevice' };
    const probe = { ...nothing, cuda: { ...two, peers }, nccl: found('2.28.3'), hip: stray };
    const hip = about(gpus(probe, { nvidia: true, amd: false }, {}), 'HIP driver');
    expect(hip).toMatchObject({ status: 'ok' });
    expect(hip.text).toContain('hipErrorNoDevice; not needed');
    const alone = about(gpus({ ...nothing, hip: stray }, none, {}), 'HIP driver');
    expect(alone).toMatchObject({ status: 'warning' });
  });

  test('devices that are hidden', () => {
    const cuda = { ...two, devices: [], peers: [] };
    const findings = gpus({ ...nothing, cuda }, none, { CUDA_VISIBLE_DEVICES: '' });
    expect(about(findings, 'CUDA driver')).toMatchObject({ status: 'warning' });
    expect(about(findings, 'CUDA driver').text).toContain("no device, with CUDA_VISIBLE_DEVICES=''");
  });
});

test('the text has a line for each finding and its advice below', () => {
  const findings: Finding[] = [
    { subject: 'a', status: 'ok', text: 'fine' },
    { subject: 'longer', status: 'warning', text: 'one\ntwo', advice: 'do it' },
  ];
  expect(asText([{ title: 'Part', findings }])).toBe(
    'Part\n   a       fine\n ! longer  one\n           two\n           -> do it\n\n0 problems, 1 warning\n',
  );
});

test('amounts as a person says them', () => {
  expect([0, 1023, 1024, 1.5 * 2 ** 30, 300 * 2 ** 20].map(amount)).toEqual([
    '0 bytes',
    '1023 bytes',
    '1 KiB',
    '1.5 GiB',
    '300 MiB',
  ]);
});
