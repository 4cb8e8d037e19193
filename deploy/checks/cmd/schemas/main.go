// Command schemas writes strict JSON schemas of the kinds that deploy/ ships, one
// file a kind, made from the OpenAPI description of Kubernetes.
//
//	schemas <swagger.json> <directory>
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kinds are the definitions of what is shipped.
func kinds() []string {
	return []string{
		"io.k8s.api.apps.v1.StatefulSet",
		"io.k8s.api.core.v1.ConfigMap",
		"io.k8s.api.core.v1.Namespace",
		"io.k8s.api.core.v1.Secret",
		"io.k8s.api.core.v1.Service",
		"io.k8s.api.core.v1.ServiceAccount",
		"io.k8s.api.networking.v1.NetworkPolicy",
		"io.k8s.api.policy.v1.PodDisruptionBudget",
	}
}

const ref = "#/definitions/"

type object = map[string]any

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: schemas <swagger.json> <directory>")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(swagger, dir string) error {
	text, err := os.ReadFile(swagger) //nolint:gosec // named by the caller
	if err != nil {
		return err
	}
	var api struct {
		Definitions map[string]object `json:"definitions"`
	}
	if err := json.Unmarshal(text, &api); err != nil {
		return err
	}
	for _, kind := range kinds() {
		schema, err := standalone(api.Definitions, kind)
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(schema, "", " ")
		if err != nil {
			return err
		}
		name := strings.ToLower(kind[strings.LastIndexByte(kind, '.')+1:]) + ".json"
		if err := os.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o644); err != nil { //nolint:gosec // named by the caller, and no secret
			return err
		}
	}
	return nil
}

// standalone is the schema of a kind with all that it refers to.
func standalone(all map[string]object, kind string) (object, error) {
	used := object{}
	var missing error
	var take func(name string)
	take = func(name string) {
		if _, done := used[name]; done {
			return
		}
		definition, ok := all[name]
		if !ok {
			missing = fmt.Errorf("%s is not defined", name)
			return
		}
		used[name] = true // while it is being made, for what refers to itself
		used[name] = strict(definition, take)
	}
	take(kind)
	root, ok := used[kind].(object)
	if !ok {
		return nil, missing
	}
	delete(used, kind)
	root["required"] = []string{"apiVersion", "kind", "metadata"}
	gvk, err := groupVersionKind(all[kind])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	properties, _ := root["properties"].(object)
	properties["apiVersion"], properties["kind"] = object{"enum": gvk[:1]}, object{"enum": gvk[1:]}
	root["definitions"] = used
	return root, missing
}

func groupVersionKind(definition object) ([2]string, error) {
	text, err := json.Marshal(definition["x-kubernetes-group-version-kind"])
	if err != nil {
		return [2]string{}, err
	}
	var all []struct{ Group, Version, Kind string }
	if err := json.Unmarshal(text, &all); err != nil || len(all) != 1 {
		return [2]string{}, fmt.Errorf("not one group, version and kind: %s", text)
	}
	return [2]string{strings.TrimPrefix(all[0].Group+"/"+all[0].Version, "/"), all[0].Kind}, nil
}

// strict is a schema without prose that allows no properties but its own.
func strict(schema object, take func(string)) object {
	out := object{}
	for key, value := range schema {
		switch {
		case key == "description", key == "default", strings.HasPrefix(key, "x-kubernetes-"):
			continue
		case key == "$ref":
			name, _ := strings.CutPrefix(fmt.Sprint(value), ref)
			take(name)
		case key == "format" && value == "int-or-string":
			out["type"] = []string{"integer", "string"}
			continue
		case key == "properties":
			properties := object{}
			for name, property := range value.(object) { //nolint:forcetypeassert // by OpenAPI
				properties[name] = strict(property.(object), take) //nolint:forcetypeassert // by OpenAPI
			}
			value = properties
		case key == "items", key == "additionalProperties":
			if inner, ok := value.(object); ok {
				value = strict(inner, take)
			}
		}
		if _, done := out[key]; !done {
			out[key] = value
		}
	}
	if _, ok := out["properties"]; ok {
		out["additionalProperties"] = false
	}
	return out
}
