import { describe, expect, test } from 'vitest';
import { isClass, toBool, toExecutorBackend, toInt, toIntList, toLiteral } from '../../src/config/convert.ts';
import { eplbSchema } from '../../src/config/eplb-schema.ts';
import { ConfigValidationError } from '../../src/config/errors.ts';
import type { HostFacts } from '../../src/config/host.ts';
import { parallelSchema } from '../../src/config/parallel-schema.ts';
import { ParallelConfig } from '../../src/group/parallel-config.ts';

const typeOf = (result: ReturnType<typeof toInt> | ReturnType<typeof toBool>) =>
  'value' in result ? 'value' : result.issues.map((issue) => issue.type).join();

// Expectations of both tables were taken from pydantic 2.13.
describe('int', () => {
  test.each([
    [' +4 ', 4],
    ['1_0', 10],
    ['007', 7],
    ['3.00', 3],
    ['1_0.0', 10],
    ['-0.0', 0],
    ['0_1', 1],
    ['-1_0', -10],
    ['\u00a05\u00a0', 5],
    ['\u20285', 5],
    ['\u00855', 5],
    ['\u30005', 5],
    ['\v5\f', 5],
    ['5.0 ', 5],
    [true, 1],
    [false, 0],
    [2.0, 2],
    [-0, 0],
    [5n, 5],
    ['9007199254740991', 9007199254740991],
  ])('%s', (input, value) => {
    expect(toInt(input)).toEqual({ value });
  });

  test.each([
    ...[
      '',
      ' ',
      '+',
      '1.',
      '.0',
      '1.5',
      '1e3',
      '0x10',
      '1__0',
      '_1',
      '1_',
      '1_.0',
      '1.0_0',
      '- 2',
      '--1',
      '+-1',
      '1 0',
      '5 .0',
      '1\0',
      '\ufeff5',
      '\u180e5',
      '\u200b5',
      '\x1c5',
      '\x1f5',
      '٣',
      '１',
      'two',
      'None',
      '+_1',
    ].map((text) => [text, 'int_parsing'] as const),
    [1.5, 'int_from_float'],
    [-2.5, 'int_from_float'],
    [Number.POSITIVE_INFINITY, 'finite_number'],
    [Number.NEGATIVE_INFINITY, 'finite_number'],
    [Number.NaN, 'finite_number'],
    [2 ** 53, 'int_parsing_size'],
    [2n ** 53n, 'int_parsing_size'],
    ['9007199254740993', 'int_parsing_size'],
    ['9'.repeat(5000), 'int_parsing_size'],
    ['5\ud800', 'string_unicode'],
    [null, 'int_type'],
    [undefined, 'int_type'],
    [[1], 'int_type'],
    [{}, 'int_type'],
    [Symbol('1'), 'int_type'],
    [new Date(1), 'int_type'],
  ] as const)('%s is refused as %s', (input, type) => {
    expect(typeOf(toInt(input))).toBe(type);
  });
});

describe('bool', () => {
  test('words in any case of letters, and the numbers 0 and 1', () => {
    for (const word of ['1', 't', 'y', 'yes', 'on', 'true']) {
      for (const text of [word, word.toUpperCase(), word[0]?.toUpperCase() + word.slice(1)]) {
        expect(toBool(text), text).toEqual({ value: true });
      }
    }
    for (const text of ['0', 'f', 'F', 'n', 'no', 'NO', 'off', 'Off', 'false', 'FaLsE']) {
      expect(toBool(text), text).toEqual({ value: false });
    }
    expect([true, 1, 1n].map(toBool)).toEqual(Array(3).fill({ value: true }));
    expect([false, 0, -0, 0n].map(toBool)).toEqual(Array(4).fill({ value: false }));
  });

  test.each([
    [2, 'bool_parsing'],
    [-1, 'bool_parsing'],
    [2 ** 62, 'bool_parsing'],
    ['', 'bool_parsing'],
    [' true', 'bool_parsing'],
    ['off ', 'bool_parsing'],
    ['2', 'bool_parsing'],
    ['truee', 'bool_parsing'],
    ['ＹＥＳ', 'bool_parsing'],
    ['1.0', 'bool_parsing'],
    ['\ud800', 'string_unicode'],
    [0.5, 'bool_type'],
    [1e20, 'bool_type'],
    [Number.NaN, 'bool_type'],
    [null, 'bool_type'],
    [[], 'bool_type'],
    [{}, 'bool_type'],
    [() => true, 'bool_type'],
  ] as const)('%s is refused as %s', (input, type) => {
    expect(typeOf(toBool(input))).toBe(type);
  });
});

test('literals list their names', () => {
  const issue = (names: string[], value: unknown) => {
    const result = toLiteral(names)(value);
    return 'issues' in result ? result.issues[0]?.msg : result.value;
  };
  expect(issue(['a'], 'b')).toBe("Input should be 'a'");
  expect(issue(['a', 'b'], 'A')).toBe("Input should be 'a' or 'b'");
  expect(issue(['a', 'b', 'c'], null)).toBe("Input should be 'a', 'b' or 'c'");
  expect(issue(['a', 'b'], 'b')).toBe('b');
});

test('a list is copied and tells each wrong item', () => {
  const given = ['7000', 7001.0, true];
  const made = toIntList(given);
  expect(made).toEqual({ value: [7000, 7001, 1] });
  const ints = [1, 2];
  expect((toIntList(ints) as { value: number[] }).value).not.toBe(ints);
  const wrong = toIntList([1, 'x', null, [2]]);
  expect('issues' in wrong && wrong.issues.map(({ path, type }) => [path, type])).toEqual([
    [[1], 'int_parsing'],
    [[2], 'int_type'],
    [[3], 'int_type'],
  ]);
  for (const other of ['7000', 5, true, {}, null, new Set([1]), new Uint8Array(1)]) {
    expect(toIntList(other), String(other)).toMatchObject({ issues: [{ type: 'list_type' }] });
  }
  // biome-ignore lint/suspicious/noSparseArray: the hole is what is tested
  expect(toIntList([, 1])).toMatchObject({ issues: [{ path: [0], type: 'int_type' }] });
});

test('an executor is any text or any class', () => {
  class Mine {}
  for (const value of ['', 'ray', 'a.b.C', '\ud800', Mine])
    expect(toExecutorBackend(value)).toEqual({ value });
  for (const value of [5, 0, true, [], ['ray'], {}, () => 0, undefined, Symbol('ray')]) {
    expect(toExecutorBackend(value)).toMatchObject({ issues: [{}, {}, {}] });
  }
  expect(isClass(async () => {})).toBe(false);
  expect(isClass(function* () {})).toBe(false);
  expect(isClass({ method() {} }.method)).toBe(false);
});

describe('every field, with values of every kind', () => {
  const values = [
    null,
    true,
    0,
    1,
    2,
    -5,
    1.5,
    2 ** 60,
    Number.NaN,
    '',
    'x',
    '7',
    'yes',
    '\ud800',
    [],
    [1],
    ['x'],
    {},
    { a: 1 },
    5n,
    () => 0,
    class {},
    Symbol('s'),
    new Date(),
    new Map(),
  ];
  const types = new Set([
    'int_type',
    'int_parsing',
    'int_from_float',
    'finite_number',
    'int_parsing_size',
    'bool_type',
    'bool_parsing',
    'string_type',
    'string_unicode',
    'literal_error',
    'list_type',
    'dataclass_type',
    'greater_than',
    'greater_than_equal',
    'is_type',
    'value_error',
  ]);
  const host: HostFacts = {
    platform: 'cpu',
    deviceCount: 0,
    distBackend: 'gloo',
    customAllReduce: false,
    rayAvailable: true,
    rayRunning: false,
    inPlacementGroup: false,
    batchInvariant: false,
    openPorts: () => [1, 2, 3, 4, 5],
  };
  const problems = (settings: object) => {
    try {
      ParallelConfig.fromSnakeCase(settings as Record<string, unknown>, {
        env: {},
        host,
        onWarning: () => {},
      });
      return [];
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigValidationError);
      return (error as ConfigValidationError).errors;
    }
  };
  const walk = (snake: string, wrap: (value: unknown) => object) => {
    for (const value of values) {
      for (const { type, msg } of problems(wrap(value))) {
        expect(types, `${snake} ${type} ${msg}`).toContain(type);
        expect(msg).toMatch(/^(Input should|Unable to parse|Value error, )/);
      }
    }
  };
  test.each([...parallelSchema().inputNames.camelOf.keys()])('%s', (snake) =>
    walk(snake, (value) => ({ [snake]: value })),
  );
  test.each(Object.keys(eplbSchema().shape))('eplb_config: %s', (camel) => {
    const snake = camel.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
    walk(snake, (value) => ({ eplb_config: { [snake]: value } }));
  });
});
