// What a dashboard of ours must be: Grafana's own types, with the parts that they
// leave open (what a panel's options and queries are) closed by the type of the
// panel and of the data source.
import * as dashboard from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import * as stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import * as table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import * as timeseries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';

// The Prometheus data source's query; no package has its type.
interface Query {
  refId: string;
  datasource: dashboard.DataSourceRef;
  editorMode: 'code' | 'builder';
  expr: string;
  format: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  legendFormat?: string;
}

interface PanelOf<Type extends string, Options, Custom> extends Omit<dashboard.Panel, 'type' | 'options' | 'targets' | 'fieldConfig'> {
  type: Type;
  options: Partial<Options>;
  targets: Query[];
  fieldConfig: Omit<dashboard.FieldConfigSource, 'defaults'> & {
    defaults: Omit<dashboard.FieldConfig, 'custom'> & { custom?: Custom };
  };
}

// The Prometheus data source's annotation.
interface Annotation extends dashboard.AnnotationQuery {
  expr?: string;
  step?: string;
  tagKeys?: string;
  titleFormat?: string;
  textFormat?: string;
  useValueForTime?: boolean;
}

// Grafana writes the definition beside the query; the type does not know it.
interface Variable extends dashboard.VariableModel {
  definition?: string;
}

export interface OurDashboard extends Omit<dashboard.Dashboard, 'panels' | 'annotations' | 'templating'> {
  templating: { list: Variable[] };
  annotations: { list: Annotation[] };
  panels: Array<
    | dashboard.RowPanel
    | PanelOf<'stat', stat.Options, {}>
    | PanelOf<'table', table.Options, Partial<table.FieldConfig>>
    | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
  >;
}
