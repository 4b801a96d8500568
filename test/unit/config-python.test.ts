import { describe, expect, test } from 'vitest';
import {
  asciiJson,
  floorDivide,
  floorModulo,
  intLiteralMessage,
  isPlainObject,
  isTruthy,
  pythonInt,
  pythonRepr,
} from '../../src/config/python.ts';

// Every expectation here was taken from CPython 3.11.
describe('int(text)', () => {
  test.each([
    ['0', 0],
    ['00', 0],
    ['-0', 0],
    ['+3', 3],
    [' 1_0 ', 10],
    ['\t\n\v\f\r 7\r', 7],
    ['\u00855', 5],
    ['\u00a05\u3000', 5],
    ['\u20285', 5],
    ['٣', 3],
    ['1٣', 13],
    ['+٣', 3],
    ['５', 5],
    ['𝟗𝟙', 91],
    ['-007', -7],
    ['9007199254740991', 9007199254740991],
  ])('%j', (text, value) => {
    expect(pythonInt(text)).toBe(value);
  });

  test.each([
    '',
    ' ',
    '+',
    '-',
    '+-1',
    '- 2',
    '1.0',
    '1.',
    '.5',
    '1e3',
    '0x10',
    '0b1',
    '_1',
    '1_',
    '1__1',
    '1 0',
    'two',
    '\x1c5',
    '5\x1f',
    '\u0663\x1c',
    '\ufeff5',
    '\u180e5',
    '\u200b5',
    '1\0',
    '½',
    '²',
    '一',
  ])('%j is none', (text) => {
    expect(pythonInt(text)).toBeNaN();
  });
});

describe('repr(text)', () => {
  test.each([
    ['two', "'two'"],
    ['', "''"],
    ["it's", '"it\'s"'],
    ['"', "'\"'"],
    ['\'"', "'\\'\"'"],
    ['\\', "'\\\\'"],
    ['\n\t\r', "'\\n\\t\\r'"],
    ['\0\x7f\x80\xa0\xad', "'\\x00\\x7f\\x80\\xa0\\xad'"],
    ['é工', "'é工'"],
    ['\u200b\u3000', "'\\u200b\\u3000'"],
    ['😀', "'😀'"],
    ['\ud800', "'\\ud800'"],
    ['\u{e0001}', "'\\U000e0001'"],
  ])('%j', (text, printed) => {
    expect(pythonRepr(text)).toBe(printed);
  });

  test('int() shows at most 200 characters of it', () => {
    const prefix = 'invalid literal for int() with base 10: ';
    expect(intLiteralMessage('x')).toBe(`${prefix}'x'`);
    expect(intLiteralMessage('x'.repeat(300))).toBe(`${prefix}'${'x'.repeat(199)}`);
    expect(intLiteralMessage('x'.repeat(198))).toBe(`${prefix}'${'x'.repeat(198)}'`);
  });
});

test.each([
  [7, 2, 3, 1],
  [-7, 2, -4, 1],
  [7, -2, -4, -1],
  [-7, -2, 3, -1],
  [-1, 2, -1, 1],
  [0, -5, 0, 0],
  [-4, 2, -2, 0],
  [9007199254740991, 2, 4503599627370495, 1],
  [-9007199254740991, 2, -4503599627370496, 1],
  [9007199254740991, -1, -9007199254740991, 0],
  [1, 9007199254740991, 0, 1],
  [-1, 9007199254740991, -1, 9007199254740990],
  [8402119014135295, -1400353169022549, -7, -1400353169022548],
  [8402119014135296, -1400353169022549, -7, -1400353169022547],
])('%d // %d', (a, b, quotient, remainder) => {
  expect(floorDivide(a, b)).toBe(quotient);
  expect(floorModulo(a, b)).toBe(remainder);
});

test('truth as in Python', () => {
  for (const value of [null, undefined, false, 0, -0, '', [], {}, 0n, new Map(), new Set()]) {
    expect(isTruthy(value), String(value)).toBe(false);
  }
  for (const value of [
    true,
    1,
    -1,
    Number.NaN,
    ' ',
    '0',
    [0],
    { a: undefined },
    new Map([[1, 1]]),
    new Date(0),
    () => 0,
  ]) {
    expect(isTruthy(value), String(value)).toBe(true);
  }
});

test('plain objects', () => {
  expect([{}, Object.create(null), JSON.parse('{"__proto__": 1}')].every(isPlainObject)).toBe(true);
  const others = [
    null,
    [],
    new Map(),
    new Date(),
    new (class {})(),
    Object.create({}),
    'x',
    () => 0,
    Object.prototype,
  ];
  expect(others.filter(isPlainObject)).toEqual([Object.prototype]);
});

test('JSON in ASCII', () => {
  expect(asciiJson('a"\\\b\f\n\r\t\x01\x7f')).toBe('"a\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f"');
  expect(asciiJson('工é\u2028😀\ud800')).toBe('"\\u5de5\\u00e9\\u2028\\ud83d\\ude00\\ud800"');
});
