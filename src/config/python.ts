/** Python's reading and printing of values, as far as configuration shows them to a user. */

/**
 * The decimal value of a digit of any script, or -1. Unicode keeps each script's ten digits together, 0
 * first.
 */
function digitValue(character: string): number {
  if (!/^\p{Nd}$/u.test(character)) return -1;
  const code = character.codePointAt(0) as number;
  let zero = code;
  while (/^\p{Nd}$/u.test(String.fromCodePoint(zero - 1))) zero -= 1;
  return (code - zero) % 10;
}

const asciiInt = /^[+-]?\d+(?:_\d+)*$/;

/**
 * `int(text)`: white space around it, a sign, and single underscores between digits are fine.
 *
 * @returns NaN where Python raises ValueError. Beyond 2^53 the number is the nearest double.
 */
export function pythonInt(text: string): number {
  let plain = text;
  if (/[^\0-\x7f]/.test(text)) {
    // Only then does Python know other scripts' digits and white space.
    plain = [...text].map((c) => (/[\x80-\u{10ffff}]/u.test(c) ? asAscii(c) : c)).join('');
  }
  // Unlike String.trim(), int() takes only these six for white space once the text is ASCII.
  plain = plain.replace(/^[\t-\r ]+/, '').replace(/[\t-\r ]+$/, '');
  return asciiInt.test(plain) ? Number(plain.replaceAll('_', '')) + 0 : Number.NaN;
}

function asAscii(character: string): string {
  if (/[\p{Zs}\u2028\u2029\x85]/u.test(character)) return ' ';
  const value = digitValue(character);
  return value < 0 ? '?' : String(value);
}

/** `repr(text)`: single quotes where possible, what cannot be printed as an escape. */
export function pythonRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = quote;
  for (const character of text) out += escaped(character, quote);
  return out + quote;
}

const named: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string, quote: string): string {
  if (character === quote) return `\\${quote}`;
  if (Object.hasOwn(named, character)) return named[character] as string;
  if (character === ' ' || !/[\p{C}\p{Z}]/u.test(character)) return character;
  const code = character.codePointAt(0) as number;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, '0')}`;
  return `\\U${code.toString(16).padStart(8, '0')}`;
}

/** What `int(text)` says when it refuses; it shows at most 200 characters of the text's repr. */
export function intLiteralMessage(text: string): string {
  return `invalid literal for int() with base 10: ${[...pythonRepr(text)].slice(0, 200).join('')}`;
}

/** `a // b`, rounded towards minus infinity. The divisor is not 0. */
export function floorDivide(a: number, b: number): number {
  // The remainder is exact, and so is what is left for dividing; the quotient of two large numbers is not.
  const rest = a % b;
  const quotient = (a - rest) / b;
  return (rest !== 0 && rest < 0 !== b < 0 ? quotient - 1 : quotient) + 0;
}

/** `a mod b` with the divisor's sign. The divisor is not 0. */
export function floorModulo(a: number, b: number): number {
  const rest = a % b;
  return (rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest) + 0;
}

/** An object as written with braces or read from JSON: what a dictionary is in Python. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Object.prototype of any realm has no prototype itself.
  return (
    prototype === null ||
    (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, 'isPrototypeOf'))
  );
}

/** Python's `bool(value)`: empty containers are false, also the empty object. */
export function isTruthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map || value instanceof Set) return value.size > 0;
  if (isPlainObject(value)) return Object.keys(value).length > 0;
  return Number.isNaN(value) || Boolean(value);
}

/** A text as `json.dumps` writes it: ASCII only. */
export function asciiJson(text: string): string {
  return JSON.stringify(text).replace(
    /[\x80-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
