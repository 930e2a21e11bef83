{{- define "cluster.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{- define "cluster.secret" -}}
{{ .Values.credentials.secretName | default (printf "%s-admin" (include "cluster.name" .)) }}
{{- end }}

{{- define "cluster.labels" -}}
app.kubernetes.io/part-of: {{ include "cluster.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "cluster.pods" -}}
app.kubernetes.io/name: borealis
app.kubernetes.io/instance: {{ include "cluster.name" . }}
{{- end }}
