{{- define "darkroom.name" -}}
{{- if contains "darkroom" .Release.Name }}{{ .Release.Name | trunc 50 }}{{ else }}{{ printf "%s-darkroom" .Release.Name | trunc 50 }}{{ end }}
{{- end }}
{{- define "darkroom.selector" -}}
app.kubernetes.io/name: darkroom
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "darkroom.labels" -}}
{{ include "darkroom.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
