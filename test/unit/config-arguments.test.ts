import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { flagOf, parallelOptions } from '../../src/config/arguments.ts';
import { parallelSchema } from '../../src/config/parallel-schema.ts';
import { parseKnownParallelArgs, parseParallelArgs } from '../../src/config/sources.ts';
import { InvalidArgumentError } from '../../src/errors.ts';

const parse = (line: string, env = {}) => parseParallelArgs(line === '' ? [] : line.split(' '), { env });

describe("the origin's spellings", () => {
  test.each([
    ['', {}],
    ['--data-parallel-size 4', { dataParallelSize: 4 }],
    ['--data_parallel_size=4', { dataParallelSize: 4 }],
    [
      '-dp 4 -tp 2 -pp 3 -pcp 5 -dcp 6',
      {
        dataParallelSize: 4,
        tensorParallelSize: 2,
        pipelineParallelSize: 3,
        prefillContextParallelSize: 5,
        decodeContextParallelSize: 6,
      },
    ],
    ['-tp=2', { tensorParallelSize: 2 }],
    [
      '-dpl 2 -dpn 1 -dpa 10.0.0.1 -dpp 13345 -dpb ray -dph -dpe -ep',
      {
        dataParallelSizeLocal: 2,
        dataParallelRank: 1,
        dataParallelMasterIp: '10.0.0.1',
        dataParallelRpcPort: 13345,
        dataParallelBackend: 'ray',
        dataParallelHybridLb: true,
        dataParallelExternalLb: true,
        enableExpertParallel: true,
      },
    ],
    [
      '--data-parallel-address h --data-parallel-start-rank 2',
      { dataParallelMasterIp: 'h', dataParallelRank: 2 },
    ],
    ['-n 2 -r 1 --master-addr a --master-port 5', { nnodes: 2, nodeRank: 1, masterAddr: 'a', masterPort: 5 }],
    ['-n2 -r1', { nnodes: 2, nodeRank: 1 }],
    ['--enable-expert-parallel --no-enable-eplb', { enableExpertParallel: true, enableEplb: false }],
    ['--enable_eplb --no_enable_eplb', { enableEplb: false }],
    ['--tensor-parallel-size 2 -tp 4', { tensorParallelSize: 4 }],
    ['--rank -1 --node-rank=-3', { rank: -1, nodeRank: -3 }],
    ['--max-parallel-loading-workers None', { maxParallelLoadingWorkers: null }],
    [
      '--distributed-executor-backend mp --all2all-backend pplx',
      { distributedExecutorBackend: 'mp', all2allBackend: 'pplx' },
    ],
    [
      '--no-is-moe-model --disable-nccl-for-dp-synchronization',
      { isMoeModel: false, disableNcclForDpSynchronization: true },
    ],
    ['--eplb-config {"window_size":10}', { eplbConfig: { windowSize: 10 } }],
    ['--eplb-config.window_size 10', { eplbConfig: { windowSize: 10 } }],
    [
      '--eplb_config.window-size=10 --eplb-config.use_async true',
      { eplbConfig: { windowSize: 10, useAsync: true } },
    ],
    [
      '--eplb-config {"window_size":10} --eplb-config.step_interval 5',
      { eplbConfig: { windowSize: 10, stepInterval: 5 } },
    ],
    ['--eplb-config.policy default', { eplbConfig: { policy: 'default' } }],
    ['--data-parallel-master-port-list 7000,7001', { _dataParallelMasterPortList: [7000, 7001] }],
    ['--api-process-count 2 --api-process-rank -1', { _apiProcessCount: 2, _apiProcessRank: -1 }],
    ['--ray-runtime-env {"pip":["a"]}', { rayRuntimeEnv: { pip: ['a'] } }],
  ])('%s', (line, settings) => {
    expect(parse(line)).toEqual(settings);
  });

  test('every field has an option of its own name', () => {
    for (const field of parallelSchema().inputNames.camel) {
      expect(parallelOptions().get(flagOf(field))?.field).toBe(field);
    }
  });

  test.each([
    ['--data-paralel-size 2', 'unknown option --data-paralel-size. Did you mean --data-parallel-size?'],
    ['--tensor-parallel 2', 'Did you mean --tensor-parallel-size?'],
    ['--enable-expert-paralel', 'Did you mean --enable-expert-parallel?'],
    ['--no-enable-ebld', 'Did you mean --no-enable-eplb?'],
    ['--no-tensor-parallel-size', 'unknown option --no-tensor-parallel-size'],
    [
      '--eplb-config.window_sise 10',
      'unknown option --eplb-config.window_sise. Did you mean --eplb-config.window_size?',
    ],
    ['--eplb-config {"windowsize":1}', 'Did you mean --eplb-config.window_size?'],
    ['--tensor-parallel-size.x 2', 'unknown option --tensor-parallel-size.x'],
    ['--qqqqqqq', 'unknown option --qqqqqqq'],
    ['serve', 'unknown argument serve'],
    ['--tensor-parallel-size two', "argument --tensor-parallel-size/-tp: invalid int value: 'two'"],
    ['--tensor-parallel-size 2.0', "invalid int value: '2.0'"],
    ['--tensor-parallel-size', 'argument --tensor-parallel-size: expected one argument'],
    ['-tp --enable-eplb', 'argument -tp: expected one argument'],
    ['--enable-eplb=true', "argument --enable-eplb: ignored explicit argument 'true'"],
    ['--eplb-config 5', 'expected a JSON object'],
    ['--config /nowhere/x.json', '/nowhere/x.json cannot be read'],
  ])('%s is refused', (line, text) => {
    expect(() => parse(line)).toThrow(InvalidArgumentError);
    expect(() => parse(line)).toThrow(text);
  });

  test('an engine with options of its own gets the rest', () => {
    const { settings, rest, sources } = parseKnownParallelArgs(
      ['serve', 'model', '-tp', '2', '--port', '80', '--enable-eplb', '--', '-tp', '8'],
      { env: {} },
    );
    expect(settings).toEqual({ tensorParallelSize: 2, enableEplb: true });
    expect(rest).toEqual(['serve', 'model', '--port', '80', '--', '-tp', '8']);
    expect(sources.get('tensorParallelSize')).toBe('command line -tp');
  });
});

describe('files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nc-config-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const json = file(
    'a.json',
    '{"data-parallel-size": 4, "data_parallel_rank": 1, "tensorParallelSize": 2, "eplb-config": {"window_size": 5, "use-async": true}}',
  );

  test('JSON and YAML say the same', () => {
    const settings = {
      dataParallelSize: 4,
      dataParallelRank: 1,
      tensorParallelSize: 2,
      eplbConfig: { windowSize: 5, useAsync: true },
    };
    expect(parse(`--config ${json}`)).toEqual(settings);
    const yaml =
      'data-parallel-size: 4\ndata_parallel_rank: 1\ntensor-parallel-size: 2\neplb_config:\n  window_size: 5\n  use_async: true\n';
    expect(parse(`--config=${file('a.yaml', yaml)}`)).toEqual(settings);
  });

  test('defaults, file, environment, command line', () => {
    const line = (env: Record<string, string>, more = '') => {
      const argv = `--config ${json} ${more}`.trim().split(' ');
      const { settings, sources } = parseKnownParallelArgs(argv, { env });
      return { ...settings, sources: Object.fromEntries(sources) };
    };
    expect(line({}, '--tensor_parallel_size 8 --eplb-config.window_size 9')).toMatchObject({
      tensorParallelSize: 8,
      eplbConfig: { windowSize: 9, useAsync: true },
      sources: {
        tensorParallelSize: 'command line --tensor-parallel-size',
        dataParallelSize: `file ${json}`,
      },
    });
    // The environment describes all of data parallelism: what the file says of it is left aside.
    expect(line({ VLLM_DP_SIZE: '2' })).not.toHaveProperty('dataParallelSize');
    expect(line({ VLLM_DP_SIZE: '2' })).not.toHaveProperty('dataParallelRank');
    // The file gives the size, the environment the rest.
    expect(line({ VLLM_DP_RANK: '3' })).toMatchObject({
      dataParallelSize: 4,
      dataParallelRank: '3',
      sources: { dataParallelRank: 'environment VLLM_DP_RANK' },
    });
    expect(line({ VLLM_DP_RANK: '3' }, '-dpn 2')).toMatchObject({ dataParallelRank: 2 });
    expect(line({ VLLM_DP_SIZE: '2', VLLM_DP_RANK: '3' }, '-dp 8')).toMatchObject({
      dataParallelSize: 8,
      dataParallelRank: 1,
    });
  });

  test('slips are found; other settings of an engine are refused or passed over', () => {
    const slip = file('slip.json', '{"data-paralel-size": 4}');
    expect(() => parse(`--config ${slip}`)).toThrow(
      `unknown setting data-paralel-size in ${slip}. Did you mean data-parallel-size?`,
    );
    expect(() => parseKnownParallelArgs(['--config', slip])).toThrow('Did you mean');
    const engine = file('engine.yaml', 'model: m\ntensor-parallel-size: 2\n');
    expect(() => parse(`--config ${engine}`)).toThrow('unknown setting model');
    expect(parseKnownParallelArgs(['--config', engine]).settings).toEqual({ tensorParallelSize: 2 });
    const nested = file('nested.json', '{"eplb_config": {"window_sise": 4}}');
    expect(() => parse(`--config ${nested}`)).toThrow('window_size');
    expect(() => parse(`--config ${file('list.yml', '- 1\n')}`)).toThrow('holds no settings');
    expect(() => parse(`--config ${file('bad.json', '{')}`)).toThrow('cannot be understood');
    expect(() => parse(`--config ${file('bad.yaml', 'a: [')}`)).toThrow('cannot be understood');
  });
});
