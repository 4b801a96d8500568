import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { standinFile, standins, standinsBuilt } from '../helpers/standins.ts';

test.skipIf(!standinsBuilt('nccl') || !standinsBuilt('rccl'))(
  'the environment names files that are there, of the flavour and version asked for',
  () => {
    const nccl = standins({ flavour: 'nccl' });
    expect(nccl['NODE_COLLECTIVES_CUDA_PATH']).toBe(standinFile('libcuda.so.1'));
    expect(nccl['NODE_COLLECTIVES_HIP_PATH']).toBeUndefined();
    const rccl = standins({ flavour: 'rccl', version: '2.13.4', driver: 'libamdhip64.so.5' });
    expect(rccl['NODE_COLLECTIVES_HIP_PATH']).toBe(standinFile('libamdhip64.so.5'));
    expect(rccl['NODE_COLLECTIVES_NCCL_PATH']).toBe(standinFile('librccl-2.13.so.1'));
    for (const env of [nccl, rccl]) {
      for (const [name, value] of Object.entries(env))
        if (name.endsWith('_PATH')) expect(existsSync(value as string), value).toBe(true);
    }
    expect(() => standins({ flavour: 'rccl', version: '2.22.3' })).toThrow('no stand-in for rccl 2.22.3');
  },
);

test('faults become one list, what is not asked for is not set', () => {
  const env = standins({ flavour: 'nccl', faults: { 'init-hang': true, 'async-error': 3 }, report: false });
  expect(env['NC_STANDIN_FAULTS']).toBe('init-hang,async-error=3');
  expect(Object.keys(env).sort()).toEqual([
    'NC_STANDIN_FAULTS',
    'NODE_COLLECTIVES_CUDA_PATH',
    'NODE_COLLECTIVES_NCCL_PATH',
  ]);
});
