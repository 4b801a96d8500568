import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toBool, toInt } from '../../src/config/convert.ts';
import type { HostFacts } from '../../src/config/host.ts';
import type { ParallelConfigInput } from '../../src/config/parallel-fields.ts';
import { parallelSchema } from '../../src/config/parallel-schema.ts';
import { holdPorts } from '../../src/config/ports.ts';
import { floorDivide, floorModulo, pythonInt } from '../../src/config/python.ts';
import { ParallelConfig } from '../../src/group/parallel-config.ts';

const host: HostFacts = {
  platform: 'cuda',
  deviceCount: 1_000_000,
  distBackend: 'nccl',
  customAllReduce: true,
  rayAvailable: true,
  rayRunning: false,
  inPlacementGroup: false,
  batchInvariant: false,
  openPorts: () => [41001, 41002, 41003, 41004, 41005],
};
const make = (settings: ParallelConfigInput) => new ParallelConfig(settings, { env: {}, host });

const safe = fc.maxSafeInteger();
const spaces = fc.string({
  unit: fc.constantFrom(' ', '\t', '\n', '\r', '\f', '\v', '\x85', '\xa0', '\u2003', '\u2028', '\u3000'),
});
/** A number's digits with leading zeros and single underscores between them. */
const written = fc
  .tuple(safe, fc.nat(3), fc.infiniteStream(fc.boolean()))
  .map(([value, zeros, underscores]) => {
    const digits = ['0'.repeat(zeros), String(Math.abs(value))].join('');
    const text = [...digits]
      .map((digit, i) => (i > 0 && underscores.next().value ? `_${digit}` : digit))
      .join('');
    return { value, text, sign: value < 0 ? '-' : '' };
  });

describe('text to int', () => {
  test('every way to write a number gives the number', () => {
    fc.assert(
      fc.property(
        written,
        spaces,
        spaces,
        fc.nat(3),
        fc.boolean(),
        ({ value, text, sign }, before, after, zeros, plus) => {
          const signed = sign === '' && plus ? '+' : sign;
          const tail = zeros === 0 ? '' : `.${'0'.repeat(zeros)}`;
          expect(toInt(`${before}${signed}${text}${tail}${after}`)).toEqual({ value });
          expect(pythonInt(`${before}${signed}${text}${after}`)).toBe(value);
        },
      ),
    );
  });

  test('what is taken is a whole number within bounds, and never NaN or -0', () => {
    const near = fc.string({
      unit: fc.constantFrom('0', '1', '9', '_', '+', '-', '.', ' ', 'e', '\u00a0', '٣', '\ufeff'),
    });
    fc.assert(
      fc.property(fc.oneof(near, fc.string(), fc.string({ unit: 'binary' })), (text) => {
        const result = toInt(text);
        if ('value' in result) {
          expect(Number.isSafeInteger(result.value) && !Object.is(result.value, -0)).toBe(true);
          expect(text).toMatch(/^\p{White_Space}*[+-]?[0-9][0-9_]*(\.0+)?\p{White_Space}*$/u);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('a sign after the digits, a doubled underscore or a fraction is refused', () => {
    fc.assert(
      fc.property(written, ({ text }) => {
        for (const wrong of [
          `${text}-`,
          `_${text}`,
          `${text}_`,
          `${text}__0`,
          `${text}.`,
          `.${text}`,
          `${text}.1`,
          `${text}e0`,
        ]) {
          expect(toInt(wrong)).toMatchObject({ issues: [{ type: 'int_parsing' }] });
        }
      }),
    );
  });

  test('numbers: whole ones as they are, others refused', () => {
    fc.assert(
      fc.property(fc.double(), (value) => {
        const result = toInt(value);
        if (Number.isSafeInteger(value)) expect(result).toEqual({ value: value + 0 });
        else expect(result).toHaveProperty('issues');
      }),
    );
  });
});

describe('text to bool', () => {
  const words = {
    1: true,
    t: true,
    true: true,
    y: true,
    yes: true,
    on: true,
    0: false,
    f: false,
    false: false,
    n: false,
    no: false,
    off: false,
  };
  test('the words, in any case, and no other text', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.entries(words)),
        fc.infiniteStream(fc.boolean()),
        ([word, value], upper) => {
          const mixed = [...word].map((c) => (upper.next().value ? c.toUpperCase() : c)).join('');
          expect(toBool(mixed)).toEqual({ value });
          expect(toBool(` ${mixed}`)).toHaveProperty('issues');
        },
      ),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect('value' in toBool(text)).toBe(Object.hasOwn(words, text.toLowerCase()));
      }),
    );
  });
});

test('floor division', () => {
  fc.assert(
    fc.property(
      safe,
      safe.filter((b) => b !== 0),
      (a, b) => {
        const quotient = BigInt(floorDivide(a, b));
        const rest = BigInt(floorModulo(a, b));
        expect(quotient * BigInt(b) + rest).toBe(BigInt(a));
        expect(rest === 0n || rest < 0n === b < 0).toBe(true);
        expect(rest < 0n ? -rest : rest).toBeLessThan(BigInt(Math.abs(b)));
      },
    ),
  );
});

const sizes = fc.integer({ min: 1, max: 16 });
const settings = fc.record(
  {
    pipelineParallelSize: sizes,
    tensorParallelSize: sizes,
    prefillContextParallelSize: sizes,
    decodeContextParallelSize: fc.integer(),
    dcpKvCacheInterleaveSize: fc.integer(),
    cpKvCacheInterleaveSize: fc.integer(),
    dataParallelSize: sizes,
    isMoeModel: fc.option(fc.boolean()),
    enableExpertParallel: fc.boolean(),
    eplbConfig: fc.record(
      { windowSize: fc.integer(), stepInterval: fc.integer(), useAsync: fc.boolean() },
      { requiredKeys: [] },
    ),
    expertPlacementStrategy: fc.constantFrom('linear', 'round_robin'),
    all2allBackend: fc.constantFrom('naive', 'pplx', 'deepep_low_latency'),
    enableDbo: fc.boolean(),
    ubatchSize: fc.integer(),
    dboDecodeTokenThreshold: fc.integer(),
    dboPrefillTokenThreshold: fc.integer(),
    disableNcclForDpSynchronization: fc.option(fc.boolean()),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<ParallelConfigInput>;

/** What may differ between ranks. */
const free = fc.record(
  {
    dataParallelRpcPort: fc.integer(),
    masterAddr: fc.string(),
    masterPort: fc.integer(),
    nodeRank: fc.integer(),
    rank: fc.integer(),
    workerCls: fc.string(),
    dataParallelRankLocal: fc.option(fc.integer()),
    dataParallelHybridLb: fc.boolean(),
    disableCustomAllReduce: fc.boolean(),
    distributedExecutorBackend: fc.constantFrom('mp', 'uni', 'a.b.C'),
    _dataParallelMasterPortList: fc.array(fc.integer(), { minLength: 1 }),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<ParallelConfigInput>;

describe('hash', () => {
  test('equal factors, equal digest, whatever may differ between ranks', () => {
    fc.assert(
      fc.property(settings, free, free, (same, mine, yours) => {
        const [a, b] = [make({ ...same, ...mine }), make({ ...yours, ...same })];
        expect(a.hashFactors()).toEqual(b.hashFactors());
        expect(a.computeHash()).toBe(b.computeHash());
        expect(a.computeHash()).toMatch(/^[0-9a-f]{64}$/);
      }),
    );
  });

  test('one changed factor, another digest', () => {
    const { hashed } = parallelSchema();
    fc.assert(
      fc.property(settings, fc.constantFrom(...hashed), (given, name) => {
        const config = make(given);
        const before = config.computeHash();
        const fields = config as unknown as Record<string, unknown>;
        const value = fields[name];
        if (name === 'eplbConfig') config.eplbConfig.windowSize += 1;
        else if (typeof value === 'number') fields[name] = value + 1;
        else if (typeof value === 'boolean') fields[name] = !value;
        else if (value === null) fields[name] = false;
        else fields[name] = `${String(value)}\u{1f600}`;
        expect(config.computeHash()).not.toBe(before);
      }),
    );
  });

  test('the pre-image is ASCII, and JSON for the factors', () => {
    fc.assert(
      fc.property(settings, fc.string({ unit: 'binary' }), (given, text) => {
        const config = make(given);
        config.all2allBackend = text as 'naive';
        const preimage = config.hashPreimage();
        expect(preimage).toMatch(/^[ -\x7f]*$/);
        expect(JSON.parse(preimage)).toEqual(config.hashFactors());
      }),
    );
  });
});

describe('ports', () => {
  test('peeking tells what will be given out; the list comes backwards, then the master port and up', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 65535 }), { minLength: 1, maxLength: 9 }),
        fc.nat(12),
        (list, count) => {
          const config = make({ dataParallelSize: 2, _dataParallelMasterPortList: list });
          const master = list.at(-1) as number;
          const listed = list.slice(0, -1).reverse();
          const expected = Array.from({ length: count }, (_, i) => listed[i] ?? master + i - listed.length);
          expect(config.peekDpInitPorts(count)).toEqual(expected);
          expect(Array.from({ length: count }, () => config.getNextDpInitPort())).toEqual(expected);
        },
      ),
    );
  });

  test('found ports are distinct and clear of those reserved', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 7 }), (count, modulus) => {
        const held = holdPorts(count, (port) => modulus > 1 && port % modulus === 0);
        for (const { release } of held) release();
        const ports = held.map(({ port }) => port);
        expect(new Set(ports).size).toBe(count);
        expect(modulus > 1 && ports.some((port) => port % modulus === 0)).toBe(false);
      }),
      { numRuns: 30 },
    );
  });
});

test('resolving twice gives the same, and never changes the arguments', () => {
  fc.assert(
    fc.property(settings, free, (a, b) => {
      const given = { ...a, ...b };
      const before = structuredClone(given);
      expect(make(given).toSnakeCase()).toEqual(make(given).toSnakeCase());
      expect(given).toEqual(before);
    }),
  );
});
