import { describe, expect, test } from 'vitest';
import type { HostFacts } from '../../src/config/host.ts';
import { AddressInUseError, NetworkError } from '../../src/errors.ts';
import { addressInUseWarning, attemptOnNextPorts } from '../../src/group/dp.ts';
import { ParallelConfig } from '../../src/group/parallel-config.ts';
import { cudaHost } from '../helpers/host-facts.ts';

const host: HostFacts = { ...cudaHost, openPorts: () => [1, 2, 3, 4, 5] };
const counter = () => {
  let next = 100;
  return { getNextDpInitPort: () => next++ };
};

describe('the retry policy', () => {
  test('a taken port is told as AddressInUseError or as a network error that names it', async () => {
    const warnings: string[] = [];
    const outcomes = [new AddressInUseError('taken'), new NetworkError('bind: EADDRINUSE'), undefined];
    const ports: number[] = [];
    const attempt = async (takePort: () => number) => {
      ports.push(takePort());
      const error = outcomes[ports.length - 1];
      if (error !== undefined) throw error;
      return 'group';
    };
    expect(await attemptOnNextPorts(counter(), attempt, (text) => warnings.push(text))).toBe('group');
    expect(ports).toEqual([100, 101, 102]);
    expect(warnings).toEqual([addressInUseWarning, addressInUseWarning]);
  });

  test('other errors end it, also those that only mention it', async () => {
    for (const error of [
      new NetworkError('ECONNREFUSED'),
      new NetworkError('eaddrinuse'),
      new Error('EADDRINUSE'),
    ]) {
      const ports = counter();
      await expect(
        attemptOnNextPorts(
          ports,
          (takePort) => {
            takePort();
            return Promise.reject(error);
          },
          () => {},
        ),
      ).rejects.toBe(error);
      expect(ports.getNextDpInitPort()).toBe(101);
    }
  });
});

describe('what a configuration gives to set-up', () => {
  test('hashed fields, as JSON by name', () => {
    const config = new ParallelConfig({ tensorParallelSize: 2, enableDbo: true }, { env: {}, host });
    const settings = config.dpSettings();
    expect(settings).toMatchObject({ tensor_parallel_size: '2', enable_dbo: 'true', is_moe_model: 'null' });
    expect(settings['all2all_backend']).toBe('"allgather_reducescatter"');
    expect(settings['eplb_config']).toMatch(
      /^\["vllm\.config\.parallel\.EPLBConfig", \[\["log_balancedness", false\]/,
    );
    expect(Object.keys(settings)).toHaveLength(19);
    expect(settings).not.toHaveProperty('rank');
  });

  test('the backend of the platform, and why another one is used', () => {
    const choice = (facts: Partial<HostFacts>) =>
      new ParallelConfig({}, { env: {}, host: { ...host, ...facts } }).dpBackend();
    expect(choice({ platform: 'cpu', distBackend: 'gloo' })).toEqual({
      platformBackend: 'gloo',
      backend: 'gloo',
      reason: 'platform cpu',
    });
    const none = choice({ deviceCount: 0 });
    expect(none).toMatchObject({ platformBackend: 'nccl', backend: 'gloo', fellBack: true });
    expect(none.reason).toContain('sees no device');
    const rocm = choice({ platform: 'rocm', distBackend: 'nccl', deviceCount: 1 });
    expect(rocm).toEqual({ platformBackend: 'nccl', backend: 'nccl', reason: 'platform rocm' });
    const xpu = choice({ platform: 'xpu', distBackend: 'xccl', deviceCount: 1 });
    expect(xpu).toMatchObject({ platformBackend: 'xccl', backend: 'gloo', fellBack: true });
  });

  test('the way of the votes follows disableNcclForDpSynchronization', () => {
    const votes = (setting: boolean | null, backend: 'gloo' | 'nccl') =>
      new ParallelConfig({ disableNcclForDpSynchronization: setting }, { env: {}, host }).dpVotes(backend);
    const reason = 'disableNcclForDpSynchronization is';
    expect(votes(true, 'nccl')).toEqual({ path: 'cpu', reason: `${reason} true` });
    expect(votes(false, 'nccl')).toEqual({ path: 'device', reason: `${reason} false` });
    expect(votes(null, 'nccl')).toEqual({ path: 'device', reason: `${reason} null` });
    expect(votes(false, 'gloo')).toEqual({ path: 'cpu', reason: `${reason} false; the group has no device` });
  });
});
