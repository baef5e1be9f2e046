{{- /* What selects the pods; it cannot be changed after the installation. */ -}}
{{- define "adapter.selector" -}}
app.kubernetes.io/name: causeway-adapter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "adapter.labels" -}}
{{ include "adapter.selector" . }}
app.kubernetes.io/part-of: causeway
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "adapter.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* `a=1,b=2`, as CAUSEWAY_WORKLOAD_LABELS takes it. */ -}}
{{- define "adapter.workload.labels" -}}
{{- $pairs := list -}}
{{- range $name, $value := .Values.workload.labels -}}
{{- $pairs = append $pairs (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end }}
