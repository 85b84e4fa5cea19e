{{- define "bindu.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "bindu.selector" -}}
app.kubernetes.io/name: bindu-dspy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bindu.labels" -}}
{{ include "bindu.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* What all pods have: one unprivileged user, nothing writable but its own folder. */}}
{{- define "bindu.pod" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "bindu.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  - name: STORAGE__POSTGRES_URL
    valueFrom:
      secretKeyRef:
        name: {{ .Values.postgres.secretName }}
        key: {{ .Values.postgres.secretKey }}
  {{- range $name, $value := .Values.settings }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .Values.modelSecretName }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end -}}

{{/* Where training keeps its answers. */}}
{{- define "bindu.runs" -}}
- name: home
  {{- if .Values.runsClaimName }}
  persistentVolumeClaim:
    claimName: {{ .Values.runsClaimName }}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{- define "bindu.mounts" -}}
- name: home
  mountPath: /var/lib/bindu
- name: tmp
  mountPath: /tmp
{{- end -}}
