// Makes a JSON Schema of schema.ts and holds the dashboards against it.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Ajv from 'ajv';
import * as TJS from 'typescript-json-schema';

const here = path.dirname(fileURLToPath(import.meta.url));
const program = TJS.getProgramFromFiles([path.join(here, 'schema.ts')], {
  strictNullChecks: true,
  skipLibCheck: true,
  moduleResolution: 'node',
  module: 'esnext',
  target: 'es2022',
  types: [],
});
const schema = TJS.generateSchema(program, 'OurDashboard', { required: true, noExtraProps: true, ignoreErrors: true });
if (!schema?.properties?.panels?.items?.anyOf) {
  throw new Error('no schema could be made of schema.ts');
}

// A Record comes as an object without any property: it may have all, of one type.
for (const [name, definition] of Object.entries(schema.definitions)) {
  const of = name.match(/^Record<string,(.*)>$/)?.[1];
  if (of) {
    definition.additionalProperties = schema.definitions[of] ? { $ref: `#/definitions/${of}` } : true;
  }
}

const ajv = new Ajv({ allErrors: true, strict: false, logger: false });
const valid = ajv.compile(schema);

// complaints of one dashboard. A panel is held against the type that it says it
// is, so that the other types' complaints do not drown it out.
function complaints(dashboard) {
  valid({ ...dashboard, panels: [] });
  const found = (valid.errors ?? []).map((e) => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
  dashboard.panels.forEach((panel) => {
    if (!panelTypes[panel.type]) {
      found.push(`panel "${panel.title}": no schema of a ${panel.type}`);
    } else if (!panelTypes[panel.type](panel)) {
      found.push(...panelTypes[panel.type].errors.map((e) => `panel "${panel.title}" ${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`));
    }
  });
  return found;
}

const panelTypes = Object.fromEntries(
  schema.properties.panels.items.anyOf.map((one) => {
    const definition = one.$ref ? schema.definitions[decodeURIComponent(one.$ref.slice('#/definitions/'.length))] : one;
    const type = definition.properties.type;
    return [type.const ?? type.enum[0], ajv.compile({ ...one, definitions: schema.definitions })];
  })
);

const directory = path.join(here, '..', 'dashboards');
const files = fs.readdirSync(directory);
let failed = files.length === 0;
for (const file of files) {
  const dashboard = JSON.parse(fs.readFileSync(path.join(directory, file), 'utf8'));
  const found = complaints(dashboard);
  found.forEach((complaint) => console.error(`${file}: ${complaint}`));
  console.log(`${file}: ${found.length === 0 ? 'valid' : `${found.length} complaints`}, ${dashboard.panels.length} panels`);
  failed ||= found.length > 0;

  // A schema that lets everything pass is no check: each of these must be found.
  const breaks = {
    'no title type': (d) => (d.title = 1),
    'unknown field': (d) => (d.inputs = []),
    'unknown variable type': (d) => (d.templating.list[0].type = 'source'),
    'unknown panel type': (d) => (d.panels[0].type = 'singlestat'),
    'unknown option': (d) => (d.panels[0].options.valueMode = 'x'),
    'unknown value of an option': (d) => (d.panels[0].options.colorMode = 'rainbow'),
    'a unit that is no text': (d) => (d.panels[0].fieldConfig.defaults.unit = 3),
    'a threshold without colour': (d) => delete d.panels[0].fieldConfig.defaults.thresholds.steps[0].color,
    'no expression': (d) => delete d.panels[0].targets[0].expr,
    'custom of a graph': (d) => (d.panels.find((p) => p.type === 'timeseries').fieldConfig.defaults.custom.drawStyle = 'dots'),
    'custom of a table': (d) => (d.panels.find((p) => p.type === 'table').fieldConfig.defaults.custom.align = 'middle'),
  };
  for (const [name, spoil] of Object.entries(breaks)) {
    const spoiled = structuredClone(dashboard);
    spoil(spoiled);
    if (complaints(spoiled).length <= found.length) {
      console.error(`${file}: the check does not notice: ${name}`);
      failed = true;
    }
  }
}
process.exit(failed ? 1 : 0);
