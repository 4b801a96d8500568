/** What the schemas say about themselves: JSON Schema, and the table of fields for the docs. */
import { eplbSchema } from './eplb-schema.ts';
import { toSnake } from './names.ts';
import { computedNames, parallelSchema } from './parallel-schema.ts';
import { type Zod, zod } from './zod.ts';

export type JsonSchema = Record<string, unknown> & { properties: Record<string, Record<string, unknown>> };

/** Values as they are after conversion: what the lax rules take beyond that is in docs/configuration.md. */
function objectSchema(schema: Zod.ZodObject): JsonSchema {
  const json = zod().toJSONSchema(schema, { io: 'output', unrepresentable: 'any' }) as JsonSchema;
  // Every field has a default.
  delete json['required'];
  delete json['$schema'];
  return { ...json, additionalProperties: false };
}

/** JSON Schema (draft 2020-12) of what a ParallelConfig is made from, by camelCase names. */
export function parallelJsonSchema(): JsonSchema {
  const schema = objectSchema(parallelSchema().input);
  const eplb = objectSchema(eplbSchema());
  const { description } = schema.properties['eplbConfig'] as { description?: string };
  schema.properties['eplbConfig'] = { ...eplb, description };
  const executor = schema.properties['distributedExecutorBackend'] as Record<string, unknown>;
  schema.properties['distributedExecutorBackend'] = { ...executor, type: ['string', 'null'] };
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', title: 'ParallelConfig', ...schema };
}

/** One row of the table of fields. */
export interface FieldRow {
  readonly camel: string;
  readonly snake: string;
  readonly type: string;
  /** As written in TypeScript; undefined where the field is computed. */
  readonly initial: string | undefined;
  readonly hashed: boolean;
  readonly doc: string;
}

export function fieldRows(): { parallel: FieldRow[]; eplb: FieldRow[] } {
  const { fields, hashed } = parallelSchema();
  const all = objectSchema(fields);
  const row = (camel: string, json: Record<string, unknown>, isHashed: boolean): FieldRow => ({
    camel,
    snake: toSnake(camel),
    type: typeOf(camel, json),
    initial: initialOf(camel, json),
    hashed: isHashed,
    doc: String(json['description']),
  });
  return {
    parallel: Object.entries(all.properties).map(([name, json]) => row(name, json, hashed.includes(name))),
    eplb: Object.entries(objectSchema(eplbSchema()).properties).map(([name, json]) => row(name, json, true)),
  };
}

function typeOf(name: string, json: Record<string, unknown>): string {
  if (name === 'eplbConfig') return 'EPLBConfig';
  if (name === 'distributedExecutorBackend') return 'string \\| class \\| null';
  const variants = (json['anyOf'] as Record<string, unknown>[] | undefined) ?? [json];
  const one = (variant: Record<string, unknown>) => {
    if (Array.isArray(variant['enum'])) return variant['enum'].map((value) => `\`${value}\``).join(' \\| ');
    if (variant['type'] === 'array') return 'integer[]';
    const bound =
      variant['exclusiveMinimum'] !== undefined && Number(variant['exclusiveMinimum']) > -(2 ** 53) + 1
        ? ` > ${variant['exclusiveMinimum']}`
        : variant['minimum'] !== undefined && Number(variant['minimum']) > -(2 ** 53) + 1
          ? ` >= ${variant['minimum']}`
          : '';
    return `${[variant['type'] ?? 'anything'].flat().join(' \\| ')}${bound}`;
  };
  return variants.map(one).join(' \\| ');
}

function initialOf(name: string, json: Record<string, unknown>): string | undefined {
  if ((computedNames as readonly string[]).includes(name)) return undefined;
  if (name === 'eplbConfig') return 'all defaults';
  if (name === '_dataParallelMasterPortList') return '[]';
  const value = json['default'];
  return typeof value === 'string' ? `'${value}'` : JSON.stringify(value);
}
