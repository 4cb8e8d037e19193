// Asks a Prometheus what each panel asks, and takes pictures of the dashboards:
//   node render.js http://127.0.0.1:9090 SCRAPE_SECONDS DIRECTORY
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import esbuild from 'esbuild';

const here = path.dirname(fileURLToPath(import.meta.url));
const [prometheus, scrape, out] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const width = Number(process.env.WIDTH ?? 1600);
const minutes = Number(process.env.MINUTES ?? 10);
const themes = (process.env.THEMES ?? 'dark').split(',');
const chromium = process.env.CHROMIUM ?? 'chromium';

const run = promisify(execFile);
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'pictures-'));
process.on('exit', () => fs.rmSync(work, { recursive: true, force: true }));

await esbuild.build({
  entryPoints: [path.join(here, 'page.jsx')],
  outfile: path.join(work, 'page.js'),
  bundle: true,
  mainFields: ['browser', 'main', 'module'],
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl', '.png': 'dataurl', '.ttf': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  logLevel: 'error',
});

async function ask(path, parameters) {
  const response = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = await response.json();
  if (body.status !== 'success') {
    throw new Error(`${parameters.query}: ${body.error}`);
  }
  return body.data;
}

// What Grafana serves beside its program: icons, and its font. A browser fetches no icon
// from a file, so all of the page comes from here.
const modules = path.join(here, 'node_modules');
function file(url) {
  if (url.startsWith('/public/build/img/icons/')) {
    return path.join(modules, '@grafana/ui/dist', url.replace('/public/build', '/public'));
  }
  if (url.startsWith('/public/fonts/inter/')) {
    return path.join(modules, '@fontsource-variable/inter/files/inter-latin-wght-normal.woff2');
  }
  return path.join(work, path.basename(url));
}
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
const server = http.createServer((request, response) => {
  const name = file(new URL(request.url, 'http://localhost').pathname);
  fs.readFile(name, (error, content) => {
    response.writeHead(error ? 404 : 200, { 'Content-Type': types[path.extname(name)] ?? 'application/octet-stream' });
    response.end(content);
  });
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const address = `http://127.0.0.1:${server.address().port}`;

const to = Date.now();
const range = { from: to - minutes * 60_000, to };
const seconds = minutes * 60;

async function answers(dashboard) {
  const all = async (label) => `(${(await ask(`label/${label}/values`, { 'match[]': 'ncp_exporter_build_info' })).map((v) => v.replace(/[.]/g, '\\\\.')).join('|')})`;
  const variables = { job: await all('job'), instance: await all('instance'), account: '.*', subject: '.*' };
  const found = {};
  for (const panel of dashboard.panels.filter((p) => p.targets)) {
    found[panel.id] = {};
    // As Grafana does: about as many steps as there are pixels, none shorter
    // than the scrape interval.
    const step = Math.max(scrape, Math.ceil(seconds / ((width * panel.gridPos.w) / 24)));
    for (const target of panel.targets) {
      const query = target.expr
        .replaceAll('$__rate_interval', `${Math.max(step + scrape, 4 * scrape)}s`)
        .replaceAll('$__range_s', seconds)
        .replaceAll('$__range', `${seconds}s`)
        .replace(/\$(job|instance|account|subject)\b/g, (_, name) => variables[name]);
      const data = target.instant
        ? await ask('query', { query, time: to / 1000 })
        : await ask('query_range', { query, start: Math.floor(range.from / 1000 / step) * step, end: Math.floor(to / 1000 / step) * step, step });
      found[panel.id][target.refId] = { result: data.result, step };
      if (data.result.length === 0) {
        console.log(`${dashboard.title}: ${panel.title}: ${target.refId} has no answer`);
      }
    }
  }
  return found;
}

// The annotations of a dashboard, as the Prometheus data source makes them: steps that are
// no longer apart than the step of the query become one, from its first to its last time.
async function annotations(dashboard) {
  const events = [];
  for (const { expr, step: text, useValueForTime, iconColor } of dashboard.annotations.list.filter((a) => a.expr)) {
    // The data source makes the step longer where Prometheus would refuse the number of steps.
    const step = Math.max(text.endsWith('m') ? parseInt(text, 10) * 60 : parseInt(text, 10), Math.ceil(seconds / 11_000));
    const { result } = await ask('query_range', { query: expr, start: Math.floor(range.from / 1000 / step) * step, end: Math.floor(to / 1000 / step) * step, step });
    for (const { values } of result) {
      let open;
      for (const [time, value] of values) {
        const at = useValueForTime ? Math.floor(parseFloat(value)) : time * 1000;
        if (open && open.end + step * 1000 >= at) {
          open.end = at;
        } else {
          events.push((open = { begin: at, end: at, color: iconColor }));
        }
      }
    }
  }
  return events;
}

const directory = path.join(here, '..', 'dashboards');
for (const file of fs.readdirSync(directory)) {
  const dashboard = JSON.parse(fs.readFileSync(path.join(directory, file), 'utf8'));
  const answered = await answers(dashboard);
  const marks = await annotations(dashboard);
  const runbooks = dashboard.templating.list.find((v) => v.name === 'runbooks').query;
  for (const theme of themes) {
    const picture = { dashboard, answers: answered, marks, range, theme, variables: { runbooks } };
    fs.writeFileSync(
      path.join(work, 'page.html'),
      `<!doctype html><meta charset="utf-8">
<style>body { margin: 0 } ::-webkit-scrollbar { display: none }</style><link rel="stylesheet" href="page.css">
<body><div id="root"></div><script>window.picture = ${JSON.stringify(picture).replace(/</g, '\\u003c')}; window.__grafana_public_path__ = "/public/";</script><script src="page.js"></script>`
    );
    const rows = Math.max(...dashboard.panels.map((p) => p.gridPos.y + p.gridPos.h));
    const name = path.join(out, `dashboard-${dashboard.uid.replace(/^ncp-/, '')}${theme === 'dark' ? '' : `-${theme}`}${width === 1600 ? '' : `-${width}`}.png`);
    const { stderr } = await run(chromium, [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--hide-scrollbars', `--user-data-dir=${path.join(work, 'profile')}`,
      `--window-size=${width},${104 + rows * 38 + 8}`, '--virtual-time-budget=10000', `--screenshot=${path.resolve(name)}`, `${address}/page.html`,
    ]);
    if (process.env.VERBOSE) {
      console.log(stderr);
    }
    try {
      await run('pngquant', ['--force', '--skip-if-larger', '--ext', '.png', '--strip', '128', path.resolve(name)]);
    } catch {
      console.log('pngquant is not there, or makes it no smaller: the picture stays as it is');
    }
    console.log(`${name}: ${Math.round(fs.statSync(name).size / 1024)} KiB`);
  }
}
server.close();
