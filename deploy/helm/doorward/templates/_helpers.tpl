{{- define "doorward.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The release's name, with the chart's where it lacks it. 57 characters: "-admin" follows in one name. */}}
{{- define "doorward.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 57 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 57 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "doorward.selectorLabels" -}}
app.kubernetes.io/name: {{ include "doorward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "doorward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "doorward.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "doorward.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "doorward.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* The text of config.yaml. */}}
{{- define "doorward.config" -}}
{{- toYaml .Values.config }}
{{- end }}

{{/* The ports of config.listen, whose items are addresses or mappings with one, separated by blanks. */}}
{{- define "doorward.ports" -}}
{{- $ports := list }}
{{- range .Values.config.listen | default (list "0.0.0.0:8080") }}
{{- $address := kindIs "map" . | ternary . (dict "address" .) }}
{{- $ports = append $ports (regexFind "[0-9]+$" ($address.address | toString)) }}
{{- end }}
{{- join " " $ports }}
{{- end }}

{{- define "doorward.adminAddress" -}}
{{- dig "admin" "address" "127.0.0.1:9080" .Values.config }}
{{- end }}

{{- define "doorward.adminPort" -}}
{{- include "doorward.adminAddress" . | regexFind "[0-9]+$" }}
{{- end }}

{{- define "doorward.backend" -}}
{{- dig "store" "backend" "file" .Values.config }}
{{- end }}

{{/* The whole seconds of a duration, the last one rounded up. Takes `path` and `value`. */}}
{{- define "doorward.seconds" -}}
{{- $value := .value | toString }}
{{- $count := regexFind "^[0-9]+" $value | int }}
{{- $unit := regexReplaceAll "^[0-9]+" $value "" }}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h|d)$" $value) }}
{{- fail (printf "config.%s is %q, from which the chart cannot tell the seconds: write one integer and one unit, such as 5s" .path $value) }}
{{- else if eq $unit "ms" }}
{{- div (add $count 999) 1000 }}
{{- else }}
{{- mul $count (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit) }}
{{- end }}
{{- end }}

{{/* How long the kubelet waits before it kills the process. */}}
{{- define "doorward.terminationGracePeriodSeconds" -}}
{{- $delay := include "doorward.seconds" (dict "path" "shutdown_delay" "value" (dig "shutdown_delay" "0s" .Values.config)) | int }}
{{- $grace := include "doorward.seconds" (dict "path" "shutdown_grace" "value" (dig "shutdown_grace" "20s" .Values.config)) | int }}
{{- $needed := add $delay $grace }}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- add $needed 10 }}
{{- else if le (int .Values.terminationGracePeriodSeconds) (int $needed) }}
{{- fail (printf "terminationGracePeriodSeconds is %d: it must be longer than config.shutdown_delay and config.shutdown_grace together, which are %d s, or requests are cut" (int .Values.terminationGracePeriodSeconds) (int $needed)) }}
{{- else }}
{{- int .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}

{{/* Fails for a secret that stands in the values: it would stand in a ConfigMap, too. Takes `path` and `value`. */}}
{{- define "doorward.byReference" -}}
{{- if and .value (not (contains "${" (.value | toString))) }}
{{- fail (printf "config.%s would stand in a ConfigMap, for everybody to read: put it into a Secret, name that in existingSecret, and write ${file:/run/secrets/doorward/<key>}" .path) }}
{{- end }}
{{- end }}

{{/* What Kubernetes would accept, and what would fail later. */}}
{{- define "doorward.validate" -}}
{{- $backend := include "doorward.backend" . }}
{{- $secret := dig "store" "secret" nil .Values.config }}
{{- if gt (int .Values.replicaCount) 1 }}
{{- if ne $backend "redis" }}
{{- fail (printf "replicaCount is %d, and config.store.backend is %q, which one replica alone can use: users would be signed out at random. Set config.store.backend: redis, with config.store.redis.urls and config.store.secret; or replicaCount: 1" (int .Values.replicaCount) $backend) }}
{{- end }}
{{- if not $secret }}
{{- fail (printf "replicaCount is %d, and config.store.secret is not set: all replicas need the same, of 32 bytes or more. Put it into a Secret, name that in existingSecret, and write ${file:/run/secrets/doorward/<key>}" (int .Values.replicaCount)) }}
{{- end }}
{{- end }}
{{- $admin := include "doorward.adminAddress" . }}
{{- if regexMatch "^(127\\.|\\[::1\\])" $admin }}
{{- fail (printf "config.admin.address is %s, where neither the kubelet's probes nor Prometheus reach it: write 0.0.0.0:9080, or [::]:9080" $admin) }}
{{- end }}
{{- $ports := include "doorward.ports" . | splitList " " }}
{{- range .Values.service.ports }}
{{- if not (has (.targetPort | toString) $ports) }}
{{- fail (printf "service.ports: no address of config.listen has the port %v" .targetPort) }}
{{- end }}
{{- end }}
{{- if and (not .Values.existingSecret) (include "doorward.config" . | contains "${file:/run/secrets/doorward/") }}
{{- fail "config names a file below /run/secrets/doorward, and existingSecret is empty: name the Secret that has it" }}
{{- end }}
{{- include "doorward.byReference" (dict "path" "admin.token" "value" (dig "admin" "token" nil .Values.config)) }}
{{- range (kindIs "slice" $secret | ternary $secret (list $secret)) }}
{{- include "doorward.byReference" (dict "path" "store.secret" "value" .) }}
{{- end }}
{{- include "doorward.byReference" (dict "path" "store.redis.sentinel_password" "value" (dig "store" "redis" "sentinel_password" nil .Values.config)) }}
{{- range dig "store" "redis" "urls" list .Values.config }}
{{- include "doorward.byReference" (dict "path" "store.redis.urls" "value" (contains "@" . | ternary . "")) }}
{{- end }}
{{- range $name, $provider := .Values.config.providers }}
{{- include "doorward.byReference" (dict "path" (printf "providers.%s.client_secret" $name) "value" $provider.client_secret) }}
{{- range (kindIs "slice" $provider.private_key | ternary $provider.private_key (list $provider.private_key)) }}
{{- include "doorward.byReference" (dict "path" (printf "providers.%s.private_key" $name) "value" (kindIs "map" . | ternary . (dict "key" .)).key) }}
{{- end }}
{{- end }}
{{- end }}
