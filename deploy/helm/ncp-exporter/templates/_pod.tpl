{{- /* A pod: one that serves, or one that runs --check (true) and ends. */ -}}
{{- define "ncp-exporter.pod" -}}
{{- $ := index . 0 -}}
{{- $check := index . 1 -}}
{{- $keys := include "ncp-exporter.keySource" $ -}}
{{- $web := include "ncp-exporter.webSecret" $ -}}
{{- with $ -}}
serviceAccountName: {{ include "ncp-exporter.serviceAccount" . }}
automountServiceAccountToken: false
# The variables of a service could have the names of the flags' variables.
enableServiceLinks: false
# The exporter lets scrapes in flight end, for at most 5 seconds.
terminationGracePeriodSeconds: 15
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $check }}
restartPolicy: Never
{{- end }}
containers:
  - name: ncp-exporter
    {{- with .Values.image }}
    image: {{ with .registry }}{{ . }}/{{ end }}{{ if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
    imagePullPolicy: {{ .pullPolicy }}
    {{- end }}
    {{- if $check }}
    # The ledger is in use; and a check counts nothing.
    args: [--check, --state.file=]
    {{- end }}
    env:
      {{- if eq $keys "demo" }}
      - name: NCP_EXPORTER_DEMO
        value: "true"
      {{- else if not $check }}
      - name: NCP_EXPORTER_STATE_FILE
        value: /data/ncp_exporter.db
      {{- end }}
      {{- if eq $keys "accounts" }}
      - name: NCP_EXPORTER_CONFIG_FILE
        value: /etc/ncp_exporter/accounts/accounts.yml
      - name: NCP_EXPORTER_CONFIG_AUTO_RELOAD_INTERVAL
        value: 30s
      {{- else if eq $keys "keys" }}
      - name: NCP_EXPORTER_NCP_ACCESS_KEY_FILE
        value: /etc/ncp_exporter/keys/access-key
      - name: NCP_EXPORTER_NCP_SECRET_KEY_FILE
        value: /etc/ncp_exporter/keys/secret-key
      {{- else if eq $keys "profiles" }}
      - name: NCP_EXPORTER_NCP_CREDENTIALS_FILE
        value: /etc/ncp_exporter/keys/configure
      {{- with .Values.profiles }}
      {{- with .default }}
      - name: NCP_EXPORTER_NCP_PROFILE
        value: {{ . | quote }}
      {{- end }}
      {{- with .certificateManager }}
      - name: NCP_EXPORTER_NCP_CERTIFICATE_MANAGER_PROFILE
        value: {{ . | quote }}
      {{- end }}
      {{- with .externalAccess }}
      - name: NCP_EXPORTER_NCP_EXTERNAL_ACCESS_PROFILE
        value: {{ . | quote }}
      {{- end }}
      {{- end }}
      {{- else if eq $keys "role" }}
      - name: NCP_EXPORTER_NCP_SERVER_ROLE
        value: "true"
      {{- end }}
      {{- if $web }}
      - name: NCP_EXPORTER_WEB_CONFIG_FILE
        value: /etc/ncp_exporter/web/web.yml
      {{- end }}
      {{- if and (gt (int .Values.shards) 1) (not $check) }}
      - name: NCP_EXPORTER_TOTAL_SHARDS
        value: {{ .Values.shards | quote }}
      - name: NCP_EXPORTER_SHARD
        valueFrom:
          fieldRef:
            fieldPath: metadata.name # its number at the end
      {{- end }}
      {{- range $flag, $value := .Values.flags }}
      - name: NCP_EXPORTER_{{ $flag | replace "." "_" | replace "-" "_" | upper }}
        value: {{ include "ncp-exporter.text" $value | quote }}
      {{- end }}
      {{- range $variable, $value := .Values.env }}
      - name: {{ $variable }}
        {{- if kindIs "map" $value }}
        {{- toYaml $value | nindent 8 }}
        {{- else }}
        value: {{ include "ncp-exporter.text" $value | quote }}
        {{- end }}
      {{- end }}
    {{- with .Values.envFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if not $check }}
    ports:
      - name: metrics
        containerPort: 10420
    livenessProbe:
      {{- include "ncp-exporter.probe" (list . "/-/healthy") | nindent 6 }}
    readinessProbe:
      {{- include "ncp-exporter.probe" (list . "/-/ready") | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "ncp-exporter.mounts" (list $ $check) | trim }}
    volumeMounts:
      {{- . | nindent 6 }}
    {{- end }}
{{- with include "ncp-exporter.volumes" (list . $check) | trim }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ncp-exporter.mounts" -}}
{{- $check := index . 1 -}}
{{- with index . 0 -}}
{{- $keys := include "ncp-exporter.keySource" . -}}
{{- if and (ne (include "ncp-exporter.ledger" .) "none") (not $check) }}
- name: ledger
  mountPath: /data
{{- end }}
{{- if eq $keys "accounts" }}
# Directories, as what is mounted with a subPath never changes.
- name: accounts
  mountPath: /etc/ncp_exporter/accounts
  readOnly: true
{{- if .Values.accountsSecret }}
- name: keys
  mountPath: /etc/ncp_exporter/accounts/keys
  readOnly: true
{{- end }}
{{- else if has $keys (list "keys" "profiles") }}
- name: keys
  mountPath: /etc/ncp_exporter/keys
  readOnly: true
{{- end }}
{{- if include "ncp-exporter.webSecret" . }}
- name: web
  mountPath: /etc/ncp_exporter/web
  readOnly: true
{{- end }}
{{- if .Values.web.tlsSecret }}
- name: tls
  mountPath: /etc/ncp_exporter/tls
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ncp-exporter.volumes" -}}
{{- $check := index . 1 -}}
{{- with index . 0 -}}
{{- if and (eq (include "ncp-exporter.ledger" .) "emptyDir") (not $check) }}
- name: ledger
  emptyDir: {}
{{- end }}
{{- $keys := include "ncp-exporter.keySource" . }}
{{- if eq $keys "accounts" }}
- name: accounts
  configMap:
    name: {{ include "ncp-exporter.accountsMap" . }}
{{- with .Values.accountsSecret }}
- name: keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- else if eq $keys "keys" }}
- name: keys
  secret:
    secretName: {{ include "ncp-exporter.keysSecret" . }}
    defaultMode: 0440
    items:
      - key: {{ .Values.keys.accessKeyName }}
        path: access-key
      - key: {{ .Values.keys.secretKeyName }}
        path: secret-key
{{- else if eq $keys "profiles" }}
- name: keys
  secret:
    secretName: {{ .Values.profiles.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.profiles.fileName }}
        path: configure
{{- end }}
{{- if include "ncp-exporter.webSecret" . }}
- name: web
  secret:
    secretName: {{ include "ncp-exporter.webSecret" . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.web.tlsSecret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}
