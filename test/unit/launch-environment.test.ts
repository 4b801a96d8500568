import { closeSync, openSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { rankEnvironment, rankFromEnvironment } from '../../src/launch/environment.ts';
import { listenFdFromEnvironment } from '../../src/net/listen-fd.ts';

describe('rankFromEnvironment', () => {
  it.each([
    [
      { RANK: '2', WORLD_SIZE: '4', LOCAL_RANK: '1' },
      { rank: 2, worldSize: 4, localRank: 1, sources: ['torch'] },
    ],
    [
      { VLLM_DP_RANK: '0', VLLM_DP_SIZE: '2' },
      { rank: 0, worldSize: 2, sources: ['vllm-dp'] },
    ],
    [
      { SLURM_PROCID: '7', SLURM_NTASKS: '8', SLURM_LOCALID: '3' },
      { rank: 7, worldSize: 8, localRank: 3, sources: ['slurm'] },
    ],
    [
      { OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_LOCAL_RANK: '0' },
      { rank: 1, worldSize: 2, localRank: 0, sources: ['open-mpi'] },
    ],
    [
      { PMI_RANK: '1', PMI_SIZE: '3' },
      { rank: 1, worldSize: 3, sources: ['pmi'] },
    ],
    [{}, undefined],
    [{ RANK: '', WORLD_SIZE: '4' }, undefined],
    [{ SLURM_NTASKS: '4' }, undefined],
  ])('reads %j', (env, expected) => {
    expect(rankFromEnvironment(env)).toEqual(expected);
  });

  it('takes several families that agree', () => {
    const env = { RANK: '1', WORLD_SIZE: '2', PMI_RANK: '1', PMI_SIZE: '2' };
    expect(rankFromEnvironment(env)).toEqual({ rank: 1, worldSize: 2, sources: ['torch', 'pmi'] });
  });

  it('names what disagrees, and lets the caller choose', () => {
    const env = { RANK: '1', WORLD_SIZE: '2', SLURM_PROCID: '0', SLURM_NTASKS: '1' };
    expect(() => rankFromEnvironment(env)).toThrow(InvalidArgumentError);
    expect(() => rankFromEnvironment(env)).toThrow(/RANK=1 WORLD_SIZE=2; SLURM_PROCID=0 SLURM_NTASKS=1/);
    expect(rankFromEnvironment(env, { source: 'slurm' })).toEqual({
      rank: 0,
      worldSize: 1,
      sources: ['slurm'],
    });
    expect(() => rankFromEnvironment(env, { source: 'pmi' })).toThrow(/PMI_RANK is not set/);
    expect(() => rankFromEnvironment(env, { source: 'lsf' as 'pmi' })).toThrow(/one of vllm-dp, torch/);
  });

  it.each([
    [{ RANK: '1' }, /RANK is set but WORLD_SIZE is not/],
    [{ RANK: '-1', WORLD_SIZE: '2' }, /RANK must be a whole number >= 0, it is "-1"/],
    [{ RANK: '1.5', WORLD_SIZE: '2' }, /RANK must be/],
    [{ RANK: '0x1', WORLD_SIZE: '2' }, /RANK must be/],
    [{ RANK: '0', WORLD_SIZE: 'two' }, /WORLD_SIZE must be/],
    [{ RANK: '0', WORLD_SIZE: '0' }, /out of range/],
    [{ RANK: '2', WORLD_SIZE: '2' }, /RANK=2 is out of range: WORLD_SIZE=2 allows 0 to 1/],
  ])('refuses %j', (env, message) => {
    expect(() => rankFromEnvironment(env)).toThrow(message);
  });
});

describe('rankEnvironment', () => {
  it('can be read back, whatever surrounds it', () => {
    const outer = {
      PATH: '/bin',
      SLURM_PROCID: '5',
      SLURM_NTASKS: '9',
      VLLM_DP_RANK: '3',
      VLLM_DP_SIZE: '8',
    };
    const env = rankEnvironment(outer, {
      rank: 1,
      worldSize: 4,
      masterAddr: '::1',
      masterPort: 1,
      jobId: 'j',
      secret: 'of the launcher',
    });
    expect(rankFromEnvironment(env)).toEqual({
      rank: 1,
      worldSize: 4,
      localRank: 1,
      sources: ['vllm-dp', 'torch'],
    });
    expect(env).toMatchObject({ PATH: '/bin', MASTER_ADDR: '::1', VLLM_DP_MASTER_IP: '::1' });
    expect(env).not.toHaveProperty('NODE_COLLECTIVES_LISTEN_FD');
    expect(env['NODE_COLLECTIVES_SECRET']).toBe('of the launcher');
  });
});

describe('listenFdFromEnvironment', () => {
  let server: Server | undefined;
  afterEach(() => server?.close());

  it('gives a descriptor that listens', async () => {
    server = createServer();
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    const fd = (server as unknown as { _handle: { fd: number } })._handle.fd;
    expect(listenFdFromEnvironment({ NODE_COLLECTIVES_LISTEN_FD: String(fd) })).toBe(fd);
  });

  it('refuses others', () => {
    expect(listenFdFromEnvironment({})).toBeUndefined();
    expect(() => listenFdFromEnvironment({ NODE_COLLECTIVES_LISTEN_FD: 'x' })).toThrow(/whole number/);
    expect(() => listenFdFromEnvironment({ NODE_COLLECTIVES_LISTEN_FD: '1048576' })).toThrow(/no socket/);
    const fd = openSync('/dev/null', 'r');
    expect(() => listenFdFromEnvironment({ NODE_COLLECTIVES_LISTEN_FD: String(fd) })).toThrow(/no socket/);
    closeSync(fd);
  });
});
