// Draws one dashboard from its JSON and the answers to its queries (window.picture,
// made by render.js) with the components that Grafana itself draws panels with.
const React = require('react');
const { createRoot } = require('react-dom/client');
const { BrowserRouter } = require('react-router-dom');
const data = require('@grafana/data');
const ui = require('@grafana/ui');
const { TableNG } = require('@grafana/ui/unstable');
const { initPluginTranslations } = require('@grafana/i18n');
const { firstValueFrom } = require('rxjs');

const { dashboard, answers, marks, range, theme: mode, variables } = window.picture;
const theme = data.createTheme({ colors: { mode } });
const timeRange = {
  from: data.dateTime(range.from),
  to: data.dateTime(range.to),
  raw: { from: data.dateTime(range.from), to: data.dateTime(range.to) },
};

// Grafana registers what can be set of a field in its own code, which no package
// has: the properties below are those that the dashboards set.
const registry = new data.FieldConfigOptionsRegistry(() => {
  const item = (id, path, isCustom) => ({
    id,
    path,
    name: id,
    isCustom,
    process: (value) => value,
    shouldApply: () => true,
    settings: {},
  });
  return [
    ...['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'mappings', 'links', 'color'].map((id) => item(id, id, false)),
    {
      ...item('thresholds', 'thresholds', false),
      // JSON has no -Infinity: null stands for it.
      process: (t) => t && { ...t, steps: t.steps.map((s) => ({ ...s, value: s.value ?? -Infinity })) },
    },
    ...[
      'cellOptions', 'wrapText', 'width', 'align', 'inspect', 'filterable', 'drawStyle', 'lineWidth', 'fillOpacity', 'showPoints', 'spanNulls', 'gradientMode',
      'lineInterpolation', 'axisPlacement', 'axisLabel', 'stacking', 'thresholdsStyle', 'lineStyle', 'axisSoftMin', 'axisSoftMax',
    ].map((id) => item(`custom.${id}`, id, true)),
  ];
});

const transformers = new Map(Object.values(data.standardTransformers).map((t) => [t.id, t]));
data.standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((t) => ({ id: t.id, name: t.name, aliasIds: t.aliasIds, transformation: () => Promise.resolve(t) }))
);

const { FieldType } = data;

// The frames that the Prometheus data source makes of an answer.
function frames(panel) {
  const made = [];
  for (const target of panel.targets) {
    const { result, step } = answers[panel.id][target.refId];
    if (target.format === 'table') {
      const labels = [...new Set(result.flatMap((r) => Object.keys(r.metric)))].sort();
      const field = (name, type, values) => ({ name, type, config: {}, values });
      made.push({
        refId: target.refId,
        length: result.length,
        fields: [
          field('Time', FieldType.time, result.map((r) => r.value[0] * 1000)),
          ...labels.map((l) => field(l, FieldType.string, result.map((r) => r.metric[l] ?? ''))),
          field(panel.targets.length > 1 ? `Value #${target.refId}` : 'Value', FieldType.number, result.map((r) => parseFloat(r.value[1]))),
        ],
      });
      continue;
    }
    for (const r of result) {
      const samples = r.values ?? [r.value];
      const legend = target.legendFormat?.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, l) => r.metric[l] ?? '');
      made.push({
        refId: target.refId,
        length: samples.length,
        fields: [
          { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: samples.map((s) => s[0] * 1000) },
          { name: 'Value', type: FieldType.number, labels: r.metric, config: { displayNameFromDS: legend }, values: samples.map((s) => parseFloat(s[1])) },
        ],
      });
    }
  }
  // One answer without rows is handed on as it is: no fields, no table.
  return panel.targets.length === 1 && made.every((f) => f.length === 0) ? [] : made;
}

const replaceVariables = (text) => Object.entries(variables).reduce((t, [k, v]) => t.replaceAll(`\${${k}}`, v), text);

async function prepare(panel) {
  const series = await firstValueFrom(data.transformDataFrame(panel.transformations ?? [], frames(panel)));
  const shown = data.applyFieldOverrides({
    data: series,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry,
    replaceVariables,
    theme,
    timeZone: 'utc',
  });
  data.cacheFieldDisplayNames(shown);
  return shown;
}

function Nothing({ panel }) {
  return (
    <div style={{ height: '100%', display: 'flex', alignItems: 'center', justifyContent: 'center', textAlign: 'center', color: theme.colors.text.secondary, fontSize: theme.typography.size.lg }}>
      {panel.fieldConfig.defaults.noValue ?? 'No data'}
    </div>
  );
}

function Stat({ panel, series, width, height }) {
  const o = panel.options;
  return (
    <ui.VizRepeater
      getValues={() =>
        data.getFieldDisplayValues({ fieldConfig: panel.fieldConfig, reduceOptions: o.reduceOptions, replaceVariables, theme, data: series, sparkline: false, timeZone: 'utc' })
      }
      getAlignmentFactors={data.getDisplayValueAlignmentFactors}
      renderValue={({ value, width: w, height: h, alignmentFactors, count }) => (
        <ui.BigValue value={value.display} colorMode={o.colorMode} graphMode={o.graphMode} justifyMode={o.justifyMode} textMode={o.textMode} wideLayout={o.wideLayout} alignmentFactors={alignmentFactors} width={w} height={h} theme={theme} count={count} />
      )}
      width={width}
      height={height}
      source={series}
      renderCounter={0}
      autoGrid
      orientation={o.orientation}
    />
  );
}

function Table({ panel, series, width, height }) {
  if (!series.some((f) => f.fields.length > 0)) {
    return <Nothing panel={panel} />;
  }
  return (
    <TableNG data={series[0]} width={width} height={height} noHeader={!panel.options.showHeader} sortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} fieldConfig={panel.fieldConfig} noValue={panel.fieldConfig.defaults.noValue} timeRange={timeRange} structureRev={1} resizable enableVirtualization={false} />
  );
}

// Annotations, as Grafana draws them: a dashed line with a small triangle below it, and a
// region from one line to another where an annotation lasts.
function Marks({ config }) {
  React.useLayoutEffect(() => {
    config.addHook('draw', (u) => {
      const { ctx, bbox } = u;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height + 10);
      ctx.clip();
      for (const { begin, end, color } of marks) {
        const [from, to] = [u.valToPos(begin, 'x', true), u.valToPos(end, 'x', true)];
        ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(color);
        ctx.lineWidth = 2;
        ctx.setLineDash([5, 5]);
        for (const x of new Set([from, to])) {
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        if (end > begin) {
          ctx.globalAlpha = 0.1;
          ctx.fillRect(from, bbox.top, to - from, bbox.height);
          ctx.globalAlpha = 1;
        } else {
          ctx.beginPath();
          ctx.moveTo(from - 5, bbox.top + bbox.height + 8);
          ctx.lineTo(from + 5, bbox.top + bbox.height + 8);
          ctx.lineTo(from, bbox.top + bbox.height);
          ctx.fill();
        }
      }
      ctx.restore();
    });
  }, [config]);
  return null;
}

function Graph({ panel, series, width, height }) {
  if (series.length === 0) {
    return <Nothing panel={panel} />;
  }
  return (
    <ui.TimeSeries frames={series} structureRev={1} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options} tweakAxis={(a) => a} tweakScale={(s) => s} theme={theme}>
      {(config) => <Marks config={config} />}
    </ui.TimeSeries>
  );
}

const kinds = { stat: Stat, table: Table, timeseries: Graph };
const cell = { width: window.innerWidth - 32, row: 38, gap: 8 };

function place({ x, y, w, h }) {
  const column = (cell.width + cell.gap) / 24;
  return { position: 'absolute', left: 16 + x * column, top: 104 + y * cell.row, width: w * column - cell.gap, height: h * cell.row - cell.gap };
}

function Panel({ panel, series }) {
  const box = place(panel.gridPos);
  if (panel.type === 'row') {
    return (
      <div style={{ ...box, display: 'flex', alignItems: 'center', gap: 6, ...theme.typography.h6 }}>
        <ui.Icon name="angle-down" /> {panel.title}
      </div>
    );
  }
  const Kind = kinds[panel.type];
  return (
    <div style={box}>
      <ui.PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(width, height) => <Kind panel={panel} series={series} width={width} height={height} />}
      </ui.PanelChrome>
    </div>
  );
}

function Head() {
  const box = { border: `1px solid ${theme.colors.border.medium}`, borderRadius: theme.shape.radius.default, padding: '5px 8px', background: theme.components.input.background };
  const label = { ...box, background: theme.colors.background.secondary, borderRight: 0 };
  return (
    <div style={{ position: 'absolute', left: 16, right: 16, top: 12 }}>
      <div style={{ ...theme.typography.h4, marginBottom: 12 }}>{dashboard.title}</div>
      <div style={{ display: 'flex', gap: 12, fontSize: 13 }}>
        {dashboard.templating.list.filter((v) => !v.hide).map((v) => (
          <div key={v.name} style={{ display: 'flex' }}>
            <span style={label}>{v.label}</span>
            <span style={box}>{v.type === 'datasource' ? 'Prometheus' : 'All'} <ui.Icon name="angle-down" size="sm" /></span>
          </div>
        ))}
        <span style={{ flex: 1 }} />
        {dashboard.links.map((l) => (
          <span key={l.title} style={box}><ui.Icon name={l.icon === 'doc' ? 'file-alt' : 'apps'} size="sm" /> {l.title}</span>
        ))}
        <span style={box}><ui.Icon name="clock-nine" size="sm" /> {`Last ${Math.round((range.to - range.from) / 60000)} minutes`}</span>
      </div>
    </div>
  );
}

function Dashboard({ prepared }) {
  const rows = Math.max(...dashboard.panels.map((p) => p.gridPos.y + p.gridPos.h));
  return (
    <ui.ThemeContext.Provider value={theme}>
      <ui.GlobalStyles isExtensionSidebarOpen={false} />
      <BrowserRouter>
        <ui.PanelContextProvider value={{ eventsScope: 'picture', eventBus: new data.EventBusSrv(), canAddAnnotations: () => false }}>
          <div style={{ position: 'relative', height: 104 + rows * cell.row + 8, background: theme.colors.background.canvas, color: theme.colors.text.primary }}>
            <Head />
            {dashboard.panels.map((p, i) => <Panel key={p.id} panel={p} series={prepared[i]} />)}
          </div>
        </ui.PanelContextProvider>
      </BrowserRouter>
    </ui.ThemeContext.Provider>
  );
}

(async () => {
  await initPluginTranslations('grafana-ui', []);
  // Grafana has its font before it measures how large a word may be, and how high a row.
  const font = new FontFace('Inter', 'url(/public/fonts/inter/Inter-Regular.woff2)', { weight: '100 900' });
  document.fonts.add(await font.load());
  const prepared = await Promise.all(dashboard.panels.map((p) => (p.targets ? prepare(p) : [])));
  createRoot(document.getElementById('root')).render(<Dashboard prepared={prepared} />);
})().catch((e) => {
  document.body.textContent = `this cannot be drawn: ${e.stack}`;
});
