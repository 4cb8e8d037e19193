{{- /* A name for all objects. That of a service begins with a letter and has no dots,
which a release may have; that of a StatefulSet has at most 52 characters. */ -}}
{{- define "ncp-exporter.fullname" -}}
{{- $name := .Release.Name | replace "." "-" -}}
{{- if not (contains .Chart.Name $name) -}}
{{- $name = printf "%s-%s" $name .Chart.Name -}}
{{- end -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- $name = printf "ncp-%s" $name -}}
{{- end -}}
{{- .Values.fullnameOverride | default $name | trunc 52 | trimAll "-" -}}
{{- end }}

{{- define "ncp-exporter.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "ncp-exporter.labels" -}}
{{- include "ncp-exporter.labelsWith" (list . dict) -}}
{{- end }}

{{- /* Labels of an object that has some of its own. Nothing replaces those of the selector. */ -}}
{{- define "ncp-exporter.labelsWith" -}}
{{- $own := index . 1 -}}
{{- with index . 0 -}}
{{- $selector := include "ncp-exporter.selector" . | fromYaml -}}
{{- $others := dict
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- merge $selector $own .Values.commonLabels $others | toYaml -}}
{{- end -}}
{{- end }}

{{- define "ncp-exporter.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ncp-exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- /* Where the keys come from: accounts, demo, profiles, role, environment or keys. */ -}}
{{- define "ncp-exporter.keySource" -}}
{{- if .Values.accounts -}}accounts
{{- else if .Values.demo -}}demo
{{- else if .Values.profiles.existingSecret -}}profiles
{{- else if .Values.serverRole -}}role
{{- else if .Values.keys.fromEnvironment -}}environment
{{- else -}}keys
{{- end -}}
{{- end }}

{{- /* Where the ledger is: on a volume of its own (claim), in an emptyDir, or none. */ -}}
{{- define "ncp-exporter.ledger" -}}
{{- if eq (include "ncp-exporter.keySource" .) "demo" -}}none
{{- else if .Values.ledger.persistent -}}claim
{{- else -}}emptyDir
{{- end -}}
{{- end }}

{{- /* A duration in milliseconds. */ -}}
{{- define "ncp-exporter.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 "y" 31536000000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[smhdwy])" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $sum = add $sum (mul (trimSuffix $unit . | int64) (get $units $unit)) -}}
{{- end -}}
{{- $sum -}}
{{- end }}

{{- define "ncp-exporter.keysSecret" -}}
{{- default (printf "%s-keys" (include "ncp-exporter.fullname" .)) .Values.keys.existingSecret -}}
{{- end }}

{{- define "ncp-exporter.accountsMap" -}}
{{- printf "%s-accounts" (include "ncp-exporter.fullname" .) -}}
{{- end }}

{{- define "ncp-exporter.webSecret" -}}
{{- if .Values.web.existingSecret -}}
{{- .Values.web.existingSecret -}}
{{- else if .Values.web.config -}}
{{- printf "%s-web" (include "ncp-exporter.fullname" .) -}}
{{- end -}}
{{- end }}

{{- define "ncp-exporter.scheme" -}}
{{- if .Values.web.scheme -}}
{{- .Values.web.scheme -}}
{{- else if (get .Values.web.config "tls_server_config") -}}
https
{{- else -}}
http
{{- end -}}
{{- end }}

{{- /* Whether the port may ask for a password or a certificate, which probes do not have. */ -}}
{{- define "ncp-exporter.guarded" -}}
{{- $tls := (get .Values.web.config "tls_server_config") | default dict -}}
{{- if or .Values.web.existingSecret (get .Values.web.config "basic_auth_users") (get $tls "client_auth_type") -}}
true
{{- end -}}
{{- end }}

{{- define "ncp-exporter.probe" -}}
{{- $ := index . 0 -}}
{{- if include "ncp-exporter.guarded" $ -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: metrics
  {{- if eq (include "ncp-exporter.scheme" $) "https" }}
  scheme: HTTPS
  {{- end }}
{{- end -}}
{{- end }}

{{- /* A value of a flag as text; Helm has all numbers as floats. */ -}}
{{- define "ncp-exporter.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else if kindIs "slice" . -}}
{{- join "\n" . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end }}

{{- /* An endpoint of the ServiceMonitor: that of an account, or with an empty name that
of the exporter itself. */ -}}
{{- define "ncp-exporter.endpoint" -}}
{{- $account := index . 1 -}}
{{- with index . 0 -}}
- port: metrics
  interval: {{ .Values.serviceMonitor.interval }}
  scrapeTimeout: {{ .Values.serviceMonitor.scrapeTimeout }}
  {{- if $account }}
  path: /probe
  params:
    account: [{{ $account | quote }}]
  {{- else }}
  {{- with index .Values.flags "web.telemetry-path" }}
  path: {{ . }}
  {{- end }}
  {{- end }}
  {{- if eq (include "ncp-exporter.scheme" .) "https" }}
  scheme: https
  {{- end }}
  {{- with .Values.serviceMonitor.tlsConfig }}
  tlsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.serviceMonitor.basicAuth }}
  basicAuth:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  relabelings:
    # A pod keeps its name over a restart, and its address not.
    - sourceLabels: [__meta_kubernetes_pod_name]
      targetLabel: instance
    # Exporters of one name in two namespaces are two.
    - sourceLabels: [__meta_kubernetes_namespace, __meta_kubernetes_service_name]
      separator: /
      targetLabel: job
    {{- if $account }}
    - targetLabel: account
      replacement: {{ $account | quote }}
    {{- end }}
    {{- with .Values.serviceMonitor.relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.serviceMonitor.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* What the schema cannot say in plain words. */ -}}
{{- define "ncp-exporter.validate" -}}
{{- with .Values.keys -}}
{{- if ne (empty .accessKey) (empty .secretKey) -}}
{{- fail "keys.accessKey and keys.secretKey go together, but only one of them is given" -}}
{{- end -}}
{{- if and .accessKey .existingSecret -}}
{{- fail "keys.existingSecret and keys.accessKey are both given: keep one of them" -}}
{{- end -}}
{{- end -}}
{{- include "ncp-exporter.validateAccounts" . -}}
{{- if not .Values.enabled -}}
{{- fail "enabled is false, which only the condition of an umbrella chart understands: condition: ncp-exporter.enabled" -}}
{{- end -}}
{{- if and .Values.keys.fromEnvironment (or .Values.keys.accessKey .Values.keys.existingSecret .Values.profiles.existingSecret .Values.serverRole) -}}
{{- fail "keys.fromEnvironment and another source of keys are both given: keep one of them" -}}
{{- end -}}
{{- with .Values.serviceMonitor -}}
{{- if gt (include "ncp-exporter.milliseconds" .scrapeTimeout | int64) (include "ncp-exporter.milliseconds" .interval | int64) -}}
{{- printf "serviceMonitor.scrapeTimeout is %s, longer than serviceMonitor.interval, %s: Prometheus refuses that" .scrapeTimeout .interval | fail -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.env -}}
{{- if hasPrefix "NCP_EXPORTER_" $name -}}
{{- printf "env sets %s, which is a flag: give it in flags, or by a value of its own" $name | fail -}}
{{- else if and (regexMatch "^NCLOUD_.*KEY" $name) (not (kindIs "map" $value)) -}}
{{- printf "env sets %s, which everybody who sees the pod can read: make a secret for keys.existingSecret, or give its valueFrom" $name | fail -}}
{{- else if not (regexMatch "^[A-Za-z_][A-Za-z0-9_]*$" $name) -}}
{{- printf "env sets %s, which is no name of a variable" $name | fail -}}
{{- end -}}
{{- end -}}
{{- if and .Values.profiles.existingSecret .Values.serverRole -}}
{{- fail "profiles.existingSecret and serverRole are both given: keep one of them" -}}
{{- end -}}
{{- if or .Values.profiles.existingSecret .Values.serverRole -}}
{{- if or .Values.keys.existingSecret .Values.keys.accessKey -}}
{{- fail "keys come before profiles.existingSecret and serverRole: give one of the three" -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.profiles.existingSecret) (or .Values.profiles.default .Values.profiles.certificateManager .Values.profiles.externalAccess) -}}
{{- fail "profiles name parts of a credentials file: give profiles.existingSecret" -}}
{{- end -}}
{{- if and .Values.web.config .Values.web.existingSecret -}}
{{- fail "web.config and web.existingSecret are both given: keep one of them" -}}
{{- end -}}
{{- if and .Values.web.existingSecret (not .Values.web.scheme) -}}
{{- fail "web.existingSecret: say in web.scheme whether it makes the port speak http or https" -}}
{{- end -}}
{{- if and (get .Values.web.config "tls_server_config") (eq .Values.web.scheme "http") -}}
{{- fail "web.config has a tls_server_config, so web.scheme cannot be http" -}}
{{- end -}}
{{- if and (eq (include "ncp-exporter.scheme" .) "https") (not (include "ncp-exporter.webSecret" .)) -}}
{{- fail "web.scheme is https, but neither web.config nor web.existingSecret tells how" -}}
{{- end -}}
{{- if and (get .Values.web.config "basic_auth_users") .Values.serviceMonitor.enabled (not .Values.serviceMonitor.basicAuth) -}}
{{- fail "web.config asks for a password: give it to Prometheus in serviceMonitor.basicAuth" -}}
{{- end -}}
{{- end }}

{{- /* What `accounts` rules out, as each account says it for itself. */ -}}
{{- define "ncp-exporter.validateAccounts" -}}
{{- if .Values.accounts -}}
{{- $identity := dict
  "demo" .Values.demo
  "keys.existingSecret" .Values.keys.existingSecret
  "keys.accessKey" .Values.keys.accessKey
  "profiles.existingSecret" .Values.profiles.existingSecret
  "keys.fromEnvironment" .Values.keys.fromEnvironment
  "serverRole" .Values.serverRole -}}
{{- range list "ncp.certificate-manager.url" "ncp.external-access.url" "collector.external-access.subject" -}}
{{- $_ := set $identity (printf "flags.%s" .) (get $.Values.flags .) -}}
{{- end -}}
{{- range $name, $value := $identity -}}
{{- if $value -}}
{{- printf "accounts and %s are both given: each account says for itself what it watches, and with which keys" $name | fail -}}
{{- end -}}
{{- end -}}
{{- $text := toYaml .Values.accounts -}}
{{- if regexMatch "(access|secret)_key_env:" $text -}}
{{- fail "accounts take keys from variables, which everybody who sees the pod can read: give files, and their secret in accountsSecret" -}}
{{- end -}}
{{- if and (regexMatch "_file: [\"']?keys/" $text) (not .Values.accountsSecret) -}}
{{- fail "accounts have key files in keys/: give the secret with these files in accountsSecret" -}}
{{- end -}}
{{- else if .Values.accountsSecret -}}
{{- fail "accountsSecret has the keys of accounts, but accounts is empty" -}}
{{- end -}}
{{- end }}
