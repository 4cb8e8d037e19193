package checks

import (
	"fmt"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// Release is what `helm template` makes of a chart.
type Release struct {
	Manifests Manifests
	Tests     Manifests // of `helm test`
	Notes     string
}

// Template renders the chart in dir with values as YAML and as `--set` takes them.
func Template(dir, name, namespace, values string, sets ...string) (*Release, error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	if err := chart.Validate(); err != nil {
		return nil, err
	}
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		return nil, err
	}
	for _, set := range sets {
		if err := strvals.ParseInto(set, given); err != nil {
			return nil, err
		}
	}
	release := chartutil.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}
	if err := chartutil.ProcessDependenciesWithMerge(chart, given); err != nil {
		return nil, err
	}
	all, err := chartutil.ToRenderValues(chart, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return nil, err
	}
	r := &Release{}
	for file, text := range files {
		if strings.HasSuffix(file, "NOTES.txt") {
			r.Notes = text
			delete(files, file)
		}
		if strings.HasPrefix(path.Base(file), "_") {
			delete(files, file)
		}
	}
	hooks, sorted, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, err
	}
	for _, m := range sorted {
		objects, err := Split([]byte(m.Content))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		r.Manifests = append(r.Manifests, objects...)
	}
	for _, hook := range hooks {
		objects, err := Split([]byte(hook.Manifest))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", hook.Name, err)
		}
		r.Tests = append(r.Tests, objects...)
	}
	return r, nil
}
