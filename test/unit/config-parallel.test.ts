import { describe, expect, expectTypeOf, test, vi } from 'vitest';
import type { ConfigContext } from '../../src/config/context.ts';
import { EPLBConfig } from '../../src/config/eplb-config.ts';
import { ConfigValidationError, MissingVariableError, ZeroDivisionError } from '../../src/config/errors.ts';
import { Executor } from '../../src/config/executor.ts';
import { toSnake } from '../../src/config/names.ts';
import { parallelSchema } from '../../src/config/parallel-schema.ts';
import type { ParallelConfigInput } from '../../src/config/parallel-settings.ts';
import { ParallelConfig } from '../../src/group/parallel-config.ts';
import { cudaHost as cuda } from '../helpers/host-facts.ts';

const at = (context: ConfigContext = {}): ConfigContext => ({
  env: {},
  host: cuda,
  onWarning: () => {},
  ...context,
});
const make = (settings: ParallelConfigInput = {}, context?: ConfigContext) =>
  new ParallelConfig(settings, at(context));

function refusal(work: () => unknown): ConfigValidationError {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigValidationError);
    return error as ConfigValidationError;
  }
  throw new Error('it was not refused');
}
const rule = (work: () => unknown) => {
  const { errors } = refusal(work);
  expect(errors).toMatchObject([{ loc: [], type: 'value_error' }]);
  return errors[0]?.msg.replace('Value error, ', '');
};

describe('the constructor', () => {
  test('speaks camelCase and gives defaults', () => {
    const config = make({ dataParallelSize: 4, dataParallelRank: 1 });
    expect(config.dataParallelSize).toBe(4);
    expect(config.tensorParallelSize).toBe(1);
    expect(config.eplbConfig).toBeInstanceOf(EPLBConfig);
    expect(config.eplbConfig.windowSize).toBe(1000);
    expect(new ParallelConfig(undefined, at()).worldSize).toBe(1);
  });

  test('undefined is the same as nothing', () => {
    const settings = {
      tensorParallelSize: undefined,
      eplbConfig: undefined,
    } as unknown as ParallelConfigInput;
    expect(make(settings).toSnakeCase()).toEqual(make().toSnakeCase());
  });

  test('has types inferred from the schema', () => {
    expectTypeOf<ParallelConfigInput['dataParallelSize']>().toEqualTypeOf<number | undefined>();
    expectTypeOf<ParallelConfig['dataParallelRankLocal']>().toEqualTypeOf<number | null>();
    expectTypeOf<ParallelConfig['dataParallelBackend']>().toEqualTypeOf<'ray' | 'mp'>();
    expectTypeOf<ParallelConfig['eplbConfig']>().toEqualTypeOf<EPLBConfig>();
    expectTypeOf<ParallelConfig['worldSize']>().toEqualTypeOf<number>();
    // @ts-expect-error computed, not an argument
    expect(() => make({ worldSize: 2 })).toThrow();
  });

  test('refuses unknown names with the nearest known one, beside all else that is wrong', () => {
    const settings = {
      dataParalelSize: 2,
      tensor_parallel_size: 2,
      worldSize: 3,
      xyzzy: 1,
      enableDbo: 'maybe',
      eplbConfig: { windowSise: 1, step_interval: 2 },
    } as unknown as ParallelConfigInput;
    const { errors, message, code } = refusal(() => make(settings));
    expect(errors.map(({ loc, msg }) => `${loc.join('.')}: ${msg}`)).toEqual([
      'eplbConfig.windowSise: Unknown name. Did you mean windowSize?',
      'eplbConfig.step_interval: Unknown name. Did you mean stepInterval?',
      'enableDbo: Input should be a valid boolean, unable to interpret input',
      'dataParalelSize: Unknown name. Did you mean dataParallelSize?',
      'tensor_parallel_size: Unknown name. Did you mean tensorParallelSize?',
      'worldSize: Computed, not an argument',
      'xyzzy: Unknown name',
    ]);
    expect(code).toBe('INVALID_CONFIG');
    expect(message).toContain('7 errors in ParallelConfig\n');
    for (const { msg } of errors) expect(message).toContain(msg);
  });

  test('takes an object of settings only', () => {
    for (const other of [null, [], 'x', new Map()]) {
      expect(refusal(() => make(other as unknown as ParallelConfigInput)).errors[0]?.type).toBe(
        'object_type',
      );
    }
  });

  test('does not mind the order of arguments', () => {
    const settings = { tensorParallelSize: 2, enableDbo: true, dataParallelSize: 2, rank: 3 };
    const reversed = Object.fromEntries(Object.entries(settings).reverse());
    expect(make(reversed).toSnakeCase()).toEqual(make(settings).toSnakeCase());
  });

  test('copies the port list, and keeps a built EPLBConfig', () => {
    const ports = [7000, 7001];
    const eplbConfig = new EPLBConfig({ windowSize: 5 });
    const config = make({ _dataParallelMasterPortList: ports, eplbConfig });
    expect(config.eplbConfig).toBe(eplbConfig);
    expect(config.getNextDpInitPort()).toBe(7001);
    expect(ports).toEqual([7000, 7001]);
  });

  test('does not check a built EPLBConfig again', () => {
    const eplbConfig = new EPLBConfig();
    Object.assign(eplbConfig, { logBalancedness: true, logBalancednessInterval: 0, windowSize: 'x' });
    expect(make({ eplbConfig }).eplbConfig.windowSize).toBe('x');
    expect(
      rule(() => make({ eplbConfig: Object.assign(new EPLBConfig(), { numRedundantExperts: 2 }) })),
    ).toMatch(/^num_redundant_experts is set to 2/);
  });

  test('default EPLBConfigs are not shared', () => {
    const [a, b] = [make(), make()];
    a.eplbConfig.windowSize = 7;
    a._dataParallelMasterPortList.push(1);
    expect(b.eplbConfig.windowSize).toBe(1000);
    expect(make().eplbConfig.windowSize).toBe(1000);
    expect(make()._dataParallelMasterPortList).toEqual([]);
  });

  test('checks nothing afterwards', () => {
    const config = make();
    config.tensorParallelSize = 'x' as unknown as number;
    expect(config.toSnakeCase()['tensor_parallel_size']).toBe('x');
  });
});

describe('the snake_case bridge', () => {
  test('drops unknown names at both levels', () => {
    const config = ParallelConfig.fromSnakeCase(
      {
        foo: 1,
        tensorParallelSize: 8,
        world_size: 'x',
        data_parallel_index: 5,
        eplb_config: { windowSize: 5, bar: 1 },
      },
      at(),
    );
    expect(config.toSnakeCase()).toEqual(make().toSnakeCase());
  });

  test('gives back all fields in the order of the table, nested too', () => {
    const names = Object.keys(make().toSnakeCase());
    expect(names).toEqual(Object.keys(parallelSchema().fields.shape).map(toSnake));
    expect(names.slice(36, 40)).toEqual(['nnodes', 'world_size', 'rank', '_data_parallel_master_port_list']);
    expect(names).toHaveLength(46);
    expect(make().toSnakeCase()['eplb_config']).toEqual(new EPLBConfig().toSnakeCase());
  });

  test('spells locations as the caller does', () => {
    const wrong = {
      nnodes: 'x',
      _data_parallel_master_port_list: [1, 'x'],
      eplb_config: { window_size: 'x' },
    };
    expect(refusal(() => ParallelConfig.fromSnakeCase(wrong, at())).errors.map(({ loc }) => loc)).toEqual([
      ['eplb_config', 'window_size'],
      ['nnodes'],
      ['_data_parallel_master_port_list', 1],
    ]);
    const camel = { nnodes: 'x', _dataParallelMasterPortList: [1, 'x'], eplbConfig: { windowSize: 'x' } };
    expect(refusal(() => make(camel as unknown as ParallelConfigInput)).errors.map(({ loc }) => loc)).toEqual(
      [['eplbConfig', 'windowSize'], ['nnodes'], ['_dataParallelMasterPortList', 1]],
    );
  });

  test('takes objects only, and is not fooled by inherited or magic names', () => {
    expect(() => ParallelConfig.fromSnakeCase([] as unknown as Record<string, unknown>, at())).toThrow(
      /an object/,
    );
    const magic = JSON.parse('{"__proto__": {"tensor_parallel_size": 4}, "constructor": 1, "toString": 2}');
    expect(ParallelConfig.fromSnakeCase(magic, at()).tensorParallelSize).toBe(1);
  });
});

describe('EPLBConfig alone', () => {
  test('constructor, bridge and refusals', () => {
    expect({ ...new EPLBConfig({ windowSize: 5 }) }).toMatchObject({ windowSize: 5, stepInterval: 3000 });
    expect(EPLBConfig.fromSnakeCase({ window_size: '5', foo: 1 }).windowSize).toBe(5);
    expect(refusal(() => new EPLBConfig({ windowsize: 5 } as never)).errors[0]?.msg).toContain('windowSize');
    expect(refusal(() => EPLBConfig.fromSnakeCase({ step_interval: 'x' })).errors[0]?.loc).toEqual([
      'step_interval',
    ]);
    expect(rule(() => new EPLBConfig({ logBalancedness: true, logBalancednessInterval: 0 }))).toBe(
      'log_balancedness_interval must be greater than 0.',
    );
    expect(refusal(() => new EPLBConfig(null as never)).errors[0]?.type).toBe('dataclass_type');
  });
});

describe('the environment', () => {
  /** An environment that notes what is read. */
  function watched(env: Record<string, string>) {
    const read: string[] = [];
    const proxy = new Proxy<Record<string, string | undefined>>(
      { ...env },
      {
        get(target, name) {
          if (!read.includes(String(name))) read.push(String(name));
          return target[String(name)];
        },
      },
    );
    return { proxy, read };
  }

  test('a variable is read at its step and no sooner', () => {
    const bad = {
      VLLM_DP_SIZE: 'x',
      VLLM_DP_RANK: 'x',
      RANK: 'x',
      VLLM_XLA_USE_SPMD: 'x',
      VLLM_DP_MASTER_PORT: 'x',
    };
    const { proxy, read } = watched(bad);
    expect(make({ dataParallelSize: 2, tensorParallelSize: 2 }, { env: proxy }).dataParallelSize).toBe(2);
    expect(read).toEqual(['VLLM_ALL2ALL_BACKEND']);
    const second = watched({ VLLM_DP_RANK: 'x' });
    expect(rule(() => make({}, { env: second.proxy }))).toBe("invalid literal for int() with base 10: 'x'");
    expect(second.read).toEqual(['VLLM_ALL2ALL_BACKEND', 'VLLM_DP_SIZE', 'VLLM_DP_RANK']);
  });

  test('the machine is asked when needed and not before', () => {
    const asked: (string | symbol)[] = [];
    const host = new Proxy(cuda, {
      get(target, name) {
        asked.push(name);
        return Reflect.get(target, name);
      },
    });
    make({}, { host });
    expect(asked).toEqual(['batchInvariant', 'customAllReduce']);
  });

  test('a change stays done after a refusal, and warnings are out', () => {
    const env: Record<string, string> = { VLLM_ALL2ALL_BACKEND: 'naive' };
    const warnings: string[] = [];
    const context = { env, onWarning: (text: string) => void warnings.push(text) };
    rule(() =>
      make(
        {
          distributedExecutorBackend: 'external_launcher',
          rayWorkersUseNsight: true,
          maxParallelLoadingWorkers: 0,
        },
        context,
      ),
    );
    expect(env['VLLM_ENABLE_V1_MULTIPROCESSING']).toBe('0');
    expect(warnings).toEqual([
      expect.stringMatching(/^VLLM_ALL2ALL_BACKEND environment variable is deprecated/),
      'max_parallel_loading_workers is currently not supported and will be ignored.',
    ]);
  });

  test('without onWarning they go to process.emitWarning, the deprecation once', () => {
    const emit = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const env = { VLLM_ALL2ALL_BACKEND: 'pplx' };
    for (let i = 0; i < 3; i += 1) new ParallelConfig({ maxParallelLoadingWorkers: 1 }, { env, host: cuda });
    const texts = emit.mock.calls.map(([text]) => String(text));
    expect(texts.filter((text) => text.includes('deprecated'))).toHaveLength(1);
    expect(texts.filter((text) => text.includes('max_parallel'))).toHaveLength(3);
  });

  test('process.env is the default', () => {
    vi.stubEnv('VLLM_DP_SIZE', '3');
    vi.stubEnv('VLLM_DP_RANK', '2');
    const config = new ParallelConfig({}, { host: cuda });
    expect([config.dataParallelSize, config.dataParallelRank, config.dataParallelIndex]).toEqual([3, 2, 2]);
  });

  test('RANK under the launcher: its three ways to fail', () => {
    const launcher = { distributedExecutorBackend: 'external_launcher', dataParallelSize: 2 } as const;
    const missing = expect.objectContaining({
      message: "'RANK'",
      variable: 'RANK',
      code: 'MISSING_VARIABLE',
    });
    expect(() => make(launcher)).toThrow(missing);
    expect(() => make(launcher)).toThrow(MissingVariableError);
    expect(rule(() => make(launcher, { env: { RANK: '1.0' } }))).toContain("'1.0'");
    expect(() => make({ ...launcher, tensorParallelSize: 0 }, { env: { RANK: '1' } })).toThrow(
      ZeroDivisionError,
    );
    expect(make({ ...launcher, tensorParallelSize: 4 }, { env: { RANK: '٧' } }).dataParallelRank).toBe(1);
  });
});

describe('executors', () => {
  class Mine extends Executor {}
  class MineRay extends Executor {
    static override usesRay = true;
  }
  class Derived extends MineRay {}
  class Other {}

  test('classes: derived from Executor, and whether they use Ray', () => {
    expect(make({ distributedExecutorBackend: Mine }).useRay).toBe(false);
    expect(make({ distributedExecutorBackend: Executor }).useRay).toBe(false);
    const ray = { host: { ...cuda, rayAvailable: true } };
    expect(make({ distributedExecutorBackend: Derived }, ray).useRay).toBe(true);
    const unrecognized =
      "Unrecognized distributed executor backend <class 'custom.Other'>. Supported values are 'ray', 'mp' 'uni', " +
      "'external_launcher',  custom Executor subclass or its import path.";
    expect(rule(() => make({ distributedExecutorBackend: Other }))).toBe(unrecognized);
    const named = Object.assign(class Named {}, { moduleName: 'my.mod' });
    expect(rule(() => make({ distributedExecutorBackend: named }))).toContain("<class 'my.mod.Named'>");
    expect(make({ distributedExecutorBackend: Mine }).toSnakeCase()['distributed_executor_backend']).toBe(
      Mine,
    );
  });

  test('why Ray is missing', () => {
    const host = { ...cuda, rayUnavailableReason: 'no ray here' };
    expect(rule(() => make({ distributedExecutorBackend: 'ray' }, { host }))).toBe(
      'Failed to import Ray: no ray here.Please install Ray with `pip install ray`.',
    );
  });
});

describe('numbers beyond 2^53 - 1 are refused, not rounded', () => {
  test('as a product', () => {
    const large = 2 ** 52;
    expect(rule(() => make({ tensorParallelSize: large, pipelineParallelSize: large }))).toContain(
      'world_size',
    );
    expect(rule(() => make({}, { env: { VLLM_DP_SIZE: '9007199254740993' } }))).toContain('9007199254740993');
  });
});

describe('hash', () => {
  const preimage =
    '{"all2all_backend": "allgather_reducescatter", "cp_kv_cache_interleave_size": 1, "data_parallel_size": 1, ' +
    '"dbo_decode_token_threshold": 32, "dbo_prefill_token_threshold": 512, "dcp_kv_cache_interleave_size": 1, ' +
    '"decode_context_parallel_size": 1, "disable_nccl_for_dp_synchronization": null, "enable_dbo": false, ' +
    '"enable_eplb": false, "enable_expert_parallel": false, "eplb_config": ["vllm.config.parallel.EPLBConfig", ' +
    '[["log_balancedness", false], ["log_balancedness_interval", 1], ["num_redundant_experts", 0], ' +
    '["policy", "default"], ["step_interval", 3000], ["use_async", false], ["window_size", 1000]]], ' +
    '"expert_placement_strategy": "linear", "is_moe_model": null, "pipeline_parallel_size": 1, ' +
    '"prefill_context_parallel_size": 1, "tensor_parallel_size": 1, "ubatch_size": 0, "world_size": 1}';

  test('the worked example', () => {
    expect(make().hashPreimage()).toBe(preimage);
    expect(preimage).toHaveLength(794);
    expect(make().computeHash()).toBe('82ee2bcb00f85cdf8d9cefe9c09ff7c7a5852c44742e032da1552413635e3fd8');
  });

  test('of the fields as they are at the moment', () => {
    const config = make({ dataParallelSize: 2 });
    const before = config.computeHash();
    config.getNextDpInitPort();
    expect(config.computeHash()).toBe(before);
    Object.assign(config, {
      all2allBackend: 'é"😀\n',
      isMoeModel: 0.5,
      ubatchSize: 1e21,
      enableDbo: [1, 'x', [null]],
    });
    const text = config.hashPreimage();
    expect(text).toContain('"all2all_backend": "\\u00e9\\"\\ud83d\\ude00\\n"');
    expect(text).toContain('"is_moe_model": 0.5');
    expect(text).toContain('"ubatch_size": 1000000000000000000000');
    expect(text).toContain('"enable_dbo": [1, "x", [null]]');
    Object.assign(config, { ubatchSize: undefined });
    expect(() => config.computeHash()).toThrow(/ubatchSize holds a undefined/);
  });
});

describe('ports', () => {
  test('are given out from the end of the list, then counted up', () => {
    const config = make({ dataParallelSize: 2, dataParallelMasterPort: 1234 });
    expect([config.dataParallelMasterPort, config._dataParallelMasterPortList]).toEqual([
      41005,
      [41001, 41002, 41003, 41004],
    ]);
    expect(config.peekDpInitPorts(7)).toEqual([41004, 41003, 41002, 41001, 41005, 41006, 41007]);
    expect(Array.from({ length: 7 }, () => config.getNextDpInitPort())).toEqual([
      41004, 41003, 41002, 41001, 41005, 41006, 41007,
    ]);
    expect(config.dataParallelMasterPort).toBe(41008);
  });

  test('held ones are released once, by whoever takes them', () => {
    const released: number[] = [];
    const openPorts = () =>
      [1, 2, 3, 4, 5].map((port) => ({ port, release: () => void released.push(port) }));
    const config = make({ dataParallelSize: 2 }, { host: { ...cuda, openPorts } });
    expect(config.heldPorts).toEqual([1, 2, 3, 4, 5]);
    expect(config.holdsPort(4)).toBe(true);
    expect(config.getNextDpInitPort()).toBe(4);
    expect(released).toEqual([]);
    expect(config.handOver(4)).toBeUndefined();
    expect(config.holdsPort(4)).toBe(false);
    expect(config.takeHeldPort(4)).toBeUndefined();
    expect(released).toEqual([4]);
    config.releaseHeldPorts();
    config.releaseHeldPorts();
    expect(released).toEqual([4, 1, 2, 3, 5]);
  });

  test('a holder with descriptors hands them over instead', () => {
    const openPorts = () =>
      [1, 2, 3, 4, 5].map((port) => ({ port, take: () => port + 100, release: () => {} }));
    const config = make({ dataParallelSize: 2 }, { host: { ...cuda, openPorts } });
    expect(config.handOver(5)).toBe(105);
  });
});

test('sources of resolved fields are told', () => {
  const sources = new Map<string, string>();
  make(
    { tensorParallelSize: 2 },
    { env: { VLLM_DP_RANK: '0' }, onSource: (name, from) => sources.set(name, from) },
  );
  expect(sources.get('dataParallelRank')).toBe('environment VLLM_DP_RANK');
  expect(sources.get('dataParallelRankLocal')).toBe('environment VLLM_DP_RANK');
  expect(sources.get('dataParallelSize')).toBe('default, as VLLM_DP_SIZE is not set');
  expect(sources.get('distributedExecutorBackend')).toBe('chosen: several processes');
});
