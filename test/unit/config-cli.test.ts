import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { configCommand } from '../../src/cli/config.ts';
import { UsageError } from '../../src/cli/usage.ts';

let out = '';
let err = '';
beforeEach(() => {
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
  for (const name of Object.keys(process.env)) if (name.startsWith('VLLM_')) vi.stubEnv(name, undefined);
});
afterEach(() => vi.restoreAllMocks());

interface Report {
  fields: Record<string, unknown>;
  sources: Record<string, string>;
  errors: { loc: unknown[]; msg: string; type: string }[];
}
const json = async (...argv: string[]) => {
  const exitCode = await configCommand([...argv, '--json']);
  return { exitCode, ...(JSON.parse(out) as Report) };
};

describe('node-collectives config', () => {
  test('prints values, sources and the hash', async () => {
    vi.stubEnv('VLLM_DP_SIZE', '2');
    expect(
      await configCommand([
        '-tp',
        '2',
        '--distributed-executor-backend',
        'mp',
        '--eplb-config.window_size',
        '7',
      ]),
    ).toBe(0);
    expect(out).toMatch(/^tensor_parallel_size +2 +command line -tp$/m);
    expect(out).toMatch(/^data_parallel_size +2 +environment VLLM_DP_SIZE$/m);
    expect(out).toMatch(/^data_parallel_rank +0 +default, as VLLM_DP_RANK is not set$/m);
    expect(out).toMatch(/^eplb_config.window_size +7 +command line --eplb-config$/m);
    expect(out).toMatch(/^eplb_config.step_interval +3000 +default$/m);
    expect(out).toMatch(/^world_size +2 +computed$/m);
    expect(out).toMatch(/^nnodes +1 +default$/m);
    expect(out).toMatch(/^world_size_across_dp +4 +derived$/m);
    expect(out).toMatch(/^hash [0-9a-f]{64}$/m);
  });

  test('--json has it all', async () => {
    const report = await json('-dp', '2', '--data-parallel-rank', '1');
    expect(report).toMatchObject({
      exitCode: 0,
      ok: true,
      warnings: [],
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(report.fields['data_parallel_size']).toBe(2);
    expect(report.sources['data_parallel_master_port']).toBe('taken off the port list');
    expect(Object.keys(report.fields)).toHaveLength(46);
    expect(Object.keys(report.sources)).toHaveLength(46 - 1 + 7);
    expect(report.sources['eplb_config.window_size']).toBe('default');
  });

  test('a refusal is told, with exit code 1', async () => {
    expect(await configCommand(['--data-parallel-backend', 'x', '--all2all-backend', 'y'])).toBe(1);
    expect(err).toContain('2 errors in ParallelConfig');
    expect(err).toContain("dataParallelBackend: Input should be 'ray' or 'mp'");
    out = '';
    const report = await json('--data-parallel-backend', 'x');
    expect(report.exitCode).toBe(1);
    expect(report.errors).toEqual([
      { loc: ['dataParallelBackend'], msg: "Input should be 'ray' or 'mp'", type: 'literal_error' },
    ]);
  });

  test('warnings go to stderr', async () => {
    await configCommand(['--max-parallel-loading-workers', '2']);
    expect(err).toContain('warning: max_parallel_loading_workers is currently not supported');
  });

  test('wrong arguments are a usage error with a suggestion', async () => {
    await expect(configCommand(['--tensor-paralel-size', '2'])).rejects.toThrow(UsageError);
    await expect(configCommand(['--tensor-paralel-size', '2'])).rejects.toThrow(
      'Did you mean --tensor-parallel-size?',
    );
  });

  test('--schema is a JSON Schema of the settings', async () => {
    expect(await configCommand(['--schema'])).toBe(0);
    const schema = JSON.parse(out);
    expect(schema).toMatchObject({ type: 'object', additionalProperties: false, title: 'ParallelConfig' });
    expect(schema.properties.dataParallelBackend).toMatchObject({ enum: ['ray', 'mp'], default: 'mp' });
    expect(schema.properties._apiProcessCount).toMatchObject({
      type: 'integer',
      exclusiveMinimum: 0,
      default: 1,
    });
    expect(schema.properties.eplbConfig.properties.numRedundantExperts).toMatchObject({
      minimum: 0,
      default: 0,
    });
    expect(schema.properties.eplbConfig.additionalProperties).toBe(false);
    expect(schema.properties.tensorParallelSize.description).toMatch(/\w/);
    expect(schema.properties).not.toHaveProperty('worldSize');
    expect(schema).not.toHaveProperty('required');
    expect(Object.keys(schema.properties)).toHaveLength(44);
  });

  test('--help', async () => {
    expect(await configCommand(['--help'])).toBe(0);
    expect(out).toMatch(/^Usage: node-collectives config/);
  });
});
