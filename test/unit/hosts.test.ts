// Which addresses a host name means, and which interfaces the environment asks for.
import type { NetworkInterfaceInfo } from 'node:os';
import { InvalidArgumentError, NetworkError } from 'node-collectives';
import { beforeEach, expect, test, vi } from 'vitest';

const lookup = vi.hoisted(() => vi.fn());
vi.mock('node:dns/promises', () => ({ lookup }));
const { allowedAddresses, resolveHost, resolveWithin } = await import('../../src/net/hosts.ts');

beforeEach(() => {
  lookup.mockReset().mockRejectedValue(new Error('no look-up was due'));
});

test.each(['127.0.0.1', '10.1.2.3', '::1', 'fe80::1'])('%s is taken as it is', async (host) => {
  expect(await resolveHost(host)).toEqual([host]);
});

test('localhost is loopback without asking anybody', async () => {
  expect(await resolveHost('localhost')).toEqual(['127.0.0.1', '::1']);
  expect(lookup).not.toHaveBeenCalled();
});

test('a name gives all its addresses once, in the order of the resolver', async () => {
  lookup.mockResolvedValue([{ address: '10.0.0.2' }, { address: 'fd00::2' }, { address: '10.0.0.2' }]);
  expect(await resolveHost('engine-0')).toEqual(['10.0.0.2', 'fd00::2']);
});

test('a name that does not resolve is named, with the reason', async () => {
  lookup.mockRejectedValue(Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' }));
  const error = await resolveHost('nowhere.invalid').catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(NetworkError);
  expect(error).toMatchObject({ code: 'NETWORK', errno: 'ENOTFOUND', address: 'nowhere.invalid' });
  expect((error as Error).message).toContain("'nowhere.invalid'");
});

test('a look-up that is given up leaves no timer behind, however it ends', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;
  const before = timers();
  lookup.mockReturnValue(new Promise(() => {}));
  const aborting = new AbortController();
  const waiting = resolveWithin('join', 'engine-0', 300_000, aborting.signal);
  expect(timers()).toBe(before + 1);
  aborting.abort();
  await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', op: 'join' });
  expect(timers()).toBe(before);
  const late = resolveWithin('join', 'engine-0', 1, aborting.signal);
  await expect(late).rejects.toMatchObject({ code: 'ABORTED' });
  await expect(resolveWithin('join', 'engine-0', 1)).rejects.toMatchObject({ code: 'TIMEOUT', op: 'join' });
  expect(timers()).toBe(before);
});

const v4 = (address: string) => ({ address, family: 'IPv4' }) as NetworkInterfaceInfo;
const v6 = (address: string, scopeid = 0) => ({ address, family: 'IPv6', scopeid }) as NetworkInterfaceInfo;
const interfaces = {
  lo: [v4('127.0.0.1'), v6('::1')],
  eth0: [v4('10.0.0.1'), v6('fe80::1', 2)],
  eth1: [v4('10.1.0.1')],
  eth10: [v4('10.10.0.1')],
  docker0: [v4('172.17.0.1')],
};

test.each([
  [{}, []],
  [{ GLOO_SOCKET_IFNAME: '' }, []],
  [{ GLOO_SOCKET_IFNAME: '  ' }, []],
  [{ GLOO_SOCKET_IFNAME: 'eth0' }, ['10.0.0.1', 'fe80::1%eth0']],
  [{ NCCL_SOCKET_IFNAME: 'docker' }, ['172.17.0.1']],
  [{ GLOO_SOCKET_IFNAME: 'eth1', NCCL_SOCKET_IFNAME: 'docker' }, ['10.1.0.1', '10.10.0.1']],
  [{ GLOO_SOCKET_IFNAME: '=eth1' }, ['10.1.0.1']],
  [{ GLOO_SOCKET_IFNAME: 'docker, =eth1' }, ['10.1.0.1', '172.17.0.1']],
  [{ NCCL_SOCKET_IFNAME: '^lo,docker,eth1' }, ['10.0.0.1', 'fe80::1%eth0']],
  [{ NCCL_SOCKET_IFNAME: '^=eth1,lo,docker,eth0' }, ['10.10.0.1']],
])('%j means %j', (env, expected) => {
  expect(allowedAddresses(env, interfaces)).toEqual(expected);
});

test.each([{ GLOO_SOCKET_IFNAME: 'ib0' }, { NCCL_SOCKET_IFNAME: '^lo,eth,docker' }])(
  '%j leaves nothing, and says what there is',
  (env) => {
    const [[name, value]] = Object.entries(env) as [[string, string]];
    try {
      allowedAddresses(env, interfaces);
    } catch (error) {
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect((error as Error).message).toContain(`${name}='${value}'`);
      expect((error as Error).message).toContain('lo, eth0, eth1, eth10, docker0');
      return;
    }
    throw new Error('it was taken');
  },
);
